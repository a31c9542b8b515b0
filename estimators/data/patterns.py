"""The pattern of coefficients that a part of a model has."""

from mixkit.parameters import CoefficientPattern

__all__ = ["pattern_of"]


def pattern_of(part: object) -> CoefficientPattern | None:
    """The pattern of a score or a predictor; None of one without, and of None."""
    found = getattr(part, "pattern", None)
    return found if isinstance(found, CoefficientPattern) else None
