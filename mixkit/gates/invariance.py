"""What a gate leaves undetermined: which of its parameters one vector may be added to, for all experts at once."""

from typing import NamedTuple

from .gate import Gate

__all__ = ["GateInvariance"]


class GateInvariance(NamedTuple):
    """Translations of the gate that leave every conditional density as it is.

    Attributes:
        bias: whether one number may be added to every beta_0.
        weight: whether one vector may be added to every beta_1.

    Example:
        >>> import torch
        >>> from mixkit.gates import laplace_gate
        >>> GateInvariance.of(laplace_gate(1, 2, generator=torch.Generator().manual_seed(0)))
        GateInvariance(bias=True, weight=False)
    """

    bias: bool = True
    weight: bool = True

    @classmethod
    def of(cls, gate: Gate | None) -> "GateInvariance":
        """That of a gate: both for softmax and top-K gates (and for None), with or without a temperature; the
        bias alone for activation and Laplace gates; none for sigmoid gates.

        Raises:
            TypeError: if ``gate`` is not a gate.
        """
        if gate is None:
            return cls()
        if not isinstance(gate, Gate):
            raise TypeError(f"gate must be a mixkit.gates.Gate or None, got {type(gate).__name__}")
        if not gate.shift_invariant:
            return cls(False, False)
        return cls("bias" in gate.score.translated, gate.score.weight_name in gate.score.translated)
