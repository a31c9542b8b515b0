"""Families of experts as blocks of rows of one coefficient matrix."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mixkit.experts import DensityExperts, Experts, MixedExperts, NoiseExperts, PointMassExperts, ProductExperts
from mixkit.experts.base import DensityTerms
from mixkit.experts.predictors import LinearPredictor
from mixkit.parameters import ParameterRecord, has_form

from ...data.patterns import pattern_of
from ..softmax_gate.blocks import FIXED, PREDICTOR_NAMES, CoefficientRows, named_coefficients
from ..softmax_gate.objective import is_linear_predictor

__all__ = ["Block", "blocks_of", "joined"]


@dataclass(frozen=True)
class Block:
    """One family's place among the arguments of all densities.

    Expert j of the family has ``num_arguments`` consecutive rows: its locations, then its constants. In the row of a
    constant only the intercept is free.

    Attributes:
        family: the experts.
        prefix: of the names of its parameters in the model.
        first_expert: index of its first expert.
        first_row: index of its first row.
        response: the coordinate of the response that it sees; None for all. Blocks of different coordinates have the
            same experts, whose densities are products of theirs.
    """

    family: Experts
    prefix: str
    first_expert: int
    first_row: int
    response: int | None = None

    def own_response(self, y: Tensor) -> Tensor:
        """What the family sees of the responses of a chunk, ``(..., 1, c)``."""
        return y if self.response is None else y[self.response]

    @property
    def k(self) -> int:
        """Number of experts of the family."""
        return self.family.num_experts

    @property
    def num_locations(self) -> int:
        """Locations of an expert."""
        return self.family.num_locations if isinstance(self.family, DensityExperts) else 0

    @property
    def constant_names(self) -> tuple[str, ...]:
        """Names of the constants of an expert."""
        return self.family.constant_names if isinstance(self.family, DensityExperts) else ()

    @property
    def num_arguments(self) -> int:
        """Rows of an expert."""
        return self.num_locations + len(self.constant_names)

    @property
    def experts(self) -> slice:
        """The family's experts among all."""
        return slice(self.first_expert, self.first_expert + self.k)

    @property
    def rows(self) -> slice:
        """The family's rows among all."""
        return slice(self.first_row, self.first_row + self.k * self.num_arguments)

    def coefficients(self, pinned: Tensor) -> CoefficientRows | None:
        """Those of one location, ``pinned (k, d)`` held at zero; None if there are no locations."""
        if not isinstance(self.family, DensityExperts):
            return None
        predictor = self.family.predictor
        has_slopes = has_form(predictor, LinearPredictor)
        return CoefficientRows.of(predictor, self.k, pinned, has_slopes=has_slopes, is_relative=False)

    def entries(self, rows: CoefficientRows | None, width: int) -> tuple[Tensor, Tensor]:
        """Numbers of the coefficients, -1 where one is fixed, and the values of those; ``(k * arguments, D)`` each.

        Every location has the pattern of ``rows``, and coefficients of its own.
        """
        if rows is None:
            return torch.zeros((0, width), dtype=torch.long), torch.zeros((0, width), dtype=torch.float64)
        count, index, fixed = self.num_arguments, rows.index, rows.fixed
        numbers = torch.full((self.k, count, width), FIXED, device=index.device)
        values = fixed.new_zeros((self.k, count, width))
        for place in range(self.num_locations):
            numbers[:, place] = torch.where(index == FIXED, FIXED, index * count + place)
            values[:, place] = fixed
        experts, size = torch.arange(self.k, device=index.device), self.k * width
        for place in range(self.num_locations, count):
            numbers[:, place, -1] = (size + experts) * count + place
        return numbers.flatten(0, 1), values.flatten(0, 1)

    def read(self, d: int) -> Tensor:
        """The rows ``(k * arguments, D)`` of the family's parameters, in the units of the data."""
        family = self.family
        if not isinstance(family, DensityExperts):
            return torch.zeros((0, d + 1), dtype=torch.float64)
        predictor, shape = family.predictor, (self.k, self.num_locations)
        intercept = predictor.intercept.detach().double().reshape(*shape, 1)  # type: ignore[operator]
        slope = getattr(predictor, "slope", None)
        slopes = intercept.new_zeros((*shape, d)) if slope is None else slope.detach().double().reshape(*shape, d)
        constants = [getattr(family, name).detach().double().reshape(-1, 1) for name in self.constant_names]
        tail = [torch.cat([c.new_zeros((self.k, d)), c.expand(self.k, 1)], -1).unsqueeze(1) for c in constants]
        return torch.cat([torch.cat([slopes, intercept], -1), *tail], 1).flatten(0, 1)

    def parameters(self, rows: Tensor) -> dict[str, Tensor]:
        """The family's parameters by their names in the model, from its rows ``(k * arguments, D)``."""
        if not isinstance(self.family, DensityExperts):
            return {}
        rows = rows.unflatten(0, (self.k, self.num_arguments))
        locations, predictor = rows[:, : self.num_locations], self.family.predictor
        values = self._plain(locations) if pattern_of(predictor) is None else self._patterned(locations)
        for index, name in enumerate(self.constant_names):
            values[f"{self.prefix}.{name}"] = rows[:, self.num_locations + index, -1]
        return values

    def _patterned(self, locations: Tensor) -> dict[str, Tensor]:
        """What the free coefficients of the predictor are, or where they stand, from ``locations (k, L, D)``."""
        predictor: Any = self.family.predictor
        rows = locations[:, 0] if predictor.response_dim is None else locations.movedim(1, 0)
        return named_coefficients(predictor, f"{self.prefix}.predictor", PREDICTOR_NAMES, rows)

    def _plain(self, locations: Tensor) -> dict[str, Tensor]:
        """The same of a predictor without a pattern."""
        predictor: Any = self.family.predictor
        values = {f"{self.prefix}.predictor.intercept": _like(locations[..., -1], predictor.intercept)}
        if has_form(predictor, LinearPredictor):
            values[f"{self.prefix}.predictor.slope"] = _like(locations[..., :-1], predictor.slope)
        return values

    def placed(self, places: Tensor, records: dict[str, ParameterRecord]) -> Iterator[tuple[ParameterRecord, Tensor]]:
        """Records with the places of their entries in the vector, from those ``(k * arguments, D)`` of the rows."""
        if not isinstance(self.family, DensityExperts):
            return
        rows = places.unflatten(0, (self.k, self.num_arguments))
        locations = rows[:, : self.num_locations]
        is_plain = pattern_of(self.family.predictor) is None
        for name, place in (self._plain(locations) if is_plain else self._patterned(locations)).items():
            if name in records:
                yield records[name], place
        for index, name in enumerate(self.constant_names):
            yield records[f"{self.prefix}.{name}"], rows[:, self.num_locations + index, -1]

    def terms(self, y: Tensor, arguments: Tensor) -> DensityTerms:
        """Log-densities and derivatives at ``arguments (..., k, a, c)`` of responses ``y (..., 1, c)``."""
        if isinstance(self.family, DensityExperts):
            return self.family.density_terms(self.own_response(y), *arguments.unbind(-2))
        return DensityTerms(self.log_density(y, arguments), [], [])

    def log_density(self, y: Tensor, arguments: Tensor) -> Tensor:
        """Log-densities ``(..., k, c)``."""
        if isinstance(self.family, DensityExperts):
            return self.family.log_density(self.own_response(y), *arguments.unbind(-2))
        shape = (*arguments.shape[:-2], arguments.shape[-1])
        return self.family.fixed_log_density(y).expand(shape)  # type: ignore[operator]


