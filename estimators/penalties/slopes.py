"""What penalties on slopes share: a strength for those of the gate, and one for those of the experts."""

from dataclasses import dataclass

from mixkit._validation import check_non_negative
from mixkit.parameters import ParameterRecord, Slope

from .base import Penalty

__all__ = ["SlopePenalty"]


@dataclass(frozen=True)
class SlopePenalty(Penalty):
    """A penalty on slopes.

    Args:
        gate: lambda of the gate, non-negative.
        experts: lambda of the experts, non-negative.

    Raises:
        ValueError: if one is negative or not finite.
    """

    gate: float = 0.0
    experts: float = 0.0

    def __post_init__(self) -> None:
        """Check the strengths."""
        check_non_negative("gate", self.gate)
        check_non_negative("experts", self.experts)

    def strength(self, record: ParameterRecord) -> float:
        """Lambda of a parameter; zero for what is no slope."""
        return {Slope.GATE: self.gate, Slope.EXPERTS: self.experts, None: 0.0}[record.slope]

    def determines(self, record: ParameterRecord) -> bool:
        """Slopes whose strength is positive."""
        return self.strength(record) > 0.0
