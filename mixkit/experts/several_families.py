"""What experts share that are made of other families of experts."""

from collections.abc import Collection
from typing import Any

from torch import Tensor, nn

from .base import Experts

__all__ = ["SeveralFamilies"]


class SeveralFamilies(Experts):
    """Experts made of families, of which those that know some last columns of x know the same.

    Args:
        families: the families, in their order.

    Raises:
        TypeError: if one is no family of experts.
        ValueError: if there is none, or two know different columns of x (an offset, numbers of trials).
    """

    def __init__(self, families: Collection[Experts]) -> None:
        super().__init__()
        if not len(families):
            raise ValueError("families must hold at least one family of experts, got none")
        for family in families:
            if not isinstance(family, Experts):
                raise TypeError(f"families must hold mixkit.experts.Experts, got {type(family).__name__}")
        known = list(dict.fromkeys(family.known_columns for family in families if family.known_columns))
        if len(known) > 1:
            raise ValueError(f"families must know the same columns of x, got {known[0]} and {known[1]}")
        self.families = nn.ModuleList(families)

    def _parts(self) -> list[Any]:
        return list(self.families)

    def _rows(self, x: Tensor) -> list[Tensor]:
        """What each family sees of x."""
        covariates = x[..., : x.shape[-1] - len(self.known_columns)]
        return [x if part.known_columns else covariates for part in self._parts()]

    @property
    def has_offset(self) -> bool:
        """Whether x has a column that is an offset of some family."""
        return any(part.has_offset for part in self._parts())

    @property
    def known_columns(self) -> tuple[str, ...]:
        """The known columns of the families that have some; the others do not see them."""
        return next((part.known_columns for part in self._parts() if part.known_columns), ())
