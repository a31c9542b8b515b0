"""The parts of a model that read covariates, and the patterns of their coefficients."""

from mixkit.experts import Experts
from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import CoefficientPattern

__all__ = ["families_of", "pattern_of", "pattern_or_own"]


def pattern_of(part: object) -> CoefficientPattern | None:
    """The pattern of a score or a predictor; None of one without, and of None."""
    found = getattr(part, "pattern", None)
    return found if isinstance(found, CoefficientPattern) else None


def pattern_or_own(part: object, k: int, d: int) -> CoefficientPattern:
    """The pattern of a part of k experts and d covariates, or one that says what a part without one reads."""
    pattern = pattern_of(part)
    if pattern is not None:
        return pattern
    has_slopes = any(getattr(part, name, None) is not None for name in ("weight", "slope"))
    return CoefficientPattern.of(k, d, columns=None if has_slopes else ())


def families_of(model: MixtureOfExperts) -> list[Experts]:
    """The families of experts of a model, side by side or of one response each, in order; one if they are no more."""
    return list(getattr(model.experts, "families", [model.experts]))
