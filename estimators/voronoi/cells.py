"""Voronoi cells: each atom of a fitted measure belongs to the nearest atom of the truth."""

import torch
from torch import Tensor

from mixkit._validation import check_tensor
from mixkit.measure import MixingMeasure

__all__ = ["check_pair", "pair_gaps", "voronoi_cells"]


def check_pair(fitted: MixingMeasure, truth: MixingMeasure) -> None:
    """Raise unless the two are measures over the same covariates with batch shapes that broadcast."""
    for name, value in (("fitted", fitted), ("truth", truth)):
        if not isinstance(value, MixingMeasure):
            raise TypeError(f"{name} must be a MixingMeasure, got {type(value).__name__}")
    if fitted.num_features != truth.num_features:
        raise ValueError(f"truth must have the {fitted.num_features} covariates of fitted, got {truth.num_features}")
    try:
        torch.broadcast_shapes(fitted.batch_shape, truth.batch_shape)
    except RuntimeError as error:
        raise ValueError(
            f"truth must have a batch shape that broadcasts with that of fitted, {tuple(fitted.batch_shape)}, "
            f"got {tuple(truth.batch_shape)}"
        ) from error


def expert_atoms(measure: MixingMeasure) -> Tensor:
    """Slope, intercept and variance side by side, ``(*batch, k, d + 2)``."""
    return torch.cat([measure.slope, measure.intercept.unsqueeze(-1), measure.variance.unsqueeze(-1)], -1)


def pair_gaps(fitted: Tensor, truth: Tensor) -> Tensor:
    """``fitted (*batch, k, q)`` less ``truth (*batch, k*, q)`` for every pair, ``(*batch, k, k*, q)``."""
    return fitted.unsqueeze(-2) - truth.unsqueeze(-3)


def voronoi_cells(fitted: MixingMeasure, truth: MixingMeasure, *, shift: Tensor | None = None) -> Tensor:
    r"""The cell of each fitted atom: the j that minimizes
    :math:`\lVert (\beta_{1i} - \beta^*_{1j} - t_1, a_i - a^*_j, b_i - b^*_j, \sigma^2_i - \sigma^{*2}_j) \rVert`.

    The bias has no part in it. Ties go to the lower j.

    Args:
        fitted: a measure of k atoms.
        truth: a measure of k* atoms; its batch shape broadcasts with that of ``fitted``.
        shift: the translation :math:`t_1`, ``(*batch, d)``; none if None.

    Returns:
        Indices of true atoms, ``(*batch, k)``.

    Raises:
        TypeError: if an argument is no measure, or ``shift`` no tensor.
        ValueError: if the covariates or batch shapes of the two disagree.

    Source: Nguyen, Nguyen, Ho (2023), arXiv 2305.03288.

    Example:
        >>> import torch
        >>> truth = MixingMeasure(*(torch.tensor(v) for v in ([0.0, 0.0], [[1.0], [0.0]], [[2.0], [0.0]],
        ...                                                    [0.0, 1.0], [1.0, 1.0])))
        >>> voronoi_cells(truth.permute([1, 0]), truth)
        tensor([1, 0])
    """
    check_pair(fitted, truth)
    gate = pair_gaps(fitted.gate_weight.detach(), truth.gate_weight.detach())
    if shift is not None:
        gate = gate - check_tensor("shift", shift)[..., None, None, :]
    expert = pair_gaps(expert_atoms(fitted).detach(), expert_atoms(truth).detach())
    return (gate.double().square().sum(-1) + expert.double().square().sum(-1)).argmin(-1)
