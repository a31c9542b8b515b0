"""A module's free parameters as one vector."""

import torch
from torch import Tensor

from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import free_mask, records_of, relative_to_reference

from ..optimizers.objective import UserMap
from .floors import lower_bound
from .user_map import make_user_map

__all__ = ["ParameterVector"]


class ParameterVector:
    """The trainable parameters of a model in one vector, without those the likelihood cannot determine.

    Where one vector may be added to the rows of all experts, the last expert's row is held at zero: it is the reference
    expert. Structural zeros, as those of a Cholesky factor, are left out.

    Args:
        model: an unbatched model.

    Attributes:
        records: what each trainable parameter is, by its name, in the order of the vector.
        size: number P of entries.
        positions: by parameter, where in the vector each of its entries is; P for those held at zero.
    """

    def __init__(self, model: MixtureOfExperts) -> None:
        shapes = {name: p.shape for name, p in model.named_parameters() if p.requires_grad}
        self.records = {record.name: record for record in records_of(model) if record.name in shapes}
        self._keep = {n: free_mask(record, model.get_parameter(n)).cpu() for n, record in self.records.items()}
        self.size = sum(int(keep.sum()) for keep in self._keep.values())
        self.positions = self._entries()

    def _entries(self) -> dict[str, Tensor]:
        """For every entry of each parameter its place in the vector; ``size``, one past the end, if held at zero."""
        places, start = {}, 0
        for name, keep in self._keep.items():
            places[name] = torch.where(keep, start + keep.flatten().cumsum(0).reshape(keep.shape) - 1, self.size)
            start += int(keep.sum())
        return places

    def user_map(self, like: Tensor) -> UserMap:
        """How users' parameters follow from the vector; tensors as ``like``."""
        placed = [(record, self.positions[name]) for name, record in self.records.items()]
        return make_user_map(placed, like.new_zeros(self.size))

    def to_parameters(self, vector: Tensor) -> dict[str, Tensor]:
        """Parameters by name, differentiable in ``vector (*batch, P)``; each keeps the batch in front of its shape."""
        padded = torch.cat([vector, vector.new_zeros((*vector.shape[:-1], 1))], -1)
        return {name: padded[..., position.to(vector.device)] for name, position in self.positions.items()}

    def read(self, model: MixtureOfExperts) -> Tensor:
        """The vector ``(P,)`` of a model, its gate translated so that the reference expert's score is zero."""
        parts = []
        for name, keep in self._keep.items():
            value = model.get_parameter(name).detach().to(torch.float64)
            value = relative_to_reference(self.records[name], value)
            parts.append(value[keep.to(value.device)])
        return torch.cat(parts)

    def write(self, vector: Tensor, model: MixtureOfExperts) -> None:
        """Set the parameters of a model."""
        with torch.no_grad():
            for name, value in self.to_parameters(vector).items():
                model.get_parameter(name).copy_(value)

    def lower_bounds(self, model: MixtureOfExperts, y: Tensor, variance_floor: float) -> Tensor:
        """Lower bounds ``(P,)``, -inf where there is none, for responses ``y (r, n)`` or ``(r, n, p)``.

        A scale's is ``variance_floor`` relative to the variance of its own location.
        """
        bounds = [
            lower_bound(record, model, tuple(keep.shape), y, variance_floor)[keep.to(y.device)]
            for record, keep in zip(self.records.values(), self._keep.values(), strict=True)
        ]
        return torch.cat(bounds)
