"""Predictors: what an expert's location is, as a function of the covariates."""

from abc import ABC, abstractmethod
from dataclasses import replace

import torch
from torch import Tensor, nn

from .._validation import check_integer, check_last_dim
from ..parameters import (
    Axis,
    CoefficientPattern,
    Computation,
    DefaultPrior,
    ParameterRecord,
    Patterned,
    Place,
    Slope,
    UnitChange,
)

__all__ = ["ConstantPredictor", "LinearPredictor", "ModulePredictor", "Predictor"]


class Predictor(Computation, nn.Module, ABC):
    """Maps covariates ``x (*batch, n, d)`` to one location per expert, ``(*batch, n, k)`` or ``(*batch, n, k, p)``.

    Attributes:
        num_experts: number of experts ``k``.
        response_dim: dimension ``p`` of the response; ``None`` for a scalar response.
        has_offset: whether the last column of x is an offset: known, and added to every location as it is. With
            locations that are logarithms of means, the logarithm of an exposure makes them those of rates. A mixture
            of such experts leaves the column out of what its gate sees.
    """

    computed_by = ("forward",)
    num_experts: int
    response_dim: int | None = None
    has_offset: bool = False

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Locations of every expert at every row of ``x``."""

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading dimensions of independent models; those of the constants of experts, too, unless they are told."""
        return ()

    def adapt_record(self, record: ParameterRecord) -> ParameterRecord:
        """A record; unknown matrices, those of networks, count as slopes."""
        if not record.is_generic:
            return record
        slope = Slope.EXPERTS if self.get_parameter(record.name).ndim > 1 else None
        return replace(record, block=f"experts.predictor.{record.name}", slope=slope, place=Place.LOCATION)

    def _set_offset(self, offset: bool) -> None:
        if offset and self.response_dim is not None:
            raise ValueError(f"offset needs a scalar location, response_dim None, got {self.response_dim}")
        self.has_offset = bool(offset)

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Covariates, and the offset ``(*batch, n, 1)`` if there is one."""
        return (x[..., :-1], x[..., -1:]) if self.has_offset else (x, None)


def _initial(
    shape: tuple[int, ...],
    dtype: torch.dtype | None,
    device: torch.device | str | None,
    generator: torch.Generator | None,
) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape, dtype=dtype, device=device, generator=generator))


class LinearPredictor(Patterned, Predictor):
    r"""Affine locations :math:`\eta_j(x) = a_j^\top x + b_j`.

    Args:
        num_features: number of covariates ``d``.
        num_experts: number of experts ``k``.
        response_dim: dimension ``p`` of the response; ``None`` for a scalar response.
        offset: whether x has one more column, the last, that is added to every location as it is.
        pattern: which coefficients experts share, which are fixed or absent, and so which columns each expert reads;
            None if every expert has its own of every covariate. Each coordinate of a vector has the same pattern, and
            coefficients of its own.
        batch_shape: leading dimensions of independent models.
        dtype: dtype of the parameters.
        device: device of the parameters.
        generator: source of the initial values, standard normal.

    Attributes:
        slope: ``(*batch, k, d)``, or ``(*batch, k, p, d)`` for a vector response.
        intercept: ``(*batch, k)``, or ``(*batch, k, p)``.
        free_slope: with a pattern the parameter, its F free slopes ``(*batch, F)``, or ``(*batch, p, F)``.
        free_intercept: likewise.

    Raises:
        TypeError: if ``pattern`` is no :class:`~mixkit.parameters.CoefficientPattern`.
        ValueError: if it has another number of experts or covariates.

    Example:
        >>> import torch
        >>> predictor = LinearPredictor(2, 3, generator=torch.Generator().manual_seed(0))
        >>> predictor(torch.ones(5, 2)).shape
        torch.Size([5, 3])
        >>> from mixkit.parameters import CoefficientPattern
        >>> predictor = LinearPredictor(2, 3, pattern=CoefficientPattern.of(3, 2, common=[1]))
        >>> predictor.free_slope.shape  # three slopes of the first covariate, one of the second
        torch.Size([4])
    """

    coefficient_names = ("slope", "intercept")

    def __init__(
        self,
        num_features: int,
        num_experts: int,
        *,
        response_dim: int | None = None,
        offset: bool = False,
        pattern: CoefficientPattern | None = None,
        batch_shape: tuple[int, ...] = (),
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.num_features = check_integer("num_features", num_features, low=1)
        self.num_experts = check_integer("num_experts", num_experts, low=1)
        self.response_dim = None if response_dim is None else check_integer("response_dim", response_dim, low=1)
        self._set_offset(offset)
        self._set_pattern(pattern, self.num_features, self.num_experts)
        if pattern is not None:
            rows = batch_shape if response_dim is None else (*batch_shape, response_dim)
            for name, block in self.blocks.items():
                self._set_free(name, _initial((*rows, block.num_free), dtype, device, generator).detach())
            return
        rows = (*batch_shape, num_experts) if response_dim is None else (*batch_shape, num_experts, response_dim)
        self.slope = _initial((*rows, num_features), dtype, device, generator)
        self.intercept = _initial(rows, dtype, device, generator)

    @property
    def _is_vector(self) -> bool:
        """Whether locations have p dimensions."""
        return self.response_dim is not None

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading dimensions of independent models."""
        return _batch_of(self)

    def forward(self, x: Tensor) -> Tensor:
        """Locations ``(*batch, n, k)`` or ``(*batch, n, k, p)``."""
        check_last_dim("x", x, self.num_features + self.has_offset, self._columns)
        x, offset = self._split(x)
        if self.response_dim is None:
            return _added(x @ self.slope.mT + self.intercept.unsqueeze(-2), offset)
        flat = x @ self.slope.flatten(-3, -2).mT
        return flat.unflatten(-1, (self.num_experts, self.response_dim)) + self.intercept.unsqueeze(-3)

    @property
    def _columns(self) -> str:
        return "columns, covariates and the offset," if self.has_offset else "covariates"

    def parameter_records(self) -> tuple[ParameterRecord, ...]:
        """Slopes in units of the location over those of the covariates, and intercepts that absorb shifts of both."""
        slope = ParameterRecord(
            "slope",
            "slope",
            (*_rows(self), Axis.COVARIATE),
            units=UnitChange(covariate_power=-1, location_power=1),
            prior=_PRIOR,
            slope=Slope.EXPERTS,
            place=Place.LOCATION,
        )
        return self.patterned_records(slope, _intercept_record(self, "slope"))

    def extra_repr(self) -> str:
        """The sizes shown by ``repr``."""
        pattern = "" if self.pattern is None else f", pattern={self.pattern}"
        return f"num_features={self.num_features}, {_sizes(self)}{pattern}"


