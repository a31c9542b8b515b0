"""One search for the best maximum: climbs from all starts, moves, and larger and larger parts of the data."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import alike_experts, distinct_orders

from ..data.dataset import Data
from ..objectives.autograd import AutogradObjective
from ..objectives.choose import make_objective
from ..optimizers.newton import Ascent
from ..optimizers.objective import SAFEGUARD_VARIANCE, EndRules, Objective
from ..penalties.build import in_result_coordinates, penalized
from .optima import Optima, best_end, best_models, concatenated, found_better, merged, surviving
from .plausibility import doubts, finest_variance
from .settings import SearchSettings
from .standardized import StandardizedObjective
from .starts import MoveAtom, Start

__all__ = ["Climb", "Search"]

_ROWS_PER_PARAMETER = 20
_GROWTH = 8  # of the subsample, until it is half the data
_MOVES = 24  # starts of a round of moves
_MOST_ORDERS = 24  # of the experts of one guess
_MOST_LISTED = 6  # experts of which all orders are listed

Climb = Callable[[Objective, Tensor, Callable[[Tensor], None]], Ascent]
"""From ``theta (r, s, P)`` to maxima; told the values ``(r, s)`` after each iteration."""


class Level(NamedTuple):
    """Some or all of the observations, and their log-likelihood."""

    data: Data
    objective: Objective


@dataclass(eq=False)
class Search:
    """A search for the best maximum of a model on each of ``r`` data sets.

    Attributes:
        settings: how to search.
        model: gives the form.
        pinned: which columns' coefficients are fixed at zero.
        climb: from starts to maxima.
        climb_on: from maxima of a part of the data.
        rng: random numbers of the starts, moves and subsamples.
    """

    settings: SearchSettings
    model: MixtureOfExperts
    pinned: Tensor
    climb: Climb
    climb_on: Climb
    rng: np.random.Generator

    def level(self, data: Data, variance_floor: float | None = None) -> Level:
        """The data with the objective of a fit to them; the variance floor is that of the settings unless given."""
        chosen = self.settings.variance_floor
        floor = variance_floor or chosen or SAFEGUARD_VARIANCE
        objective = make_objective(self.model, data, floor, self.pinned)
        if isinstance(objective, AutogradObjective):
            objective = StandardizedObjective.of(self.model, data, floor, objective)
        objective = penalized(objective, self.settings.penalty, self.model)
        objective.end_rules = EndRules(
            num_experts=self.model.num_experts,
            least_observations=_coefficients(self.model, data),
            variance_floor=floor,
            finds_lines=chosen is None,
            keeps_spurious=self.settings.spurious == "keep",
        )
        return Level(data, objective)

    def run(self, whole: Level, starts: Sequence[Sequence[Start]], rounds: int, bar: Any) -> tuple[Objective, Optima]:
        """The best end of each data set, and the objective in whose coordinates it is.

        Args:
            whole: all the data.
            starts: those of each data set.
            rounds: most rounds of moves.
            bar: shows the progress.
        """
        first, *larger = self._subsamples(whole)
        level = self._part(whole, first)
        optima = self._climbed(level, self._first(level, _on_rows(starts, first, whole.objective.n)), bar)
        optima = self._moved(level, optima, rounds, bar)
        end_values = optima.end_values
        for rows in larger:
            kept = surviving(self.model, level.objective, level.data, optima.ascent, self.settings.n_keep)
            source, level = level.objective, self._part(whole, rows)
            optima = self._climbed(level, level.objective.transfer(kept, source), bar, is_near=True)
        whole, best = self._resolved(whole, best_end(whole.objective, optima), bar)
        objective, ascent = in_result_coordinates(whole.objective, best.ascent)
        return objective, best._replace(ascent=ascent, end_values=end_values)

    def _resolved(self, whole: Level, best: Optima, bar: Any) -> tuple[Level, Optima]:
        """The best ends, on a lower floor if the one that nobody chose stops experts on lines that the data follow."""
        rules, ascent = whole.objective.end_rules, best.ascent
        if not rules.finds_lines:
            return whole, best
        is_held = whole.objective.at_floor(ascent.theta).any(-1) & torch.isfinite(ascent.value)
        if bool(is_held.any()):
            is_held &= ~doubts(whole.objective, ascent.theta).any
        if not bool(is_held.any()):
            return whole, best
        finer = self.level(whole.data, min(finest_variance(whole.data), rules.variance_floor))
        theta = finer.objective.transfer(ascent.theta, whole.objective)
        lower = self._climbed(finer, theta, bar, is_near=True).ascent
        is_better = is_held & (lower.value > ascent.value) & ~doubts(finer.objective, lower.theta).any
        if not bool(is_better.any()):
            return whole, best
        return finer, best._replace(ascent=merged(is_better, lower, ascent._replace(theta=theta)))

    def _subsamples(self, whole: Level) -> Iterator[Tensor | None]:
        """Rows to climb on, one random subset after another, each larger than the one before; at last None, for all.

        Where there are units these are drawn, as many as have the wanted number of rows on average.
        """
        objective, units = whole.objective, whole.data.units
        size = max(self.settings.subsample, _ROWS_PER_PARAMETER * objective.num_params)
        count = whole.data.num_units
        while objective.n > 2 * size:
            drawn = size if units is None else max(self.model.num_experts, -(-size * count // objective.n))
            kept = torch.as_tensor(np.sort(self.rng.choice(count, drawn, replace=False)))
            yield whole.data.rows_of(kept)
            size *= _GROWTH
        yield None

    def _part(self, whole: Level, rows: Tensor | None) -> Level:
        return whole if rows is None else self.level(whole.data.take(rows))

    def _first(self, level: Level, starts: Sequence[Sequence[Start]]) -> Tensor:
        """Parameters ``(r, s, P)`` at which the climbs start."""
        parts = []
        if self.settings.start_at_model:
            parts.append(level.objective.read(self.model).expand(len(level.data.x), 1, -1))
        if any(starts):
            parts.append(self._from_guesses(level, starts))
        if not parts:
            raise ValueError("starts must hold one start or more where start_at_model is False, got none")
        return torch.cat(parts, 1)

    def _climbed(self, level: Level, theta: Tensor, bar: Any, *, is_near: bool = False) -> Optima:
        values: list[Tensor] = []

        def record(value: Tensor) -> None:
            values.append(value.detach().clone())
            bar.update()
            bar.set_postfix({"log-likelihood": f"{float(value.max()):.6g}"})

        ascent = (self.climb_on if is_near else self.climb)(level.objective, theta, record)
        return Optima(ascent, values, ascent.value)

    def _moved(self, level: Level, optima: Optima, rounds: int, bar: Any) -> Optima:
        """Climbs from what moves of an expert make of the best end, as long as that finds better ones."""
        # Each start climbs to the maximum of its own basin. A move takes one expert from where two do the work of one
        # to where one does that of two, at once: EM would have to carry it there through models that fit worse.
        for _ in range(rounds if self.model.num_experts > 1 else 0):
            starts = [[MoveAtom(fitted, _MOVES)] for fitted in best_models(self.model, level.objective, optima)]
            theta = self._from_guesses(level, starts)
            count, optima = optima.end_values.shape[1], concatenated(optima, self._climbed(level, theta, bar))
            if not found_better(optima, count):
                break
        return optima

    def _from_guesses(self, level: Level, starts: Sequence[Sequence[Start]]) -> Tensor:
        """Parameters ``(r, s, P)`` fitted to the guesses of each data set's starts."""
        if len(starts) != len(level.data.x):
            raise ValueError(f"starts must be given for each of {len(level.data.x)} data sets, got {len(starts)}")
        guesses = [
            torch.cat([self._guess(start, level.data, index) for start in own])
            for index, own in enumerate(starts)
            if own
        ]
        if len({len(guess) for guess in guesses}) > 1 or len(guesses) < len(starts):
            raise ValueError("starts must make as many guesses for one data set as for another, got different numbers")
        return self._in_best_order(level.objective, torch.stack(guesses))

    def _other_orders(self) -> list[list[int]]:
        """Orders of the experts that mean other models, by chance some of them where there are many."""
        k = self.model.num_experts
        if k > _MOST_LISTED:
            return [self.rng.permutation(k).tolist() for _ in range(_MOST_ORDERS)]
        orders = distinct_orders(self.model, k)[1:]
        return orders if len(orders) <= _MOST_ORDERS else self.rng.permutation(orders)[:_MOST_ORDERS].tolist()

    def _in_best_order(self, objective: Objective, guesses: Tensor) -> Tensor:
        """Parameters fitted to guesses ``(r, s, k, n)``; where experts differ in pattern, in the best of their orders.

        A guess says which observations belong together, and not which expert of a pattern they belong to.
        """
        best = objective.from_responsibilities(guesses)
        if not objective.is_batched or bool(alike_experts(self.model, self.model.num_experts).all()):
            return best
        value = objective.value(best).nan_to_num(nan=-torch.inf)
        for order in self._other_orders():
            trial = objective.from_responsibilities(guesses[:, :, order])
            reached = objective.value(trial).nan_to_num(nan=-torch.inf)
            best = torch.where((reached > value).unsqueeze(-1), trial, best)
            value = torch.maximum(value, reached)
        return best

    def _guess(self, start: Start, data: Data, index: int) -> Tensor:
        x, y, k = data.x[index], data.y[index], self.model.num_experts
        if data.units is None:
            return start.responsibilities(x, y, k, self.rng)
        return start.unit_responsibilities(x, y, data.units, k, self.rng)


def _coefficients(model: MixtureOfExperts, data: Data) -> int:
    """Numbers of the response that an expert's own parameters can reproduce; of a module at most those of a line."""
    count = sum(parameter.numel() for parameter in model.experts.parameters() if parameter.requires_grad)
    own = -(-count // (model.num_experts * data.y[0, 0].numel()))
    return max(1, min(own, data.x.shape[-1] + 2))


def _on_rows(starts: Sequence[Sequence[Start]], rows: Tensor | None, n: int) -> Sequence[Sequence[Start]]:
    """The starts of each data set, of which those that hold a guess of all n observations give that of ``rows``."""
    return starts if rows is None else [[start.at(rows, n) for start in own] for own in starts]
