"""What every family of experts is, and what the fast estimators ask of one with linear predictors."""

import inspect
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from .._validation import can_read_values, check_finite, check_integer, check_tensor
from ..parameters import Axis, Computation, DefaultPrior, Exp, Identity, ParameterRecord, UnitChange
from .dominating_measure import DominatingMeasure
from .predictors import ConstantPredictor, LinearPredictor, Predictor

__all__ = [
    "SCALE_PRIOR",
    "DensityExperts",
    "DensityTerms",
    "Experts",
    "LocationExperts",
    "MultiLocationExperts",
    "OwnConstantsExperts",
    "check_counts",
    "check_predictor",
    "first_parameter",
    "linear_locations",
    "new_constant",
]


SCALE_PRIOR = DefaultPrior(mean=-1.0, std=1.5)
"""Of the logarithm of a scale: scales from 0.02 to 7 with probability 0.95."""


class DensityTerms(NamedTuple):
    """A component log-density and its derivatives in the predictors.

    Shapes put the experts first and the observations last, ``(..., k, n)``; the predictors are the L locations (one for
    :class:`LocationExperts`), then the constants in the order of ``constant_names``.
    """

    log_prob: Tensor  # (..., k, n)
    first: list[Tensor]  # one (..., k, n) a predictor
    second: list[list[Tensor]]  # second[i][j] for j <= i


