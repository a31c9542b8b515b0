"""Settings of a search, and what a fit makes of them: copies for warm starts, for results and for some of the rows."""

import copy
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from torch import Tensor

from mixkit._validation import check_choice, check_integer, check_positive

from ..data.dataset import Data
from ..penalties.base import Penalty
from .starts import Start, default_starts

__all__ = ["SearchSettings"]


class SearchSettings:
    """How a maximum is sought.

    Args:
        n_init: number of starts.
        starts: ways to start, used in turn (see :mod:`estimators.search.starts`); None for the default mixture of
            k-means, local regressions and random partitions. A :class:`~estimators.search.starts.SplitAtom` counts as
            one but makes several guesses.
        start_at_model: also start from the parameters the model has.
        max_iter: most Newton iterations of a start.
        tol: a start has converged when one more Newton step is predicted to add less than this to the
            log-likelihood, and no direction of positive curvature is left. If the mean weight is below 1, ``tol`` is
            multiplied by it.
        variance_floor: least variance of an expert, as a share of the variance of y. One below 1e-4 only stops
            variances on their way to zero, and ends at it come last; from 1e-4 on it is a constraint like another.
            None for 1e-6, lowered to what double precision resolves for experts on lines of so little noise that more
            rows follow them than chance would bring there (:mod:`estimators.search.plausibility`).
        spurious: "last" puts ends after all others where an expert has a tiny scale on as few rows as chance alone
            would bring there, has fewer observations than coefficients, or stands at a variance floor that was not
            chosen; "keep" takes ends by their log-likelihood alone.
        subsample: with more than twice as many observations, the starts run on a random subset of this size (at least
            20 observations a parameter), and only the ``n_keep`` best different ends, without those clearly beaten,
            climb on a subset eight times as large, and so on to all the data.
        n_keep: see ``subsample``.
        n_moves: most rounds of moves: climbs from up to 24 starts that each have one expert of the best end moved
            elsewhere (:class:`~estimators.search.starts.MoveAtom`), until a round finds nothing better. Starts that
            agree on an end are no sign that it is the best, for they resemble each other. None for two rounds where
            the starts are the default ones and derivatives are in closed form, else for none.
        penalty: subtracted from the log-likelihood (see :mod:`estimators.penalties`); None for maximum likelihood.
        random_state: seed or ``numpy.random.Generator`` of the starts.
        progress: whether to show a progress bar.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        *,
        n_init: int = 10,
        starts: Sequence[Start] | None = None,
        start_at_model: bool = False,
        max_iter: int = 200,
        tol: float = 1e-9,
        variance_floor: float | None = None,
        spurious: str = "last",
        subsample: int = 3_000,
        n_keep: int = 4,
        n_moves: int | None = None,
        penalty: Penalty | None = None,
        random_state: int | np.random.Generator | None = None,
        progress: bool = False,
    ) -> None:
        self.n_init = check_integer("n_init", n_init, low=0 if start_at_model else 1)
        self.starts = _checked_starts(starts)
        self.start_at_model = start_at_model
        self.max_iter = check_integer("max_iter", max_iter, low=1)
        self.tol = float(check_positive("tol", tol))
        self.variance_floor = (
            None if variance_floor is None else float(check_positive("variance_floor", variance_floor))
        )
        self.spurious = check_choice("spurious", spurious, ("last", "keep"))
        self.subsample = check_integer("subsample", subsample, low=100)
        self.n_keep = check_integer("n_keep", n_keep, low=1)
        self.n_moves = None if n_moves is None else check_integer("n_moves", n_moves, low=0)
        self.penalty = penalty
        self.random_state = _checked_seed(random_state)
        self.progress = progress

    def __repr__(self) -> str:
        """The settings."""
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"

    def _chosen_starts(self) -> Sequence[Start]:
        """The starts of a fit: ``n_init`` default ones, or those given in turn, each at least once."""
        starts = default_starts(self.n_init) if self.starts is None else list(self.starts)
        if self.starts is not None and starts:
            starts = [starts[i % len(starts)] for i in range(max(self.n_init, len(starts)))]
        return starts

    def _on_fitted_rows(self, data: Data) -> tuple[Self, Data, Tensor | None]:
        """The rows of one data set that have a weight, those of a unit together, and the estimator with starts on them.

        At last their positions, None if those are all the rows in order.
        """
        rows = data.positive_rows()
        kept = data if rows is None else data.take(rows)
        order = kept.ordered_rows()
        if order is not None:
            rows, kept = order if rows is None else rows[order], kept.take(order)
        return (self, kept, None) if rows is None else (self._with_starts_on(rows, data.x.shape[1]), kept, rows)

    def _with_starts_on(self, rows: Tensor, n: int) -> Self:
        """The estimator with its starts for some ``rows`` of n."""
        twin = copy.copy(self)
        twin.starts = None if self.starts is None else [start.at(rows, n) for start in self.starts]
        return twin

    def _warm_start(self, extra_starts: int = 0) -> Self:
        """A copy that climbs from the model it is given, and from ``extra_starts`` of the default starts."""
        warm = copy.copy(self)
        warm.start_at_model, warm.n_init, warm.starts = True, extra_starts, None if extra_starts else []
        warm.subsample = 2**62  # a model at a maximum of all the data needs no climb on a part of them
        return warm

    def _snapshot(self) -> Self:
        """The settings as they are now, which later changes do not touch."""
        twin = copy.copy(self)
        twin.starts = None if self.starts is None else list(self.starts)
        return twin


def _checked_starts(starts: Any) -> Sequence[Start] | None:
    if starts is None:
        return None
    if not isinstance(starts, Sequence) or not all(isinstance(start, Start) for start in starts):
        raise TypeError(f"starts must be a list of estimators.search.starts.Start or None, got {starts!r}")
    return starts


def _checked_seed(random_state: Any) -> Any:
    try:
        np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        rule = "a non-negative integer, a numpy.random.Generator or None"
        raise type(error)(f"random_state must be {rule}, got {random_state!r}") from error
    return random_state
