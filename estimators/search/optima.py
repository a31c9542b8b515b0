"""Which of the ends of many climbs are worth keeping: the best, and those that may yet be best on more data."""

import copy
from typing import NamedTuple

import torch
from torch import Tensor

from mixkit.mixture import MixtureOfExperts

from ..data.dataset import Data
from ..data.unit_posterior import log_joint, unit_log_prob
from ..optimizers.function import choose, choose_evaluation
from ..optimizers.newton import Ascent
from ..optimizers.objective import Evaluation, Objective
from .plausibility import Doubts, doubts

__all__ = ["Optima", "best_end", "best_models", "concatenated", "found_better", "merged", "ranking", "surviving"]

_SAME_VALUE = 1e-6  # two ends whose log-likelihoods differ relatively by less are one
_EQUAL = 1e-9  # ends that differ relatively by less are one to rounding: which is ahead says nothing
_BEATEN = 4.0  # standard errors by which an end must lose to be left behind


class Optima(NamedTuple):
    """Where starts ended, the values on the way (one ``(r, s)`` tensor an iteration), and those of all the ends.

    ``set_aside`` says which end of the first data set above the best one was passed over, and why; else it is empty.
    """

    ascent: Ascent
    values: list[Tensor]
    end_values: Tensor
    set_aside: str = ""


def ranking(objective: Objective, ends: Ascent, found: Doubts | None = None) -> Tensor:
    """How good each end is, ``(r, s)``: its log-likelihood, but ends that are not to be trusted below all others.

    Such ends there are only where the likelihood has no bound, as that of experts with a variance of their own.
    ``found`` is what there is to hold against them, if that is known.
    """
    is_finite = torch.isfinite(ends.value)
    if objective.end_rules.keeps_spurious:
        return torch.where(is_finite, ends.value, -torch.inf)
    found = doubts(objective, ends.theta) if found is None else found
    spread = 1.0 + 2.0 * torch.where(is_finite, ends.value, 0.0).abs().amax(1, keepdim=True)
    ranked = torch.where(found.any, ends.value - spread, ends.value)
    return torch.where(is_finite, ranked, -torch.inf)


def _set_aside(objective: Objective, ends: Ascent, found: Doubts, chosen: int) -> str:
    """What to say where an end of the first data set is higher than the chosen one."""
    value = torch.where(torch.isfinite(ends.value[0]), ends.value[0], -torch.inf)
    highest = int(value.argmax())
    if not float(value[highest] - value[chosen]) > _SAME_VALUE * (1.0 + abs(float(value[chosen]))):
        return ""
    return (
        f"an end with the higher value {float(value[highest]):.6g} was set aside, for it "
        f"{found.reason(objective.end_rules, (0, highest))}, and the likelihood has no bound there (spurious='keep' "
        "takes it)"
    )


def best_end(objective: Objective, optima: Optima) -> Optima:
    """The best end of each data set alone, the first of ends that are equal to rounding: every tensor with s = 1.

    Raises:
        ValueError: if no data set has an end with a finite log-likelihood; where some have one, the others keep theirs.
    """
    if not bool(torch.isfinite(optima.ascent.value).any()):
        raise ValueError(
            "no start has a finite log-likelihood: y may be impossible under the experts, or x or y too extreme; "
            "rescale them or try other starts"
        )
    ascent = optima.ascent
    found = doubts(objective, ascent.theta)
    best = _first_best(ranking(objective, ascent, found), ascent.converged)
    rows = torch.arange(len(best), device=best.device)
    evaluation = Evaluation(*(part[rows, best].unsqueeze(1) for part in ascent.evaluation))
    chosen = ascent._replace(
        theta=ascent.theta[rows, best].unsqueeze(1),
        value=ascent.value[rows, best].unsqueeze(1),
        predicted_gain=ascent.predicted_gain[rows, best].unsqueeze(1),
        converged=ascent.converged[rows, best].unsqueeze(1),
        evaluation=evaluation,
    )
    values = [value[rows, best].unsqueeze(1) for value in optima.values]
    return Optima(chosen, values, ascent.value, _set_aside(objective, ascent, found, int(best[0])))


def _first_best(rank: Tensor, converged: Tensor) -> Tensor:
    """Positions ``(r,)`` of the first best end, so that its experts have one order on all machines.

    Starts that end at one maximum, with experts permuted, differ by rounding alone. Converged ends go before others.
    """
    best = rank.amax(1, keepdim=True)
    is_best = rank >= best - _EQUAL * (1.0 + best.abs())
    return (is_best.int() + (is_best & converged).int()).argmax(1)


def best_models(model: MixtureOfExperts, objective: Objective, optima: Optima) -> list[MixtureOfExperts]:
    """The best end of each data set as a model, float64; the model as it is where no end has a finite value."""
    models = [copy.deepcopy(model).to(torch.float64) for _ in optima.end_values]
    best = best_end(objective, optima).ascent
    for index in torch.isfinite(best.value[:, 0]).nonzero().squeeze(-1).tolist():
        objective.write(best.theta[index, 0], models[index], index)
    return models


