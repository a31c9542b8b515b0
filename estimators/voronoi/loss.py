"""Voronoi losses between mixing measures, at the best translation of the gate."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from mixkit._validation import check_integer, check_tensor
from mixkit.gates import Gate
from mixkit.gates.invariance import GateInvariance
from mixkit.measure import MixingMeasure

from .cells import check_pair
from .subsets import largest_sum, least_largest_sum
from .terms import Terms, anchored_cells, build_terms
from .translation import least_power_sum, weighted_median

__all__ = ["VoronoiLoss", "exact_loss", "overspecified_loss", "rbar", "voronoi_loss"]


def rbar(m: int) -> float:
    r"""The order :math:`\bar r(m)` of a cell of m atoms: ``2 m`` for m of 2 and above, 1 for an atom alone.

    It is the least r for which the polynomial system of a cell,
    :math:`\sum_i w_i \sum_{\alpha + 2 \beta = l} b_i^\alpha v_i^\beta / (\alpha! \, \beta!) = 0` for l = 1, ..., r,
    has no solution with every :math:`w_i > 0` and some :math:`b_i \neq 0`. (The system of a softmax-gated mixture has
    more unknowns; its equations without gate and slope are these, and zeros for the two solve all others.) The left
    side is the coefficient of :math:`t^l` in :math:`\sum_i w_i e^{b_i t + v_i t^2}`, from which both bounds follow:

    - for r = 2 m - 1, the nodes b and weights w of Gauss-Hermite quadrature with all v equal are a solution: they
      have the first 2 m - 1 moments of a normal distribution;
    - for r = 2 m there is none: with :math:`s^2` added to all variances, the mixture of the m normals
      :math:`N(b_i, 2 v_i + s^2)` would share 2 m moments with :math:`N(0, s^2)`, so that the difference of their
      densities changed sign more than 2 m times, while m + 1 normal densities combine to at most 2 m zeros.

    Source: Ho and Nguyen (2016), Annals of Statistics 44, 2726-2755, and Nguyen, Nguyen, Ho (2023), arXiv 2305.03288,
    who have 4 for m = 2, 6 for m = 3 and at least 7 beyond; the closed form is derived here, with the bound on zeros of
    Kalai, Moitra, Valiant (2010), STOC, proposition 7.

    Example:
        >>> [rbar(m) for m in (1, 2, 3, 4)]
        [1.0, 4.0, 6.0, 8.0]
    """
    return 2.0 * m if check_integer("m", m, low=1) > 1 else 1.0


class VoronoiLoss(NamedTuple):
    """A loss, its parts, and the assignment and translation at which it is taken.

    Attributes:
        total: the loss, ``(*batch,)``, the sum of the five parts that follow.
        mass: gaps between the masses ``exp(beta_0)`` of the cells.
        gate: gaps in beta_1.
        slope: gaps in a.
        intercept: gaps in b.
        variance: gaps in sigma^2.
        cells: the true atom of each fitted one, ``(*batch, k)``.
        shift: the translation t_1, ``(*batch, d)``.
        scale: ``exp(t_0)``, ``(*batch,)``.
    """

    total: Tensor
    mass: Tensor
    gate: Tensor
    slope: Tensor
    intercept: Tensor
    variance: Tensor
    cells: Tensor
    shift: Tensor
    scale: Tensor


def voronoi_loss(
    fitted: MixingMeasure,
    truth: MixingMeasure,
    *,
    rbar: Callable[[int], float] | None = None,
    num_selected: int | None = None,
    gate: Gate | None = None,
    cells: Tensor | None = None,
) -> VoronoiLoss:
    r"""The Voronoi loss between two mixing measures, at the best translation of the gate.

    The infimum over :math:`(t_0, t_1)` of

    .. math::
        \sum_j \Bigl| \sum_{i \in C_j} e^{\beta_{0i}} - e^{\beta^*_{0j} + t_0} \Bigr|
        + \sum_j \sum_{i \in C_j} e^{\beta_{0i}} \bigl( |\beta_{1i} - \beta^*_{1j} - t_1|^{r_j} + |a_i - a^*_j|^{q_j}
        + |b_i - b^*_j|^{r_j} + |\sigma^2_i - \sigma^{*2}_j|^{q_j} \bigr).

    An atom alone in its cell has :math:`r_j = q_j = 1`, and so has every atom if ``rbar`` is None (the exact loss D1);
    a cell of m atoms otherwise has :math:`r_j = \bar r(m)` and :math:`q_j = \bar r(m) / 2` (D2).

    Three things the formula leaves open are settled so that the loss is zero if and only if the measures are equal up
    to order and translation, and the same for equivalent measures:

    - where :math:`\beta_0` may be translated, both measures are taken with :math:`\sum_i e^{\beta_{0i}} = 1`;
    - cells are found under the translations that bring some fitted :math:`\beta_{1i}` to some :math:`\beta^*_{1j}`, and
      the least of the k k* losses counts (pass ``cells`` to hold one assignment);
    - for given cells the loss is convex in :math:`(e^{t_0}, t_1)`, and its infimum is computed, not searched for: a
      weighted median in the first, a weighted or geometric median (powers permitting) in the second.

    Gates with less freedom are compared with less: the biases of activation and Laplace gates alone are translated,
    nothing of a sigmoid gate is. With ``num_selected = K`` of a top-K gate, the sum over j is the largest over
    subsets of K true atoms, at the (t_0, t_1) that make it least.

    Args:
        fitted: a measure of k atoms, or a batch.
        truth: a measure of k* atoms, of a batch shape that broadcasts with that of ``fitted``.
        rbar: the order of cells of m >= 2 atoms, such as :func:`rbar`; None for the exact loss.
        num_selected: experts that a top-K gate keeps, at most k*; None for all.
        gate: whose invariance to translations counts; a softmax gate's if None.
        cells: an assignment ``(*batch, k)`` to use, such as that of :func:`voronoi_cells`; the best if None.

    Returns:
        The loss and its parts. With ``num_selected`` below k* the parts are those of the worst subset. Gradients flow
        to both measures where the loss is differentiable (not with ``num_selected`` below k*, where they are those at
        a fixed translation).

    Raises:
        TypeError: if an argument is of another kind.
        ValueError: if the measures do not fit each other, ``cells`` has another shape or range, or ``num_selected`` is
            above k*.

    Source: Nguyen, Nguyen, Ho (2023), arXiv 2305.03288 (losses D1 and D2), up to the normalization; top-K: Nguyen,
    Akbarian, Yan, Ho (2024), arXiv 2309.13850 (the infimum over translations is ours).

    Example:
        >>> import torch
        >>> truth = MixingMeasure(*(torch.tensor(v).double() for v in ([-8.0, 0.0], [[25.0], [0.0]],
        ...     [[-20.0], [20.0]], [15.0, -5.0], [0.09, 0.16])))
        >>> moved = MixingMeasure(truth.gate_bias + 3.0, truth.gate_weight - 2.0, truth.slope, truth.intercept + 0.1,
        ...                       truth.variance).permute([1, 0])
        >>> loss = voronoi_loss(moved, truth)
        >>> round(float(loss.total), 6), loss.shift, loss.cells
        (0.1, tensor([-2.], dtype=torch.float64), tensor([1, 0]))
    """
    check_pair(fitted, truth)
    invariance = GateInvariance.of(gate)
    count = _check_count(num_selected, truth)
    assigned = anchored_cells(fitted, truth, invariance) if cells is None else _check_cells(cells, fitted, truth)
    terms = build_terms(fitted, truth, assigned, invariance, rbar)
    scale, shift = _translation(terms, count, invariance)
    return _least(terms, scale, shift, count)


def exact_loss(fitted: MixingMeasure, truth: MixingMeasure, *, gate: Gate | None = None) -> Tensor:
    """D1, the total of :func:`voronoi_loss` with every exponent 1, ``(*batch,)``.

    Args:
        fitted: a measure of k atoms, or a batch.
        truth: a measure of k* atoms.
        gate: whose invariance to translations counts; a softmax gate's if None.

    Raises:
        TypeError: if an argument is of another kind.
        ValueError: if the measures do not fit each other.

    Example:
        >>> import torch
        >>> truth = MixingMeasure(*(torch.tensor(v) for v in ([0.0, 0.0], [[1.0], [0.0]], [[2.0], [0.0]], [0.0, 1.0],
        ...     [1.0, 1.0])))
        >>> float(exact_loss(truth, truth))
        0.0
    """
    return voronoi_loss(fitted, truth, gate=gate).total


def overspecified_loss(
    fitted: MixingMeasure, truth: MixingMeasure, *, gate: Gate | None = None, rbar: Callable[[int], float] = rbar
) -> Tensor:
    """D2, the total of :func:`voronoi_loss` with exponents ``rbar(m)`` in cells of m atoms, ``(*batch,)``.

    Args:
        fitted: a measure of k atoms, or a batch.
        truth: a measure of k* atoms.
        gate: whose invariance to translations counts; a softmax gate's if None.
        rbar: the order of cells of m >= 2 atoms.

    Raises:
        TypeError: if an argument is of another kind.
        ValueError: if the measures do not fit each other.

    Example:
        >>> import torch
        >>> truth = MixingMeasure(*(torch.tensor(v) for v in ([0.0, 0.0], [[1.0], [0.0]], [[2.0], [0.0]], [0.0, 1.0],
        ...     [1.0, 1.0])))
        >>> float(overspecified_loss(truth, truth))
        0.0
    """
    return voronoi_loss(fitted, truth, gate=gate, rbar=rbar).total


def _check_count(num_selected: int | None, truth: MixingMeasure) -> int:
    if num_selected is None:
        return truth.num_experts
    return check_integer("num_selected", num_selected, low=1, high=truth.num_experts)


def _check_cells(cells: Tensor, fitted: MixingMeasure, truth: MixingMeasure) -> Tensor:
    check_tensor("cells", cells, floating=False)
    shape = (*torch.broadcast_shapes(fitted.batch_shape, truth.batch_shape), fitted.num_experts)
    if cells.shape != shape or cells.is_floating_point():
        raise ValueError(f"cells must be integers of shape {shape}, got {cells.dtype} of shape {tuple(cells.shape)}")
    if bool((cells < 0).any()) or bool((cells >= truth.num_experts).any()):
        raise ValueError(f"cells must be in 0..{truth.num_experts - 1}, got {int(cells.min())}..{int(cells.max())}")
    return cells.unsqueeze(-2).long()


def _translation(terms: Terms, count: int, invariance: GateInvariance) -> tuple[Tensor, Tensor]:
    """``exp(t_0)``, ``(*batch, c)``, and ``t_1``, ``(*batch, c, d)``, at which each candidate is least."""
    if count < terms.true_mass.shape[-1]:
        return least_largest_sum(terms, count, bias=invariance.bias, weight=invariance.weight)
    ratio = terms.cell_mass / terms.true_mass
    scale = weighted_median(ratio, terms.true_mass) if invariance.bias else torch.ones_like(ratio[..., 0])
    if not invariance.weight:
        return scale, torch.zeros_like(terms.gate_gap[..., 0, :])
    return scale, least_power_sum(terms.gate_gap, terms.mass, terms.power)


def _least(terms: Terms, scale: Tensor, shift: Tensor, count: int) -> VoronoiLoss:
    """The parts of the candidate with the least total."""
    mass_gap = (terms.cell_mass - scale.unsqueeze(-1) * terms.true_mass).abs()
    gate_gap = torch.linalg.vector_norm(terms.gate_gap - shift.unsqueeze(-2), dim=-1).pow(terms.power) * terms.mass
    rest = [terms.by_cell(value) for value in (gate_gap, *terms.expert.unbind(-1))]
    parts = torch.stack([mass_gap, *rest], -1)  # (*batch, c, k*, 5)
    by_atom = parts.sum(-1)
    best = largest_sum(by_atom.detach(), count).argmin(-1, keepdim=True)
    subset = _taken(by_atom.detach(), best).topk(count, -1).indices
    parts = _taken(parts, best)
    chosen = parts.gather(-2, subset.unsqueeze(-1).expand(*subset.shape, parts.shape[-1])).sum(-2)
    cells, scale, shift = (_taken(value, best) for value in (terms.cells, scale.unsqueeze(-1), shift))
    mass, gate, slope, intercept, variance = chosen.unbind(-1)
    return VoronoiLoss(chosen.sum(-1), mass, gate, slope, intercept, variance, cells, shift, scale.squeeze(-1))


def _taken(value: Tensor, index: Tensor) -> Tensor:
    """``value (*batch, c, ...)`` at ``index (*batch, 1)`` of its candidates."""
    dim = index.ndim - 1
    wide = index[(...,) + (None,) * (value.ndim - index.ndim)].expand(*index.shape, *value.shape[dim + 1 :])
    return value.gather(dim, wide).squeeze(dim)
