"""The exponents that theory declares, up to logarithmic factors, each with its source.

To declare those of another gate, register a function of the fitted model for its kind of score.
"""

from collections.abc import Mapping
from functools import singledispatch
from typing import NamedTuple

from mixkit.gates import Gate
from mixkit.gates.normalizers import NormalizedSigmoid
from mixkit.gates.scores import ActivationScore, DistanceScore, LinearScore, Score
from mixkit.gates.temperatures import FixedTemperature
from mixkit.parameters import has_form, patterned_parts

from ..voronoi import rbar

__all__ = ["TheoreticalRate", "is_well_specified", "theoretical_rates"]

_SOFTMAX = "Nguyen, Nguyen, Ho (2023), arXiv 2305.03288"
_TOP_K = "Nguyen, Akbarian, Yan, Ho (2024), arXiv 2309.13850"
_TEMPERATURE = "Nguyen, Akbarian, Ho (2024), arXiv 2401.13875"
_LAPLACE = "Han, Nguyen, Harris, Ho, Saria (2024), arXiv 2402.03226"
_SIGMOID = "regular and identified; the gate: Nguyen, Ho, Rinaldo (2024), arXiv 2405.13997"
_DENSITY = ("hellinger", "total variation")
_GATE_BLOCKS = ("mass", "gate")
_EXPERT_BLOCKS = ("slope alone", "intercept alone", "variance alone")


class TheoreticalRate(NamedTuple):
    """An exponent of n, None for slower than every power or not at all, and where it is from."""

    exponent: float | None
    source: str


def theoretical_rates(
    gate: Gate, num_experts: int, true_experts: int, *, true_gate: Gate | None = None
) -> Mapping[str, TheoreticalRate]:
    """The theoretical rates of a fit with ``num_experts`` of a truth with ``true_experts``, by the name of a loss.

    Losses without an entry have no rate that we know of.

    Args:
        gate: that is fitted.
        num_experts: k.
        true_experts: k*, at most k.
        true_gate: of the truth; of the kind of ``gate`` if None. Where it is of another kind the fit is misspecified,
            and theory says nothing.

    Example:
        >>> import torch
        >>> from mixkit import softmax_gate
        >>> gate = softmax_gate(1, 3, generator=torch.Generator().manual_seed(0))
        >>> theoretical_rates(gate, 3, 2)["slope shared"]
        TheoreticalRate(exponent=-0.25, source='Nguyen, Nguyen, Ho (2023), arXiv 2305.03288, over-specified')
    """
    if true_gate is not None and not is_well_specified(gate, true_gate):
        return {}
    if patterned_parts(gate):  # no rates are known of coefficients in common
        return {}
    return _rates(gate.score, gate, num_experts - true_experts)


def is_well_specified(gate: Gate, true_gate: Gate) -> bool:
    """Whether a fitted gate is of the kind of the true one: the form of its score, temperature, selection, normalizer.

    Fixed temperatures must be equal, and a gate that has no bias is of the kind of those without one alone. A top-K
    gate selects as many experts as the true one, and at most one more for each expert that the fit has more.

    Example:
        >>> import torch
        >>> from mixkit import sigmoid_gate, softmax_gate
        >>> three, two = (softmax_gate(1, k, generator=torch.Generator().manual_seed(0)) for k in (3, 2))
        >>> is_well_specified(three, two)
        True
        >>> is_well_specified(three, sigmoid_gate(1, 2, generator=torch.Generator().manual_seed(0)))
        False
    """
    return (
        _selects_alike(gate, true_gate)
        and type(gate.normalizer) is type(true_gate.normalizer)
        and _form(gate) == _form(true_gate)
        and (gate.score.bias is not None or true_gate.score.bias is None)
    )


def _selects_alike(gate: Gate, true_gate: Gate) -> bool:
    if all(g.num_selected == g.num_experts for g in (gate, true_gate)):
        return True
    more = gate.num_selected - true_gate.num_selected
    return type(gate.selection) is type(true_gate.selection) and 0 <= more <= gate.num_experts - true_gate.num_experts


def _form(gate: Gate) -> tuple[object, ...]:
    """The kinds of score and temperature, and their settings."""
    score, temperature = gate.score, gate.temperature
    settings = tuple(getattr(score, name, None) for name in ("activation", "squared"))
    fixed = temperature.value if isinstance(temperature, FixedTemperature) else None
    return type(score), *settings, type(temperature), fixed


def _density(source: str) -> dict[str, TheoreticalRate]:
    found = {name: TheoreticalRate(-0.5, f"{source}, density") for name in _DENSITY}
    return found | {"kl": TheoreticalRate(-1.0, "Wilks (1938): twice n times the divergence is bounded in probability")}