class ConstantPredictor(Predictor):
    r"""Locations that do not depend on the covariates, :math:`\eta_j(x) = b_j`.

    Arguments and ``intercept`` are those of :class:`LinearPredictor`.

    Example:
        >>> import torch
        >>> predictor = ConstantPredictor(3, generator=torch.Generator().manual_seed(0))
        >>> predictor(torch.ones(5, 2)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        num_experts: int,
        *,
        response_dim: int | None = None,
        offset: bool = False,
        batch_shape: tuple[int, ...] = (),
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.num_experts = check_integer("num_experts", num_experts, low=1)
        self.response_dim = None if response_dim is None else check_integer("response_dim", response_dim, low=1)
        self._set_offset(offset)
        rows = (*batch_shape, num_experts) if response_dim is None else (*batch_shape, num_experts, response_dim)
        self.intercept = _initial(rows, dtype, device, generator)

    @property
    def batch_shape(self) -> tuple[int, ...]:
        """Leading dimensions of independent models."""
        return _batch_of(self)

    def forward(self, x: Tensor) -> Tensor:
        """Locations ``(*batch, n, k)`` or ``(*batch, n, k, p)``, constant along ``n``."""
        tail = 1 if self.response_dim is None else 2
        rows = self.intercept.unsqueeze(-1 - tail)
        batch = torch.broadcast_shapes(x.shape[:-1], rows.shape[:-tail])
        return _added(rows.expand(*batch, *rows.shape[-tail:]), self._split(x)[1])

    def parameter_records(self) -> tuple[ParameterRecord, ...]:
        """The intercepts."""
        return (_intercept_record(self),)

    def extra_repr(self) -> str:
        """The sizes shown by ``repr``."""
        return _sizes(self)


class ModulePredictor(Predictor):
    r"""Locations computed by any module, :math:`\eta(x) = m(x)`.

    Args:
        module: maps ``(*batch, n, d)`` to ``(*batch, n, k)``, a neural network for example; for a vector response to
            ``(*batch, n, k, p)``, as a last layer ``nn.Unflatten(-1, (k, p))`` does.
        num_experts: number of experts ``k``.
        response_dim: dimension ``p`` of the response; ``None`` for a scalar response.
        offset: whether x has one more column, the last, that the module does not see and that is added to every
            location as it is.

    Raises:
        TypeError: if ``module`` is not a module.
        ValueError: on the first call whose output ends in other dimensions.

    Example:
        >>> import torch
        >>> network = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
        >>> ModulePredictor(network, 3)(torch.ones(5, 2)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self, module: nn.Module, num_experts: int, *, response_dim: int | None = None, offset: bool = False
    ) -> None:
        super().__init__()
        if not isinstance(module, nn.Module):
            raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
        self.num_experts = check_integer("num_experts", num_experts, low=1)
        self.response_dim = None if response_dim is None else check_integer("response_dim", response_dim, low=1)
        self._set_offset(offset)
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """Locations ``(*batch, n, k)`` or ``(*batch, n, k, p)``."""
        x, offset = self._split(x)
        locations = self.module(x)
        tail = (self.num_experts,) if self.response_dim is None else (self.num_experts, self.response_dim)
        if locations.shape != (*x.shape[:-1], *tail):
            raise ValueError(
                f"the output of module must have shape {(*x.shape[:-1], *tail)}, got {tuple(locations.shape)}"
            )
        return _added(locations, offset)

    def extra_repr(self) -> str:
        """The sizes shown by ``repr``."""
        return _sizes(self)


_PRIOR = DefaultPrior(std=2.5)


def _rows(predictor: Predictor) -> tuple[Axis, ...]:
    return (Axis.EXPERT,) if predictor.response_dim is None else (Axis.EXPERT, Axis.LOCATION)


def _intercept_record(predictor: Predictor, *absorbs: str) -> ParameterRecord:
    units = UnitChange(location_power=1, is_level=True, absorbs=absorbs)
    return ParameterRecord("intercept", "intercept", _rows(predictor), units=units, prior=_PRIOR, place=Place.LOCATION)


def _batch_of(predictor: LinearPredictor | ConstantPredictor) -> tuple[int, ...]:
    return tuple(predictor.intercept.shape[: -1 if predictor.response_dim is None else -2])


def _added(locations: Tensor, offset: Tensor | None) -> Tensor:
    return locations if offset is None else locations + offset


def _sizes(predictor: Predictor) -> str:
    response = "" if predictor.response_dim is None else f", response_dim={predictor.response_dim}"
    return f"num_experts={predictor.num_experts}{response}{', offset=True' if predictor.has_offset else ''}"
