"""A module's free parameters as one vector."""

import math

import torch
from torch import Tensor

from mixkit.mixture import MixtureOfExperts

from .parameter_names import entry_name, is_logarithm, reading_order

__all__ = ["ParameterVector"]


class ParameterVector:
    """The trainable parameters of a model in one vector, without those the likelihood cannot determine.

    Where adding one constant to all scores changes nothing, the last expert's rows of the score's ``translated``
    parameters are held at zero: it is the reference expert.

    Args:
        model: an unbatched model.

    Attributes:
        names: of the entries in the module, P in all.
        labels: the same as users read them.
        is_log: entries of which users read the exponential, ``(P,)`` bool.
        size: P.
        positions: by parameter, where in the vector each of its entries is; P for those held at zero.
    """

    def __init__(self, model: MixtureOfExperts) -> None:
        trained = {name: p.shape for name, p in model.named_parameters() if p.requires_grad}
        shapes = {name: trained[name] for name in sorted(trained, key=reading_order)}
        pinned = [name for name in _reference_rows(model) if name in shapes]
        self._pinned = pinned
        self._keep = {name: torch.ones(shape, dtype=torch.bool) for name, shape in shapes.items()}
        for name in pinned:
            self._keep[name][-1] = False
        entries = [(name, tuple(i)) for name, keep in self._keep.items() for i in keep.nonzero().tolist()]
        self.names = [name + (str(list(index)).replace(" ", "") if index else "") for name, index in entries]
        self.labels = [entry_name(name, index) for name, index in entries]
        self.is_log = torch.tensor([is_logarithm(name) for name, _ in entries], dtype=torch.bool)
        self.size = len(self.names)
        self.positions = self._entries()

    def _entries(self) -> dict[str, Tensor]:
        """For every entry of each parameter its place in the vector; ``size``, one past the end, if held at zero."""
        places, start = {}, 0
        for name, keep in self._keep.items():
            places[name] = torch.where(keep, start + keep.flatten().cumsum(0).reshape(keep.shape) - 1, self.size)
            start += int(keep.sum())
        return places

    def to_parameters(self, vector: Tensor) -> dict[str, Tensor]:
        """Parameters by name, differentiable in ``vector (*batch, P)``; each keeps the batch in front of its shape."""
        padded = torch.cat([vector, vector.new_zeros((*vector.shape[:-1], 1))], -1)
        return {name: padded[..., position.to(vector.device)] for name, position in self.positions.items()}

    def read(self, model: MixtureOfExperts) -> Tensor:
        """The vector ``(P,)`` of a model, its gate translated so that the reference expert's score is zero."""
        parts = []
        for name, keep in self._keep.items():
            value = model.get_parameter(name).detach().to(torch.float64)
            value = value - value[-1:] if name in self._pinned else value
            parts.append(value[keep.to(value.device)])
        return torch.cat(parts)

    def write(self, vector: Tensor, model: MixtureOfExperts) -> None:
        """Set the parameters of a model."""
        with torch.no_grad():
            for name, value in self.to_parameters(vector).items():
                model.get_parameter(name).copy_(value)

    def lower_bounds(self, log_std_floor: float) -> Tensor:
        """Lower bounds ``(P,)``: the floor for entries of parameters named ``log_std`` or ``log_scale``, else none."""
        rows = [
            log_std_floor if name.split("[")[0].endswith(("log_std", "log_scale")) else -math.inf for name in self.names
        ]
        return torch.tensor(rows, dtype=torch.float64)


def _reference_rows(model: MixtureOfExperts) -> list[str]:
    """Gate parameters whose last row is redundant."""
    if not model.gate.shift_invariant:
        return []
    score = model.gate.score
    return [f"gate.score.{name}" for name in score.translated if getattr(score, name) is not None]
