"""What the fit to a stream's first rows leaves open."""

import warnings

from ..results.fit_result import FitResult

__all__ = ["IllDeterminedStartWarning", "start_remarks"]


class IllDeterminedStartWarning(UserWarning):
    """A stream starts from a fit that its first rows do not determine: where it goes may hang on rounding."""


def start_remarks(fit: FitResult, rows: int) -> list[str]:
    """What a reader should know of the start, in words; warns if an expert has collapsed or information is singular.

    Later rows move the estimate from where the start is, and seldom away from a collapsed expert. Where the first rows
    leave a direction flat, the search stops anywhere along it, and the smallest change of the data moves that end.
    """
    maximum = fit.maximum
    is_held = bool(maximum.objective.at_floor(maximum.theta).any())
    if is_held or _is_singular(fit):
        warnings.warn(
            f"the first {rows} rows do not determine the start of the stream, and its end may hang on rounding: "
            f"{'; '.join(fit.warnings)}; take more rows (start_rows) or fewer experts",
            IllDeterminedStartWarning,
            stacklevel=5,  # the caller of Stream.partial_fit
        )
    return [f"{remark} (in the first {rows} rows)" for remark in fit.warnings]


def _is_singular(fit: FitResult) -> bool:
    """Whether a parameter that no penalty set to zero has no standard error, where a Hessian was computed."""
    maximum = fit.maximum
    if not maximum.hessian.numel():
        return False
    lost = maximum.user_covariance("observed").diagonal().isnan()
    return bool((lost & ~maximum.objective.is_zeroed).any())