class Experts(Computation, nn.Module, ABC):
    """Maps covariates to one distribution of the response per expert; ``forward`` is all that a family must have.

    Attributes:
        dominating_measure: what the densities are densities with respect to; None for families that do not say, which
            :class:`~mixkit.experts.MixedExperts` does not take. It belongs to a distribution: a subclass that has
            another one says it anew.
        needed_options: names of the arguments that :meth:`linear` must be given.
    """

    computed_by: ClassVar[tuple[str, ...]] = ("forward",)
    statements = ("dominating_measure",)
    dominating_measure: DominatingMeasure | None = None
    needed_options: ClassVar[tuple[str, ...]] = ()
    num_experts: int

    @abstractmethod
    def forward(self, x: Tensor) -> Distribution:
        """The components at ``x (*batch, n, d)``: batch shape ``(*batch, n, k)``, event shape ``()`` or ``(p,)``."""

    @property
    def has_offset(self) -> bool:
        """Whether the last column of x is an offset (see :class:`~mixkit.experts.predictors.Predictor`)."""
        return bool(getattr(getattr(self, "predictor", None), "has_offset", False))

    @property
    def known_columns(self) -> tuple[str, ...]:
        """What the last columns of x are that the experts know and no gate reads: an offset, numbers of trials."""
        return ("offset",) if self.has_offset else ()

    @classmethod
    def linear(cls, num_features: int, num_experts: int, **options: Any) -> "Experts":
        """Experts with locations linear in ``num_features`` covariates, constant ones for none.

        Keyword arguments are the family's own and those of :class:`~mixkit.experts.predictors.LinearPredictor`. See
        :func:`~mixkit.experts.family_by_name`, which builds them from a name.

        Raises:
            TypeError: if the family has no such locations, or an option is not given that it needs.
        """
        raise TypeError(f"{cls.__name__} has no linear locations")

    @classmethod
    def options_of(cls, response: Tensor) -> dict[str, Any]:
        """Arguments of :meth:`linear` that a response ``(n,)`` or ``(n, p)`` tells, its dimension for example."""
        return {}

    @property
    def is_location_scale(self) -> bool:
        """Whether ``mean + scale * y`` has a distribution of the family if y has, with other locations and scales."""
        return False

    def adapt_record(self, record: ParameterRecord) -> ParameterRecord:
        """A record, told which family it belongs to; an override says more of what is below."""
        return record if record.family is not None else replace(record, family="")

    def location_moments(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the experts' locations as far as responses tell, ``(*batch,)`` or more.

        They are the units of default priors and of the floors of scales. Zero and one unless a family knows better.

        Args:
            y: responses ``(n,)`` or ``(n, p)``.

        Returns:
            Each ``()``, or of the shape of one row of locations.
        """
        return y.new_zeros(()), y.new_ones(())

    def common_scale(self, mean: Tensor, std: Tensor) -> Tensor:
        """The unit ``()`` of a scale that has no dimension of locations, from their moments: the last deviation."""
        return std.reshape(-1)[-1]

    def response_of(self, part: nn.Module, y: Tensor) -> Tensor:
        """What of the response one of the families in this one sees: all, unless each has a coordinate of its own."""
        return y

    def check_response(self, y: Tensor) -> Tensor:
        """Return ``y`` if it can be a response of this family, else raise ``TypeError`` or ``ValueError``."""
        check_tensor("y", y)
        if can_read_values(y):
            check_finite("y", y.detach())
        return y

    def check_rows(self, x: Tensor, y: Tensor) -> Tensor:
        """Return ``y (*batch, n)`` or ``(*batch, n, p)`` if it can be the response at ``x (*batch, n, d)``, else raise.

        An override checks the known columns of x, too.
        """
        return self.check_response(y)


class DensityExperts(Experts):
    r"""Experts of a scalar response whose distribution depends on x through a few locations, plus constants.

    The log-density of expert j is :math:`f(y; \eta_{j1}(x), \dots, \eta_{jL}(x), c_{j1}, c_{j2}, \dots)`. A subclass
    names its constants, each a parameter of shape ``(*batch, k)`` (or ``(*batch, 1)`` where the experts share it), and
    writes ``log_density``; it may override ``density_terms`` with derivatives in closed form, which the estimators use
    for Newton steps. ``floor_name`` names the constant, the logarithm of a scale, that estimators keep above a floor
    because the likelihood has no bound as the scale vanishes.

    Users read the exponential of a constant that is named as a scale, and of any other whose name begins with
    ``log_``, under the name without it: ``std`` for ``log_std``. Override :meth:`parameter_records` to say otherwise.

    Derive from :class:`LocationExperts` (L = 1) or :class:`MultiLocationExperts`.
    """

    computed_by = ("forward", "log_density")
    predictor: Predictor
    num_locations: int = 1
    constant_names: tuple[str, ...] = ()
    floor_name: str | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Derivatives in closed form belong to a density: one that is overridden has those of autograd again."""
        super().__init_subclass__(**kwargs)
        if "log_density" in vars(cls) and "density_terms" not in vars(cls):
            cls.density_terms = DensityExperts.density_terms  # type: ignore[method-assign]

    def _make_constants(
        self,
        *,
        batch_shape: tuple[int, ...] | None,
        dtype: torch.dtype | None,
        device: torch.device | str | None,
    ) -> None:
        """Create the constants, one of each an expert, at 0; what is None is the predictor's."""
        for name in self.constant_names:
            size = self.num_experts
            constant = new_constant(self.predictor, size, batch_shape=batch_shape, dtype=dtype, device=device)
            self.register_parameter(name, constant)

    @property
    def is_consistent(self) -> bool:
        """Whether ``log_density`` is that of ``forward``: False where a subclass of a family overrides one of them."""
        found = [next(c for c in type(self).__mro__ if name in vars(c)) for name in DensityExperts.computed_by]
        is_own = any(name in vars(self) for name in DensityExperts.computed_by)
        older = max(found, key=type(self).__mro__.index)
        return not is_own and (found[0] is found[1] or inspect.isabstract(older))

    def start_locations(self, y: Tensor) -> list[Tensor]:
        """Rough locations at single responses, L tensors like ``y``, from which fits start; zeros unless told.

        NaN where a response says nothing of a location.
        """
        return [torch.zeros_like(y) for _ in range(self.num_locations)]

    def observed(self, x: Tensor, y: Tensor) -> Tensor:
        """What ``log_density`` reads of the rows ``x (..., n, d)`` and ``y (..., n)``: the responses, unless told.

        A family that reads more numbers of a row gives them in one more dimension, the last, and takes them in
        ``log_density`` and ``density_terms`` along the first.
        """
        return y

    @property
    def scale_constant(self) -> str | None:
        """The constant that is the logarithm of a scale which must not vanish."""
        return self.floor_name

    def location_moments(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Moments of the rough locations; scales of one for families without a scale of their own."""
        rough = self.start_locations(y)
        if type(self).start_locations is DensityExperts.start_locations and self.scale_constant is not None:
            rough = [y] * self.num_locations
        parts = [torch.std_mean(rows[~rows.isnan()], correction=0) for rows in rough]
        mean, std = torch.stack([part[1] for part in parts]), torch.stack([part[0] for part in parts])
        return mean, std if self.scale_constant is not None else torch.ones_like(std)

    def parameter_records(self) -> tuple[ParameterRecord, ...]:
        """The constants; what is below is told by the predictor and :meth:`adapt_record`."""
        return tuple(self._constant_record(name) for name in self.constant_names)

    def _constant_record(self, name: str) -> ParameterRecord:
        is_scale = name in (self.scale_constant, self.floor_name)
        is_log = is_scale or name.startswith("log_")  # the convention that this class documents
        return ParameterRecord(
            name,
            name.removeprefix("log_") if is_log else name,
            (Axis.EXPERT,),
            transform=Exp() if is_log else Identity(),
            has_floor=is_scale,
            units=UnitChange(location_power=int(is_scale)),
            prior=SCALE_PRIOR if is_scale else DefaultPrior(),
        )

    @abstractmethod
    def log_density(self, y: Tensor, eta: Tensor, *constants: Tensor) -> Tensor:
        """Elementwise log-density of ``y`` at the locations, then the constants; all arguments broadcast together."""

    def density_terms(self, y: Tensor, eta: Tensor, *constants: Tensor) -> DensityTerms:
        """The log-density with its first and second derivatives in ``(eta, *constants)``, here by autograd."""
        with torch.enable_grad():
            leaves = [part.expand_as(eta).detach().clone().requires_grad_() for part in (eta, *constants)]
            value = self.log_density(y, *leaves)
            first = torch.autograd.grad(value.sum(), leaves, create_graph=True)
            second = [self._row(first[i], leaves[: i + 1]) for i in range(len(leaves))]
        return DensityTerms(value.detach(), [g.detach() for g in first], second)

    @staticmethod
    def _row(gradient: Tensor, leaves: list[Tensor]) -> list[Tensor]:
        if not gradient.requires_grad:
            return [torch.zeros_like(leaf) for leaf in leaves]
        rows = torch.autograd.grad(gradient.sum(), leaves, retain_graph=True, allow_unused=True)
        return [torch.zeros_like(leaf) if g is None else g.detach() for g, leaf in zip(rows, leaves, strict=True)]


class LocationExperts(DensityExperts):
    r"""Experts of a scalar response whose distribution depends on x through one location, :math:`f(y; \eta_j(x), c_j)`.

    Args:
        predictor: the location, with ``response_dim`` None.

    A subclass sets ``scale_name``, in place of ``floor_name``, to the constant that is the logarithm of a scale s if
    :math:`(y - \eta) / s` has a fixed distribution; estimators then standardize y.
    """

    scale_name: str | None = None

    @property
    def scale_constant(self) -> str | None:
        """The constant that is the logarithm of a scale which must not vanish."""
        return self.scale_name or self.floor_name

    @property
    def is_location_scale(self) -> bool:
        """Whether the family has a scale of the response."""
        return self.scale_name is not None

    def start_locations(self, y: Tensor) -> list[Tensor]:
        """The response itself for families with a scale of it, zeros for others, unless told."""
        return [y if self.scale_name is not None else torch.zeros_like(y)]

    def location_moments(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Moments of the rough location, ``()`` each."""
        mean, std = super().location_moments(y)
        return mean[0], std[0]

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        if check_predictor(predictor).response_dim is not None:
            raise ValueError(
                f"predictor must have response_dim None for experts of a scalar response, got {predictor.response_dim}"
            )
        self.predictor = predictor
        self.num_experts = predictor.num_experts

    @classmethod
    def linear(cls, num_features: int, num_experts: int, **options: Any) -> Self:
        """Experts with a location linear in the covariates (see :meth:`Experts.linear`)."""
        predictor, own = linear_locations(num_features, num_experts, None, options)
        return cls(predictor, **own)


class OwnConstantsExperts(LocationExperts):
    """Experts with one location, each of which has every constant for itself; the constants start at 0.

    Args:
        predictor: the location, with ``response_dim`` None.
        batch_shape: leading dimensions of independent models; those of the predictor if None.
        dtype: dtype of the constants; that of the predictor if None.
        device: device of the constants; that of the predictor if None.

    A subclass names the constants in ``constant_names``, and declares each as an attribute.
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        batch_shape: tuple[int, ...] | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(predictor)
        self._make_constants(batch_shape=batch_shape, dtype=dtype, device=device)


class MultiLocationExperts(DensityExperts):
    r"""Experts of a scalar response whose distribution depends on x through L locations, the predictor's outputs.

    Args:
        predictor: the locations ``(*batch, n, k, L)``, built with ``response_dim=L``.
        num_locations: L.

    Raises:
        TypeError: if ``predictor`` is none.
        ValueError: if it has another ``response_dim``.
    """

    def __init__(self, predictor: Predictor, num_locations: int) -> None:
        super().__init__()
        if check_predictor(predictor).response_dim != num_locations:
            raise ValueError(
                f"predictor must have response_dim {num_locations} for {type(self).__name__}, "
                f"got {predictor.response_dim}"
            )
        self.predictor = predictor
        self.num_experts = predictor.num_experts
        self.num_locations = num_locations

    @property
    def location_names(self) -> tuple[str, ...]:
        """What results call the locations; their numbers unless a family says more."""
        return tuple(str(index) for index in range(self.num_locations))

    def adapt_record(self, record: ParameterRecord) -> ParameterRecord:
        """A record, told the names of the locations."""
        return replace(super().adapt_record(record), labels=self.location_names)

    def locations(self, x: Tensor) -> tuple[Tensor, ...]:
        """The L locations at ``x (*batch, n, d)``, each ``(*batch, n, k)``."""
        return self.predictor(x).unbind(-1)


_OF_PREDICTORS = ("offset", "pattern", "batch_shape", "dtype", "device", "generator")


def linear_locations(
    num_features: int, num_experts: int, response_dim: int | None, options: dict[str, Any]
) -> tuple[Predictor, dict[str, Any]]:
    """A predictor linear in ``num_features`` covariates, constant for none, and the options that are not its own."""
    own = {name: value for name, value in options.items() if name in _OF_PREDICTORS}
    rest = {name: value for name, value in options.items() if name not in _OF_PREDICTORS}
    if check_integer("num_features", num_features, low=0) == 0:
        return ConstantPredictor(num_experts, response_dim=response_dim, **own), rest
    return LinearPredictor(num_features, num_experts, response_dim=response_dim, **own), rest


def check_predictor(predictor: Predictor) -> Predictor:
    """Return ``predictor`` if it is one, else raise ``TypeError``."""
    if not isinstance(predictor, Predictor):
        raise TypeError(
            f"predictor must be a mixkit.experts.predictors.Predictor (ModulePredictor wraps any module), "
            f"got {type(predictor).__name__}"
        )
    return predictor


def first_parameter(predictor: Predictor) -> nn.Parameter | None:
    """A parameter that tells dtype and device of a predictor; None if it has none."""
    return next((p for p in predictor.parameters() if p.is_floating_point()), None)


def new_constant(
    predictor: Predictor,
    size: int,
    value: float = 0.0,
    *,
    batch_shape: tuple[int, ...] | None,
    dtype: torch.dtype | None,
    device: torch.device | str | None,
) -> nn.Parameter:
    """A constant of a family ``(*batch_shape, size)``, equal to ``value``; what is None is the predictor's."""
    own = first_parameter(predictor)
    shape = (*(predictor.batch_shape if batch_shape is None else batch_shape), size)
    if own is not None:
        dtype, device = dtype or own.dtype, own.device if device is None else device
    return nn.Parameter(torch.full(shape, value, dtype=dtype, device=device))


def check_counts(y: Tensor, family: str) -> Tensor:
    """Return ``y`` if it holds counts, else raise ``ValueError``."""
    bad = (y < 0) | (y != y.floor())
    if can_read_values(y) and bad.any():
        raise ValueError(f"y must hold non-negative integers for {family} experts, got {float(y[bad][0])}")
    return y