@singledispatch
def _rates(score: Score, gate: Gate, extra: int) -> dict[str, TheoreticalRate]:
    return {}


@_rates.register
def _(score: LinearScore, gate: Gate, extra: int) -> dict[str, TheoreticalRate]:
    if not has_form(score, LinearScore):
        return {}
    is_sigmoid = isinstance(gate.normalizer, NormalizedSigmoid) and gate.selection.num_selected is None
    if not (is_sigmoid or gate.shift_invariant):
        return {}
    if not isinstance(gate.temperature, FixedTemperature):
        return _linear_with_temperature(_SIGMOID if is_sigmoid else _TEMPERATURE)
    if is_sigmoid:
        return _density(_SIGMOID) | (_exact(_SIGMOID) if extra == 0 else {})
    if gate.selection.num_selected == 1:
        return _density(_TOP_K) | _one_selected(extra)
    source = _SOFTMAX if gate.selection.num_selected is None else _TOP_K
    return _density(source) | (_exact(source) if extra == 0 else _overspecified(source, extra))


@_rates.register
def _(score: ActivationScore, gate: Gate, extra: int) -> dict[str, TheoreticalRate]:
    if not has_form(score, ActivationScore):
        return {}
    if extra:
        return {name: TheoreticalRate(-0.5, f"{_TEMPERATURE}, density") for name in _DENSITY}
    names = (*_GATE_BLOCKS, *_EXPERT_BLOCKS, "D1", "tau", "beta_1", "beta_1 / tau")
    rate = TheoreticalRate(-0.5, f"{_TEMPERATURE}, activation gate, exact-specified")
    return _density(_TEMPERATURE) | dict.fromkeys(names, rate)


@_rates.register
def _(score: DistanceScore, gate: Gate, extra: int) -> dict[str, TheoreticalRate]:
    """Laplace gates: unlike the softmax's, their derivatives do not mix with those of the experts, so that only the
    heat equation of the normal density, ``d2/db2 = 2 d/d(sigma^2)``, slows atoms that share a cell.
    """
    if (
        not has_form(score, DistanceScore)
        or score.squared
        or gate.selection.num_selected is not None
        or not isinstance(gate.temperature, FixedTemperature)
    ):
        return {}
    if extra == 0:
        return _density(_LAPLACE) | _exact(_LAPLACE)
    quarter = TheoreticalRate(-0.25, f"{_LAPLACE}, over-specified")
    return _density(_LAPLACE) | _overspecified(_LAPLACE, extra) | dict.fromkeys(("gate", "slope shared"), quarter)


def _exact(source: str) -> dict[str, TheoreticalRate]:
    names = ("D1", "D2", *_GATE_BLOCKS, *_EXPERT_BLOCKS)
    return dict.fromkeys(names, TheoreticalRate(-0.5, f"{source}, exact-specified"))


def _overspecified(source: str, extra: int) -> dict[str, TheoreticalRate]:
    """Blocks of shared cells as if the largest cell that ``extra`` atoms can make were made.

    For top-K gates, if the fit selects as many experts as the cells of the selected true atoms hold.
    """
    where, order = f"{source}, over-specified", rbar(extra + 1)
    parametric, slow, slower = (TheoreticalRate(e, where) for e in (-0.5, -1.0 / order, -0.5 / order))
    found = dict.fromkeys(("D2", "mass", *_EXPERT_BLOCKS), parametric)
    found |= dict.fromkeys(("slope shared", "variance shared"), slow)
    unfit = TheoreticalRate(None, "D1 is for fits with the truth's number of experts; D2 (OverspecifiedLoss) for more")
    return found | dict.fromkeys(("gate", "intercept shared"), slower) | {"D1": unfit}


def _one_selected(extra: int) -> dict[str, TheoreticalRate]:
    """One selected expert has weight one: nothing but the borders between experts tells of their gate."""
    unidentified = TheoreticalRate(None, "one selected expert has weight one: not identified")
    found = dict.fromkeys(("D1", "D2", *_GATE_BLOCKS), unidentified)
    own = TheoreticalRate(-0.5, f"{_TOP_K}, exact-specified")
    return found if extra else found | dict.fromkeys(_EXPERT_BLOCKS, own)


def _linear_with_temperature(source: str) -> dict[str, TheoreticalRate]:
    """The scores identify ``beta_1 / tau`` alone."""
    slow = TheoreticalRate(None, f"{_TEMPERATURE}, linear gate: slower than every power")
    found = {name: TheoreticalRate(-0.5, f"{source}, density") for name in _DENSITY}
    return found | dict.fromkeys(("tau", "beta_1"), slow)
