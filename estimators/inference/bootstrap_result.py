"""What a bootstrap found."""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mixkit._validation import check_choice

from ..data.frames import new_frame
from ..plotting.uncertainty import plot_bootstrap
from ..results.fit_result import FitResult
from ..statistics.covariance import SingularInformationWarning
from ..statistics.wald import check_level
from .bootstrap_intervals import INTERVALS, Replicates, acceleration, unresolved

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["BootstrapLevelWarning", "BootstrapResult"]


class BootstrapLevelWarning(UserWarning):
    """A corrected level lies among the last few replicates: the interval is the one without the correction."""


@dataclass(eq=False, repr=False)
class BootstrapResult:
    """Estimates of resampled data beside those of the data.

    Attributes:
        param_names: as in the fit, ``(P,)``.
        params: the fit's estimates ``(P,)``.
        is_positive: which parameters are scales, ``(P,)`` bool.
        undetermined: which parameters the data do not determine, ``(P,)`` bool; they get no errors or intervals.
        replicates: estimates ``(m, P)``, a row for each replicate; NaN where the refit failed.
        llf: log-likelihoods of the refits on their own data ``(m,)``; NaN where the refit failed.
        converged: whether each refit reached a maximum ``(m,)``.
        errors: why refits failed, by replicate.
        acceleration: how fast standard errors change with the parameters ``(P,)``, from the influence of each
            observation; zero where there is no Hessian.

    Example:
        >>> import torch
        >>> from estimators import EM
        >>> from estimators.inference import bootstrap
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> from mixkit.datasets import load_tone
        >>> g = torch.Generator().manual_seed(0)
        >>> model = MixtureOfExperts(softmax_gate(1, 2, generator=g), linear_gaussian_experts(1, 2, generator=g))
        >>> found = bootstrap(EM(random_state=0).fit(model, *load_tone()), 99, random_state=0)
        >>> ends = found.conf_int(level=0.9, method="percentile")
        >>> ends.shape, bool((ends[:, 0] < found.params).all())
        ((8, 2), True)
    """

    param_names: list[str]
    params: np.ndarray
    is_positive: np.ndarray
    undetermined: np.ndarray
    replicates: np.ndarray
    llf: np.ndarray
    converged: np.ndarray
    errors: dict[int, str]
    acceleration: np.ndarray

    @classmethod
    def of(cls, result: FitResult, records: list[dict[str, Any]]) -> "BootstrapResult":
        """From the records of the refits; warns of parameters that the data do not determine."""
        lost = [np.nan] * len(result.params)
        undetermined = np.isnan(result.bse) & np.isnan(result.standard_errors("opg"))  # neither curvature nor scores
        undetermined &= result.maximum.hessian.numel() > 0
        zeroed = result.maximum.objective.is_zeroed.numpy(force=True)
        _warn(result, undetermined & ~zeroed, "the data do not determine them, refits stop anywhere")
        _warn(result, undetermined & zeroed, "the lasso set them to zero, where errors do not describe them")
        return cls(
            list(result.param_names),
            result.params,
            result.is_positive,
            undetermined,
            np.array([lost if record["params"] is None else record["params"] for record in records]),
            np.array([np.nan if record["llf"] is None else record["llf"] for record in records]),
            np.array([record["converged"] for record in records]),
            {number: record["error"] for number, record in enumerate(records) if record["error"]},
            acceleration(_influence(result)),
        )

    @property
    def num_failed(self) -> int:
        """Replicates without a fit; they are left out of errors and intervals."""
        return len(self.errors)

    @property
    def num_not_converged(self) -> int:
        """Replicates whose refit did not reach a maximum; they count like others, as leaving them out would bias."""
        return int((~self.converged).sum()) - self.num_failed

    def _found(self) -> np.ndarray:
        found = self.replicates[~np.isnan(self.llf)]
        if len(found) < 2:
            raise ValueError(f"too few replicates have a fit: {len(found)} of {len(self.llf)}")
        return np.where(self.undetermined, np.nan, found)

    def cov_params(self) -> np.ndarray:
        """Covariance of the replicates ``(P, P)``."""
        return np.atleast_2d(np.cov(self._found(), rowvar=False))

    @property
    def bse(self) -> np.ndarray:
        """Bootstrap standard errors ``(P,)``; NaN for undetermined parameters."""
        return self._found().std(0, ddof=1)

    @property
    def bias(self) -> np.ndarray:
        """Mean of the replicates less the estimate, ``(P,)``."""
        return self._found().mean(0) - self.params

    def conf_int(self, *, level: float = 0.95, method: str = "bca") -> np.ndarray:
        r"""Confidence intervals ``(P, 2)``.

        ============ ========================================================================================
        method       ends
        ============ ========================================================================================
        bca          quantiles of the replicates, moved for their median's bias, and for how the standard error
                     changes with the parameter: errors of coverage of order 1/n where others have its root
        bc           the same without the second, an acceleration of zero
        percentile   quantiles of the replicates; they carry the bias of the estimate twice
        basic        the estimate less the quantiles of the replicates' errors
        normal       the estimate plus and minus normal quantiles of standard errors
        ============ ========================================================================================

        The first three do not change when a parameter is transformed; the last two are computed on the log scale for
        positive parameters. Quantiles far in the tails need replicates, 999 or more for 95%; with too few to reach
        them at all, below 39 for 95%, a warning says so. Where a correction moves an end among the last few replicates,
        as at a gate that is nearly a step, the parameter has the ends of ``percentile`` and a
        :class:`BootstrapLevelWarning` names it.

        Args:
            level: probability of covering the truth, in (0, 1): 0.95, not the alpha of 0.05.
            method: one of the five.

        Raises:
            ValueError: for another method or a level outside (0, 1).

        Source: Efron (1987), Journal of the American Statistical Association 82, 171-185; DiCiccio and Efron (1996),
        Statistical Science 11, 189-228.
        """
        rule = INTERVALS[check_choice("method", method, INTERVALS)]
        found, level = self._found(), check_level(level)
        are_few = _warn_of_few(len(found), level, method)
        replicates = Replicates(self.params, found, self.is_positive, self.acceleration)
        if not are_few:
            self._warn_of_noise(unresolved(replicates, level, method), method)
        return rule(replicates, level)

    def _warn_of_noise(self, is_noise: np.ndarray, method: str) -> None:
        if is_noise.any():
            warnings.warn(
                f"{method!r} moves the ends of {', '.join(np.array(self.param_names)[is_noise])} among the last few "
                "replicates, which are noise: they have the ends of 'percentile'",
                BootstrapLevelWarning,
                stacklevel=3,
            )

    def to_frame(self, *, level: float = 0.95, method: str = "bca") -> Any:
        """Estimates, standard errors, biases and intervals as a pandas frame."""
        columns = ["coef", "std err", "bias", f"[{0.5 - 0.5 * level:.4g}", f"{0.5 + 0.5 * level:.4g}]"]
        values = np.column_stack([self.params, self.bse, self.bias, self.conf_int(level=level, method=method)])
        return new_frame(values, index=self.param_names, columns=columns)

    def plot(self, parameter: str, *, level: float = 0.95, method: str = "bca", ax: "Axes | None" = None) -> "Axes":
        """Draw one parameter's replicates, see :func:`estimators.plotting.plot_bootstrap`."""
        return plot_bootstrap(self, parameter, level=level, method=method, ax=ax)

    def __repr__(self) -> str:
        """How many replicates there are, and of what quality."""
        return (
            f"BootstrapResult({len(self.llf)} replicates, {self.num_failed} failed, "
            f"{self.num_not_converged} not converged)"
        )


