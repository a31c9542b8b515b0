"""The likelihood-ratio test of nested fits."""

import warnings
from dataclasses import dataclass

import torch
from scipy.stats import chi2
from torch import Tensor

from ..results.fit_result import FitResult
from ..results.maximum import DataRemovedError

__all__ = ["LikelihoodRatioTest", "NonRegularTestWarning", "check_observations", "likelihood_ratio_test"]

_ROUNDING = 1e-6  # a larger model may fit worse by this, relative to the log-likelihood, before it is an error


class NonRegularTestWarning(UserWarning):
    """A p value rests on conditions that do not hold."""


@dataclass(frozen=True)
class LikelihoodRatioTest:
    """A test of a model against a larger one.

    Attributes:
        statistic: twice the difference of the log-likelihoods.
        df: difference in the number of free parameters.
        p_value: probability that a chi-square variable of ``df`` degrees of freedom exceeds the statistic.
    """

    statistic: float
    df: int
    p_value: float

    def __str__(self) -> str:
        """The figures in a line."""
        return f"likelihood ratio {self.statistic:.4f}, df {self.df}, p = {self.p_value:.4g}"


def likelihood_ratio_test(small: FitResult, large: FitResult) -> LikelihoodRatioTest:
    r"""Test ``small`` against ``large``, a model that contains it: :math:`2 (\ell_1 - \ell_0) \sim \chi^2_{df}`.

    Nested are, for one k: a constant gate in a softmax gate, shared standard deviations in separate ones, constant in
    linear means, fewer covariates in more. That the models are nested is the caller's word; that they are fits of one
    response, ordered in size and likelihood, is checked.

    Args:
        small: a fit of the model under the null hypothesis.
        large: a fit of the larger model to the same observations (``x`` may have more columns).

    Raises:
        TypeError: if an argument is not a :class:`~estimators.FitResult`.
        ValueError: if the fits are of different observations or weights, if ``large`` has no more free parameters, or
            if it fits worse, so that it is no maximum or does not contain ``small``.

    Warns:
        NonRegularTestWarning: if the models differ in k, where the distribution of the statistic is no chi-square
            (:func:`~estimators.inference.bootstrap_lrt` finds it), or if a fit has not converged or is penalized.

    Source: Wilks (1938), Annals of Mathematical Statistics 9, 60-62.

    Example:
        >>> import torch
        >>> from estimators import MLE
        >>> from mixkit import MixtureOfExperts, constant_gate, linear_gaussian_experts, softmax_gate
        >>> from mixkit.datasets import load_tone
        >>> g = torch.Generator().manual_seed(0)
        >>> experts = linear_gaussian_experts(1, 2, generator=g)
        >>> fits = [
        ...     MLE(random_state=0).fit(MixtureOfExperts(gate, experts), *load_tone())
        ...     for gate in (constant_gate(2), softmax_gate(1, 2, generator=g))
        ... ]
        >>> print(likelihood_ratio_test(*fits))
        likelihood ratio 3.2992, df 1, p = 0.06931
    """
    for name, fit in (("small", small), ("large", large)):
        if not isinstance(fit, FitResult):
            raise TypeError(f"{name} must be a FitResult, got {type(fit).__name__}")
    check_observations(small, large)
    df = large.df_model - small.df_model
    if df <= 0:
        raise ValueError(f"large must have more free parameters than small, got {large.df_model} and {small.df_model}")
    gain = large.llf - small.llf
    if gain < -_ROUNDING * (1.0 + abs(small.llf)):
        raise ValueError(
            f"large must fit at least as well as small, got log-likelihoods {large.llf:.6f} and {small.llf:.6f}: it is "
            "not at its maximum (use more starts), or does not contain the small model"
        )
    _warn(small, large)
    statistic = 2.0 * max(gain, 0.0)
    return LikelihoodRatioTest(statistic, df, float(chi2.sf(statistic, df)))


def check_observations(small: FitResult, large: FitResult) -> None:
    """Raise ``ValueError`` unless two fits are of the same observations and weights, as far as is known."""
    if small.nobs != large.nobs:
        raise ValueError(f"small and large must be fits of the same observations, got {small.nobs} and {large.nobs}")
    try:
        data = small.maximum.data, large.maximum.data
    except DataRemovedError:
        return
    for name in ("y", "weight"):
        if not _equal(getattr(data[0], name), getattr(data[1], name)):
            raise ValueError(f"small and large must be fits of the same observations, got different values of {name}")
    first, second = (None if part.units is None else part.units.index for part in data)
    if not _equal(first, second):
        raise ValueError("small and large must be fits of the same groups, got others")


def _equal(first: Tensor | None, second: Tensor | None) -> bool:
    if first is None or second is None:
        return first is second
    return torch.equal(first, second)


def _warn(small: FitResult, large: FitResult) -> None:
    k = small.model.num_experts, large.model.num_experts
    if k[0] != k[1]:
        warnings.warn(
            f"small has {k[0]} experts and large {k[1]}: the statistic has no chi-square distribution; see "
            "bootstrap_lrt",
            NonRegularTestWarning,
            stacklevel=3,
        )
    loose = [name for name, fit in (("small", small), ("large", large)) if not fit.converged]
    if loose:
        warnings.warn(
            f"{' and '.join(loose)} did not converge: the p value is unreliable", NonRegularTestWarning, stacklevel=3
        )
    penalized = [name for name, fit in (("small", small), ("large", large)) if fit.is_penalized]
    if penalized:
        warnings.warn(
            f"{' and '.join(penalized)} maximized a penalized likelihood: the statistic has no chi-square distribution",
            NonRegularTestWarning,
            stacklevel=3,
        )
