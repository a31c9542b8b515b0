"""The likelihood of a ranking, against a reference model if there is one."""

from torch import Tensor

from .._validation import can_read_values, check_finite, check_positive, check_tensor
from ..numerics.precision import narrow, widest_dtype
from ..relaxations.subsets import ordered_log_prob

__all__ = ["plackett_luce_loss"]


def plackett_luce_loss(
    scores: Tensor,  # (*batch, k)
    order: Tensor,  # (*batch, K)
    *,
    reference: Tensor | None = None,  # (*batch, k)
    temperature: float = 1.0,
) -> Tensor:  # (*batch,)
    r"""Minus the log-probability of a ranking.

    .. math:: L = -\sum_{j=1}^K \Big( u_{o_j} - \log \sum_{i \notin \{o_1, \dots, o_{j-1}\}} e^{u_i} \Big),
        \qquad u = (s - s_{\text{ref}}) / \tau.

    Anchored to the scores of a reference, it asks for improvement over them alone: the loss of two items is that of
    direct preference optimization, :math:`-\log \sigma(u_{o_1} - u_{o_2})`, and a constant added to the scores of a
    list changes nothing.

    Args:
        scores: s ``(*batch, k)``, for example log-probabilities of k answers; -inf for an item that is out.
        order: the items ranked, best first ``(*batch, K)``, K from 1 to k; those left out rank below all of them.
        reference: :math:`s_{\text{ref}}` ``(*batch, k)``, finite, without gradient; zero if None.
        temperature: :math:`\tau`, positive; :math:`1 / \beta` of preference optimization.

    Returns:
        ``(*batch,)``, in float32 at least.

    Raises:
        ValueError: if an order names an item twice or one that is not there, the scores hold NaN, the reference is
            not finite, or the temperature is not positive.

    References:
        Plackett (1975); Xia, Liu, Wang, Zhang and Li (2008), "Listwise approach to learning to rank"; the anchor in
        listwise form is that of ADPO, arXiv 2510.18913.

    Example:
        >>> import torch
        >>> scores, order = torch.tensor([2.0, 1.0, 0.0]), torch.tensor([0, 1, 2])
        >>> plackett_luce_loss(scores, order)
        tensor(0.7209)
        >>> plackett_luce_loss(scores, order, reference=scores).exp()  # no better than the reference: 3! orders
        tensor(6.)
    """
    check_positive("temperature", temperature)
    dtype = widest_dtype(check_tensor("scores", scores))
    anchored = scores.to(dtype)
    if reference is not None:
        if check_tensor("reference", reference).shape != scores.shape:
            raise ValueError(
                f"reference must have the shape of scores {tuple(scores.shape)}, got {tuple(reference.shape)}"
            )
        if can_read_values(reference):
            check_finite("reference", reference.detach())
        anchored = anchored - reference.detach().to(dtype)
    return narrow(-ordered_log_prob(anchored / temperature, order), scores)
