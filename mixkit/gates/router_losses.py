"""Router losses: what keeps the experts of a sparse gate in use and its scores small.

All take a ``mask`` that leaves padding out, sum in float32 at least, and return one loss per leading batch index. To
pool a ``(batch, sequence, k)`` tensor over sequences, flatten it to ``(batch * sequence, k)`` first.
"""

import torch
from torch import Tensor

from .._validation import at_least_float32, check_tensor

__all__ = ["check_mask", "importance_loss", "load_balance_loss", "masked_mean", "router_z_loss", "selection_rate"]


def masked_mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean over the observations that ``mask`` keeps; zero if it keeps none.

    Args:
        values: ``(*batch, n, k)``. Entries that are masked out may be anything, NaN included.
        mask: True where an observation counts, broadcastable to ``(*batch, n)``; all count if None.

    Returns:
        ``(*batch, k)``, in float32 at least.

    Raises:
        TypeError: if ``mask`` is not a boolean tensor.
        ValueError: if ``mask`` does not broadcast to the shape of ``values`` without its last dimension.
    """
    wide = at_least_float32(values)
    if mask is None:
        return wide.mean(-2) if wide.shape[-2] else wide.sum(-2)
    weights = check_mask(mask, values.shape[:-1]).unsqueeze(-1)
    total = torch.where(weights, wide, 0.0).sum(-2)
    return total / weights.sum(-2).clamp(min=1)


def check_mask(mask: Tensor, rows: torch.Size) -> Tensor:
    """Return ``mask`` expanded to ``rows`` if it is a boolean tensor that broadcasts to that shape."""
    if check_tensor("mask", mask, floating=False).dtype != torch.bool:
        raise TypeError(f"mask must be a boolean tensor, got {mask.dtype}")
    if mask.ndim > len(rows) or any(
        m not in (1, r) for m, r in zip(reversed(mask.shape), reversed(rows), strict=False)
    ):
        raise ValueError(f"mask must broadcast to shape {tuple(rows)}, got shape {tuple(mask.shape)}")
    return mask.expand(rows)


def _mask_out(values: Tensor, mask: Tensor | None, fill: float) -> Tensor:
    """Overwrite padding before anything nonlinear is done to it, so that no NaN of it reaches a gradient."""
    return values if mask is None else torch.where(check_mask(mask, values.shape[:-1]).unsqueeze(-1), values, fill)


def selection_rate(indices: Tensor, num_experts: int, mask: Tensor | None = None) -> Tensor:
    """How often each expert is selected: the share of the observations whose ``indices`` name it.

    Args:
        indices: the selected experts, ``(*batch, n, num_selected)``.
        num_experts: number of experts ``k``.
        mask: True where an observation counts, broadcastable to ``(*batch, n)``.

    Returns:
        ``(*batch, k)``, float32; sums to ``num_selected``.

    Example:
        >>> import torch
        >>> selection_rate(torch.tensor([[0, 1], [0, 2]]), 3)
        tensor([1.0000, 0.5000, 0.5000])
    """
    shape = (*indices.shape[:-1], num_experts)
    selected = torch.zeros(shape, dtype=torch.float32, device=indices.device).scatter(-1, indices, 1.0)
    return masked_mean(selected, mask)


def load_balance_loss(log_weights: Tensor, indices: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""The load-balancing loss :math:`k \sum_j f_j P_j`, 1 when the load is even.

    From Fedus, Zoph and Shazeer (2022), arXiv 2101.03961, equations 4 to 6: :math:`f_j` is the share of the selections
    that fall on expert j, a constant to the gradient, and :math:`P_j` the mean weight of expert j over the
    observations.

    Args:
        log_weights: log-weights over all experts, before any selection, ``(*batch, n, k)``, that is
            ``gate.normalizer(logits)``. As they sum to 1, no gate lowers the loss by shrinking all of its weights.
        indices: the selected experts, ``(*batch, n, num_selected)``.
        mask: True where an observation counts, broadcastable to ``(*batch, n)``.

    Returns:
        ``(*batch,)``; 0 if the mask keeps nothing.

    Example:
        >>> import torch
        >>> from mixkit.gates import topk_gate
        >>> gate = topk_gate(2, 4, 1, generator=torch.Generator().manual_seed(0))
        >>> routing = gate.route(torch.zeros(6, 2))  # ties: all go to expert 0, with equal weights
        >>> load_balance_loss(gate.normalizer(routing.logits), routing.indices).item()
        1.0
    """
    k = log_weights.shape[-1]
    share = selection_rate(indices, k, mask) / indices.shape[-1]
    weight = masked_mean(_mask_out(at_least_float32(log_weights), mask, -torch.inf).exp(), mask)
    return k * (share * weight).sum(-1)


def importance_loss(log_weights: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""The squared coefficient of variation of the experts' total weights, 0 when they are equal.

    From Shazeer et al. (2017), arXiv 1701.06538, equations 6 and 7, without its scale; the variance is that of the k
    values, divided by k.

    Args:
        log_weights: log-weights as the gate returns them, ``(*batch, n, k)``.
        mask: True where an observation counts, broadcastable to ``(*batch, n)``.

    Returns:
        ``(*batch,)``; 0 if the mask keeps nothing.

    Example:
        >>> import torch
        >>> importance_loss(torch.tensor([[1.0, 0.0], [1.0, 0.0]]).log())
        tensor(1.)
    """
    weight = masked_mean(_mask_out(at_least_float32(log_weights), mask, -torch.inf).exp(), mask)
    mean = weight.mean(-1, keepdim=True)
    return ((weight - mean) / torch.where(mean > 0, mean, 1.0)).square().mean(-1)


def router_z_loss(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""The mean of :math:`(\log \sum_j e^{s_j})^2`, which keeps scores small.

    From Zoph et al. (2022), arXiv 2202.08906, equation 5.

    Args:
        logits: scores before the selection, ``(*batch, n, k)``.
        mask: True where an observation counts, broadcastable to ``(*batch, n)``.

    Returns:
        ``(*batch,)``; 0 if the mask keeps nothing.

    Example:
        >>> import torch
        >>> router_z_loss(torch.tensor([[0.0, 0.0]])) == torch.log(torch.tensor(2.0)) ** 2
        tensor(True)
    """
    totals = torch.logsumexp(_mask_out(at_least_float32(logits), mask, 0.0), -1, keepdim=True)
    return masked_mean(totals.square(), mask).squeeze(-1)
