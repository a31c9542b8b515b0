"""What a stream has learned so far."""

from dataclasses import dataclass, field

import numpy as np

from mixkit.measure import MixingMeasure
from mixkit.mixture import MixtureOfExperts

from ..results.predictions import FittedMixture
from ..results.summary import Summary, table_rows
from ..statistics.named_vector import NamedVector
from ..statistics.wald import check_level, wald_intervals

__all__ = ["StreamResult"]


@dataclass(eq=False, repr=False)
class StreamResult(FittedMixture):
    """A mixture of experts fitted in one pass.

    Attributes:
        model: the fitted model, float64.
        param_names: names of the free parameters ``(P,)``, as in :class:`~estimators.results.fit_result.FitResult`.
        estimates: ``(P,)``, scales on their natural scale; ``params`` has them by name.
        nobs: rows seen.
        num_blocks: blocks of rows taken in after the start; 0 while the rows are few and the fit is that of the start.
        history: mean log-density of each block under the parameters before it: an honest score of prediction.
        seconds: time taken.
        warnings: what a reader should know, in words.
        feature_names: names of the covariates ``(d,)``; None where they had none.
    """

    model: MixtureOfExperts
    param_names: list[str]
    estimates: np.ndarray
    nobs: int
    num_blocks: int
    history: np.ndarray
    seconds: float
    warnings: list[str] = field(default_factory=list)
    _is_positive: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=bool))
    _covariance: np.ndarray = field(default_factory=lambda: np.empty((0, 0)))
    feature_names: list[str] | None = None
    _num_features: int | None = None

    @property
    def params(self) -> NamedVector:
        """Estimates ``(P,)`` by position or name."""
        return NamedVector(self.estimates, self.param_names)

    def cov_params(self) -> np.ndarray:
        """Covariance of the estimates ``(P, P)`` from the information summed along the stream.

        NaN where it is singular, and for models without linear predictors, whose curvatures are not summed.
        """
        return self._covariance.copy()

    @property
    def bse(self) -> NamedVector:
        """Standard errors ``(P,)``."""
        with np.errstate(invalid="ignore"):
            return NamedVector(np.sqrt(np.diag(self._covariance)), self.param_names)

    def conf_int(self, *, level: float = 0.95) -> np.ndarray:
        """Wald intervals ``(P, 2)``, those of positive parameters on the log scale."""
        return wald_intervals(self.params, self.bse, self._is_positive, level=level)

    def summary(self, *, level: float = 0.95) -> Summary:
        """A table of the estimates: ``print`` it, or take ``to_frame()`` (pandas).

        Args:
            level: of the intervals, in (0, 1).

        Raises:
            TypeError: if ``level`` is not a number.
            ValueError: if ``level`` is not in (0, 1).
        """
        model, score = self.model, f"{self.history.mean():.4f}" if len(self.history) else ""
        head = [
            ("Experts", f"{model.num_experts} x {type(model.experts).__name__}"),
            ("Gate", f"{type(model.gate.normalizer).__name__} of {type(model.gate.score).__name__}"),
            ("Method", "One pass" if self.num_blocks else "All rows at once"),
            ("No. Observations", str(self.nobs)),
            ("No. Blocks", str(self.num_blocks)),
            ("Log-density of blocks", score),
        ]
        notes = [f"Expert {model.num_experts - 1} is the gate's reference. Standard errors: information summed."]
        if np.isnan(self.bse).any():
            notes.append("Parameters without a standard error: the information on them is singular or not known.")
        notes += [f"Warning: {remark}." for remark in self.warnings]
        rows = table_rows(self.params, self.bse, self._is_positive, level=check_level(level))
        return Summary(head, self.param_names, rows, notes, level)

    @property
    def measure(self) -> MixingMeasure:
        """The fit as a mixing measure; raises ``TypeError`` for models that have none."""
        return MixingMeasure.from_module(self.model).detach()

    def __repr__(self) -> str:
        """The main figures in a line."""
        return f"StreamResult(k={self.model.num_experts}, nobs={self.nobs}, num_blocks={self.num_blocks})"
