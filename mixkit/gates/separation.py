"""How far apart the inputs lie that a gate sends to one expert, and how far from those it sends elsewhere."""

from typing import NamedTuple

import torch
from torch import Tensor

from .._validation import check_finite, check_last_dim, check_tensor
from ..numerics.precision import narrow, widest_dtype

__all__ = ["Separation", "selected_distances"]


class Separation(NamedTuple):
    """Mean Euclidean distances of inputs, for each of k experts; NaN where there is no pair."""

    within: Tensor  # (k,), of two inputs that both select the expert
    between: Tensor  # (k,), of one that selects it and one that does not


def selected_distances(x: Tensor, selected: Tensor) -> Separation:
    r"""Mean distances between the inputs themselves, not between their scores.

    .. math::
        \text{within}_j = \operatorname{mean}_{i < l;\, i, l \in S_j} \lVert x_i - x_l \rVert, \quad
        \text{between}_j = \operatorname{mean}_{i \in S_j,\, l \notin S_j} \lVert x_i - x_l \rVert,

    with :math:`S_j` the rows that select expert j. A gate that tells its inputs apart has ``within`` below ``between``;
    where they are equal the selection says nothing of the geometry of x. The exact means over all pairs: memory grows
    with n times n.

    Args:
        x: inputs ``(n, d)``.
        selected: True where a row selects an expert, ``(n, k)``, such as ``gate(x) > -torch.inf``.

    Raises:
        TypeError: if ``selected`` is not boolean.
        ValueError: if the shapes do not fit or ``x`` is not finite.

    Source: distances between selected and other token representations are measured for softmax attention in arXiv
        2508.17821; here for each expert of a gate.

    Example:
        >>> import torch
        >>> x = torch.tensor([[0.0], [1.0], [10.0], [12.0]])
        >>> selected_distances(x, torch.tensor([[1, 0], [1, 0], [0, 1], [0, 1]]).bool())
        Separation(within=tensor([1., 2.]), between=tensor([10.5000, 10.5000]))
    """
    if check_tensor("x", x).ndim != 2:
        raise ValueError(f"x must have shape (n, d), got {tuple(x.shape)}")
    if check_tensor("selected", selected, floating=False).dtype != torch.bool:
        raise TypeError(f"selected must be a boolean tensor, got {selected.dtype}")
    if selected.ndim != 2 or len(selected) != len(x):
        raise ValueError(f"selected must have shape ({len(x)}, k), got {tuple(selected.shape)}")
    check_last_dim("selected", selected, selected.shape[-1], "experts")
    wide = check_finite("x", x.detach()).to(widest_dtype(x))
    distance = torch.cdist(wide, wide, compute_mode="donot_use_mm_for_euclid_dist")
    chosen = selected.to(wide)
    counts = chosen.sum(0)
    inside = (chosen * (distance @ chosen)).sum(0)
    across = (chosen * (distance @ (1.0 - chosen))).sum(0)
    means = inside / (counts * (counts - 1.0)), across / (counts * (len(x) - counts))
    return Separation(*(narrow(mean, x) for mean in means))
