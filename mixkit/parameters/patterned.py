"""Modules whose coefficients follow a pattern: what is free is a parameter, all coefficients are read from it."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from .coefficient_block import CoefficientBlock
from .pattern import CoefficientPattern
from .record import Axis, ParameterRecord

__all__ = ["Patterned"]

_ROUNDING = 1e-9


class Patterned(nn.Module):
    """A module with slopes and intercepts, which may be those of a :class:`CoefficientPattern`.

    Without a pattern both are parameters. With one the parameters hold the free coefficients alone,
    ``free_<name> (*batch, F)`` for each of the two names, or ``(*batch, p, F)`` for locations in p dimensions, and
    ``<name>`` reads as the tensor of all coefficients. Where a block has no free coefficient, ``free_<name>`` is an
    empty buffer.

    Attributes:
        pattern: which coefficients are free, shared, fixed or absent; None if each is a parameter of its own.
        coefficient_names: names of the slopes and of the intercepts.
    """

    pattern: CoefficientPattern | None = None
    coefficient_names: tuple[str, str]

    def _set_pattern(self, pattern: Any, num_features: int, num_experts: int) -> None:
        """Keep a pattern, which has to have these sizes, or None."""
        if pattern is not None and not isinstance(pattern, CoefficientPattern):
            raise TypeError(f"pattern must be a mixkit.parameters.CoefficientPattern, got {type(pattern).__name__}")
        if pattern is not None and (pattern.num_experts, pattern.num_features) != (num_experts, num_features):
            raise ValueError(
                f"pattern must have {num_experts} experts and {num_features} covariates, "
                f"got {pattern.num_experts} and {pattern.num_features}"
            )
        self.pattern = pattern

    def _set_free(self, name: str, free: Tensor) -> None:
        """Register the free coefficients of one block."""
        if free.shape[-1]:
            self.register_parameter(f"free_{name}", nn.Parameter(free))
        else:
            self.register_buffer(f"free_{name}", free, persistent=False)
        self.register_buffer(f"_{name}_index", self.blocks[name].index_tensor(), persistent=False)

    @property
    def blocks(self) -> dict[str, CoefficientBlock]:
        """The blocks of the pattern by name; none without a pattern."""
        if self.pattern is None:
            return {}
        return dict(zip(self.coefficient_names, (self.pattern.slopes, self.pattern.intercepts), strict=True))

    def __getattr__(self, name: str) -> Any:
        """All coefficients of a block by its name; whatever modules have otherwise."""
        if name in type(self).coefficient_names and self.__dict__.get("pattern") is not None:
            return self._full(name)
        return super().__getattr__(name)

    def _full(self, name: str) -> Tensor:
        """Slopes ``(*batch, k, d)`` or ``(*batch, k, p, d)``, or intercepts without the last dimension."""
        free = getattr(self, f"free_{name}")
        full = self.blocks[name].full(free, getattr(self, f"_{name}_index"))
        if self._is_vector:
            full = full.movedim(-3, -2)
        return full if name == self.coefficient_names[0] else full.squeeze(-1)

    @property
    def _is_vector(self) -> bool:
        """Whether locations have p dimensions."""
        return False

    def patterned_records(self, slope: ParameterRecord, intercept: ParameterRecord) -> tuple[ParameterRecord, ...]:
        """The records of slopes and intercepts, which are those of their free coefficients where there is a pattern."""
        if self.pattern is None:
            return slope, intercept
        rows = (Axis.LOCATION,) if self._is_vector else ()
        absorbs = tuple(f"free_{name}" for name in intercept.units.absorbs)
        return (
            replace(
                slope,
                name=f"free_{slope.name}",
                axes=(*rows, Axis.COEFFICIENT),
                pattern=self.pattern.slopes,
            ),
            replace(
                intercept,
                name=f"free_{intercept.name}",
                axes=(*rows, Axis.GROUP),
                units=replace(intercept.units, absorbs=absorbs),
                pattern=self.pattern.intercepts,
            ),
        )

    @torch.no_grad()
    def set_coefficients(self, name: str, full: Tensor) -> bool:
        """Set a block from all its coefficients, and tell whether the pattern has them (to rounding)."""
        getattr(self, f"free_{name}").copy_(self.read_coefficients(name, full))
        size = full.abs().amax().clamp(min=1.0) if full.numel() else full.new_ones(())
        return bool(((getattr(self, name) - full).abs() <= _ROUNDING * size).all())

    def read_coefficients(self, name: str, full: Tensor) -> Tensor:
        """The parameter of a block from all its coefficients, of the shape that ``<name>`` has.

        A coefficient that experts share is read off the first of them.
        """
        if self.pattern is None:
            return full
        rows = full if name == self.coefficient_names[0] else full.unsqueeze(-1)
        return self.blocks[name].read(rows.movedim(-2, -3) if self._is_vector else rows)