def _influence(result: FitResult) -> np.ndarray:
    """What each observation adds to the estimates to first order, ``(n, P)``; nothing where there is no Hessian."""
    maximum = result.maximum
    if not maximum.hessian.numel():
        return np.zeros((1, len(result.params)))
    inverse = maximum.covariance("observed").nan_to_num(0.0)
    rows = maximum.objective.scores(maximum.theta) @ inverse @ maximum.to_user.jacobian(maximum.theta).mT
    return rows.numpy(force=True)


def _warn(result: FitResult, lost: np.ndarray, reason: str) -> None:
    if lost.any():
        warnings.warn(
            f"no bootstrap error for {', '.join(np.array(result.param_names)[lost])}: {reason}",
            SingularInformationWarning,
            stacklevel=4,
        )


def _warn_of_few(found: int, level: float, method: str) -> bool:
    """Quantiles of m replicates reach from 1/(m + 1) to m/(m + 1); whether that is too little."""
    needed = round(2.0 / (1.0 - level)) - 1
    are_few = method != "normal" and found < needed
    if are_few:
        warnings.warn(
            f"{found} replicates do not reach the quantiles of {level:.4g} intervals by {method!r}: ends are the "
            f"extremes; ask for at least {needed}, better 25 times as many",
            UserWarning,
            stacklevel=3,
        )
    return are_few
