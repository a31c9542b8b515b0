"""The record of a parameter: all that labels, floors, priors, penalties and searches need to know of it."""

from dataclasses import dataclass, replace
from enum import Enum, IntEnum

import torch
from torch import Tensor

from .coefficient_block import CoefficientBlock
from .transforms import Identity, Transform

_IDENTITY = Identity()

__all__ = ["Axis", "DefaultPrior", "ParameterRecord", "Place", "Slope", "UnitChange"]


class Axis(Enum):
    """What a dimension of a parameter counts.

    ``PRODUCT`` counts products of two covariates in the order of ``torch.triu_indices(d, d)``; ``LOCATION`` the
    locations of a density; ``CLASS`` the classes of a response but the last, relative to which they are.
    ``COEFFICIENT`` counts the free slopes of a pattern, each of a covariate and of an expert or several, and ``GROUP``
    its free intercepts, each of an expert or several.
    """

    EXPERT = "expert"
    COVARIATE = "covariate"
    PRODUCT = "product of two covariates"
    RESPONSE = "coordinate of the response"
    LOCATION = "location"
    CLASS = "class"
    COEFFICIENT = "coefficient of a pattern"
    GROUP = "group of experts"
    OTHER = "other"


class Place(IntEnum):
    """Where a parameter stands in a table, in reading order."""

    GATE_WEIGHT = 0
    GATE_BIAS = 1
    GATE = 2
    LOCATION = 3
    FAMILY = 4


class Slope(Enum):
    """Which strength of a penalty on slopes a parameter falls under."""

    GATE = "gate"
    EXPERTS = "experts"


@dataclass(frozen=True)
class UnitChange:
    r"""How a parameter changes when covariates become ``center + scale z`` and the location ``mean + std u``.

    A parameter v of the standardized model becomes :math:`v \prod_c \mathrm{scale}_c^{a} \, \mathrm{std}^{b}`, the
    product over the covariates that its entry belongs to; a logarithm has the logarithm of these factors added. What a
    shift of covariates adds is said by ``is_position`` and ``absorbs``.

    Attributes:
        covariate_power: a: -1 for weights and slopes, 1 for positions among the covariates.
        location_power: b: 1 for slopes, intercepts and scales in the units of the location.
        is_position: whether the center of the covariates is added.
        is_level: whether the mean of the locations is added.
        absorbs: names, in the same module, of coefficients of covariates whose product with the center is subtracted.
    """

    covariate_power: int = 0
    location_power: int = 0
    is_position: bool = False
    is_level: bool = False
    absorbs: tuple[str, ...] = ()


@dataclass(frozen=True)
class DefaultPrior:
    """The default normal prior of every entry, in the units of a standardized model."""

    mean: float = 0.0
    std: float = 1.0


@dataclass(frozen=True)
class ParameterRecord:
    """What a parameter is.

    Attributes:
        name: in its module; from :func:`~mixkit.parameters.records_of` on, in the model.
        block: what users call it.
        axes: what its dimensions count, those of a batch of models left out; all ``OTHER`` if empty.
        transform: from the free numbers to what users read.
        has_floor: whether its logarithms of scales have a lower bound, relative to the scale of the locations.
        is_translated: whether one vector may be added to the rows of all experts with no effect on the distribution.
        is_redundant: whether the other parameters can make up for any change of this one.
        units: how it changes with the units of covariates and locations.
        prior: default prior.
        slope: which slopes it belongs to; None for what penalties on slopes leave alone.
        is_centered: whether a penalty takes it relative to the mean over experts.
        place: where it stands in tables.
        labels: of its locations or coordinates of the response; their numbers if None.
        first_expert: number of its first expert.
        is_part: whether there are experts beside those of its module.
        pattern: which experts and columns its entries belong to, where it holds the free coefficients of a pattern.
        family: name in the model of the family of experts it belongs to; None for those of the gate.
        parent: name in the model of its module.
        is_generic: whether its module says nothing of it.

    Example:
        >>> record = ParameterRecord("weight", "gate_weight", (Axis.EXPERT, Axis.COVARIATE))
        >>> record.label((1, 0)), record.at("gate.score.").name
        ('gate_weight[1,x0]', 'gate.score.weight')
    """

    name: str
    block: str
    axes: tuple[Axis, ...] = ()
    transform: Transform = _IDENTITY
    has_floor: bool = False
    is_translated: bool = False
    is_redundant: bool = False
    units: UnitChange = UnitChange()
    prior: DefaultPrior = DefaultPrior()
    slope: Slope | None = None
    is_centered: bool = False
    place: Place = Place.FAMILY
    labels: tuple[str, ...] | None = None
    first_expert: int = 0
    is_part: bool = False
    pattern: CoefficientBlock | None = None
    family: str | None = None
    parent: str = ""
    is_generic: bool = False

    def at(self, prefix: str) -> "ParameterRecord":
        """The record in a module that has this one's under ``prefix``, which ends in a dot."""
        family = None if self.family is None else (prefix + self.family).removesuffix(".")
        return replace(self, name=prefix + self.name, parent=(prefix + self.parent).removesuffix("."), family=family)

    def label(self, index: tuple[int, ...]) -> str:
        """What users call the entry at ``index``; columns of covariates are x0, x1, ..."""
        block, index = self.transform.entry(self.block, index)
        axes = self.axes or (Axis.OTHER,) * len(index)
        if self.pattern is not None:
            axes, index = (Axis.GROUP, *(axis for axis in axes if axis is not Axis.GROUP)), (index[-1], *index)
        places = [self._place(axis, place) for axis, place in zip(axes, index, strict=False)]
        return f"{block}[{','.join(places)}]" if places else block

    def _place(self, axis: Axis, place: int) -> str:
        if self.pattern is not None and axis is Axis.GROUP:
            return self.pattern.who(place, self.first_expert, is_part=self.is_part)
        if self.pattern is not None and axis is Axis.COEFFICIENT:
            return f"x{self.pattern.columns[place]}"
        if axis is Axis.COVARIATE:
            return f"x{place}"
        if axis is Axis.EXPERT:
            return str(self.first_expert + place)
        if self.labels is not None and axis in (Axis.LOCATION, Axis.RESPONSE, Axis.CLASS):
            return self.labels[place]
        return str(place)

    def along_covariates(self, values: Tensor) -> Tensor | None:
        """Numbers ``(d,)``, one a covariate, along the last axis of the parameter; None where that counts none.

        Products of covariates have the product of their numbers.
        """
        last = self.axes[-1] if self.axes else Axis.OTHER
        if last is Axis.PRODUCT:
            rows, columns = torch.triu_indices(len(values), len(values))
            return values[rows] * values[columns]
        if last is Axis.COEFFICIENT and self.pattern is not None:
            return values[torch.tensor(self.pattern.columns, dtype=torch.long, device=values.device)]
        return values if last is Axis.COVARIATE else None

    def is_free(self, parameter: Tensor) -> Tensor:
        """Which entries of an unbatched parameter are free numbers, bool of its shape."""
        return self.transform.is_free(tuple(parameter.shape))