def found_better(optima: Optima, count: int) -> bool:
    """Whether a start after the first ``count`` ended clearly above all of those, on any data set."""
    before, after = optima.end_values[:, :count].amax(1), optima.end_values[:, count:].amax(1)
    return bool((after > before + _SAME_VALUE * (1.0 + before.abs())).any())


def merged(mask: Tensor, yes: Ascent, no: Ascent) -> Ascent:
    """The ends ``(r, s)`` of one ascent where ``mask (r, s)`` says so, elsewhere of another of the same vectors."""
    return Ascent(
        choose(mask, yes.theta, no.theta),
        choose(mask, yes.value, no.value),
        choose(mask, yes.predicted_gain, no.predicted_gain),
        choose(mask, yes.converged, no.converged),
        no.num_iterations + yes.num_iterations,
        choose_evaluation(mask, yes.evaluation, no.evaluation),
    )


def concatenated(first: Optima, second: Optima) -> Optima:
    """The starts of two climbs of the same data sets as one optima; the shorter one stays where it ended."""
    length = max(len(first.values), len(second.values))
    values = [
        torch.cat([optima.values[min(step, len(optima.values) - 1)] for optima in (first, second)], 1)
        for step in range(length)
    ]
    a, b = first.ascent, second.ascent
    evaluation = Evaluation(*(torch.cat(parts, 1) for parts in zip(a.evaluation, b.evaluation, strict=True)))
    ascent = Ascent(
        torch.cat([a.theta, b.theta], 1),
        torch.cat([a.value, b.value], 1),
        torch.cat([a.predicted_gain, b.predicted_gain], 1),
        torch.cat([a.converged, b.converged], 1),
        max(a.num_iterations, b.num_iterations),
        evaluation,
    )
    return Optima(ascent, values, torch.cat([first.end_values, second.end_values], 1))


def surviving(model: MixtureOfExperts, objective: Objective, data: Data, ends: Ascent, count: int) -> Tensor:
    """Parameters ``(r, c, P)`` of the ends on a subsample that may be best on more data, ``c <= count``, best first.

    Those are the best ends with different values, without the ones that are clearly beaten: the sum over observations
    of the difference in log-density to the best end exceeds four of its standard errors (Vuong 1989, Econometrica 57,
    307-333), as happens by chance to an end that is no worse once in 30,000 times.
    """
    order = ranking(objective, ends).argsort(dim=1, descending=True, stable=True)
    kept = []
    for index, (value, rank) in enumerate(zip(ends.value, order, strict=True)):
        different = _distinct(value, rank, count)
        if len(different) > 1:
            log_prob = _log_prob_rows(model, objective, data, ends.theta[index, different], index)
            different = _unbeaten(log_prob, different)
        kept.append(different)
    positions = _padded(kept).to(order.device)
    return ends.theta.gather(1, positions.unsqueeze(-1).expand(-1, -1, ends.theta.shape[-1]))


def _distinct(value: Tensor, order: Tensor, count: int) -> list[int]:
    """The first of ``order`` with different values, at most ``count``; of those equal to rounding the first start."""
    kept: list[int] = []
    for index in order.tolist():
        scale = 1.0 + abs(float(value[index]))
        gaps = [abs(float(value[index] - value[other])) / scale for other in kept]
        nearest = min(range(len(gaps)), key=gaps.__getitem__, default=None)
        if nearest is None or gaps[nearest] > _SAME_VALUE:
            if len(kept) < count:
                kept.append(index)
        elif gaps[nearest] <= _EQUAL:
            kept[nearest] = min(kept[nearest], index)
    return kept


@torch.no_grad()
def _log_prob_rows(model: MixtureOfExperts, objective: Objective, data: Data, theta: Tensor, index: int) -> Tensor:
    """Log-likelihood of each unit of one data set at each of ``theta (s, P)``, times its weight, ``(s, g)``."""
    fitted, units = copy.deepcopy(model).to(torch.float64), data.units
    rows, weight = [], data.unit_weight
    power = None if units is None or units.power is None else units.power[index]
    for vector in theta:
        objective.write(vector, fitted, index)
        law = fitted(data.x[index])
        log_prob = (
            law.log_prob(data.y[index]) if units is None else unit_log_prob(log_joint(law, data.y[index], units, power))
        )
        rows.append(log_prob if weight is None else weight[index] * log_prob)
    return torch.stack(rows)


def _unbeaten(log_prob: Tensor, ends: list[int]) -> list[int]:
    """Of ``ends``, whose rows of ``log_prob (s, n)`` start with the best, those that it does not clearly beat."""
    lead = log_prob[0] - log_prob
    error = lead.std(-1, correction=0) * lead.shape[-1] ** 0.5
    beaten = (lead.sum(-1) > _BEATEN * error).tolist()
    return [end for end, is_beaten in zip(ends, beaten, strict=True) if not is_beaten]


def _padded(rows: list[list[int]]) -> Tensor:
    """Rows of one length: shorter ones repeat their first entry."""
    width = max(len(row) for row in rows)
    return torch.tensor([row + [row[0]] * (width - len(row)) for row in rows])