def _like(values: Tensor, parameter: Any) -> Tensor:
    return values.reshape(parameter.shape)


def blocks_of(experts: Experts) -> list[Block] | None:
    """The blocks of a family or a container of families; None if one has no density to differentiate."""
    is_product = has_form(experts, ProductExperts)
    own: Any = experts.families if is_product or has_form(experts, MixedExperts) else None
    named = [("experts", experts)]
    if own is not None:
        named = [(f"experts.families.{index}", family) for index, family in enumerate(own)]
    blocks: list[Block] = []
    expert, row = 0, 0
    for index, (prefix, family) in enumerate(named):
        if not _is_known(family) or (is_product and not isinstance(family, DensityExperts)):
            return None
        blocks.append(Block(family, prefix, expert, row, index if is_product else None))
        expert += 0 if is_product else blocks[-1].k
        row += blocks[-1].k * blocks[-1].num_arguments
    return blocks


def joined(blocks: list[Block], densities: list[Tensor]) -> Tensor:
    """Log-densities ``(..., k, c)`` of all experts from those of the blocks: side by side, or sums over coordinates."""
    if blocks[0].response is None:
        return torch.cat(densities, -2)
    return torch.stack(densities).sum(0)


def _is_fixed(family: object) -> bool:
    """Whether a family of scalars has no parameters."""
    return has_form(family, PointMassExperts) or (has_form(family, NoiseExperts) and family.low.ndim == 0)


def _is_known(family: object) -> bool:
    if _is_fixed(family):
        return True
    if not isinstance(family, DensityExperts) or not family.is_consistent or family.known_columns:
        return False
    if not is_linear_predictor(family.predictor):
        return False
    has_own = all(getattr(family, name).shape == (family.num_experts,) for name in family.constant_names)
    return has_own and all(parameter.requires_grad for parameter in family.parameters())
