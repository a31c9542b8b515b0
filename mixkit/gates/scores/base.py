"""What every score is, and the pieces that scores with parameters share."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..._validation import check_integer, check_last_dim, check_tensor
from ...parameters import Axis, Computation, DefaultPrior, ParameterRecord, Place, Slope, UnitChange

__all__ = ["ParameterSettings", "Score", "new_coefficients", "new_parameter"]

INITIAL_STD = 0.02
GATE_PRIOR = DefaultPrior(std=3.5)


class Score(Computation, nn.Module, ABC):
    r"""Maps covariates ``x (*batch, n, d)`` to scores ``(*batch, n, k)``: a part that depends on x, plus a bias.

    A score has one required method, ``slope_score``: the part that depends on x (:math:`\beta_1^\top x` for the linear
    score). The two are kept apart because a selection may rank on the former alone.

    Attributes:
        num_experts: number of experts ``k``.
        num_features: number of covariates ``d``; ``None`` where any number will do.
        bias: :math:`\beta_0`, ``(*batch, k)``, or ``None``.
        translated: names of the parameters (experts in the first dimension after the batch) to whose rows one vector
            can be added for all experts at once with no other effect than adding one function of x to all scores.
            Behind a shift-invariant normalizer they are determined only up to that translation.
        weight_name: the parameter ``(*batch, k, d)`` that is :math:`\beta_1` in a mixing measure; ``None`` where the
            part that depends on x has not one such parameter and no other.
        is_vectorized: whether ``slope_score`` treats rows of x alone, takes parameters with leading batch dimensions of
            any number, and has two derivatives in them almost everywhere; an expert's score then reads no other
            expert's rows of parameters whose records count experts.
        is_homogeneous: whether multiplying all parameters by a positive number multiplies the scores by it.
        can_shift: whether a score of covariates less a constant is such a score of the covariates, with other
            parameters, as their records say.
        can_scale: the same of covariates divided each by its own number.

    All but the sizes and the bias are statements about the computation. A subclass that overrides ``slope_score``,
    ``add_bias`` or ``forward`` inherits none: what it does not state itself is as it is here.
    """

    computed_by = ("forward", "slope_score", "add_bias")
    statements = ("translated", "weight_name", "is_vectorized", "is_homogeneous", "can_shift", "can_scale")
    translated: tuple[str, ...] = ("bias",)
    weight_name: str | None = None
    is_vectorized: bool = False
    is_homogeneous: bool = False
    can_shift: bool = False
    can_scale: bool = False
    num_experts: int
    num_features: int | None = None
    bias: nn.Parameter | None

    def __init__(self, num_experts: int, num_features: int | None, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.num_experts = check_integer("num_experts", num_experts, low=1)
        self.num_features = None if num_features is None else check_integer("num_features", num_features, low=1)
        self.register_parameter("bias", bias)

    @abstractmethod
    def slope_score(self, x: Tensor) -> Tensor:
        """The score without the bias, broadcastable to ``(*batch, n, k)``, of covariates that have been checked."""

    def add_bias(self, slope_scores: Tensor) -> Tensor:
        """The score, given the part of it that depends on x."""
        return slope_scores if self.bias is None else slope_scores + self.bias.unsqueeze(-2)

    def forward(self, x: Tensor) -> Tensor:
        """Scores ``(*batch, n, k)`` of covariates that are checked first."""
        return self.add_bias(self.slope_score(self.check_covariates(x)))

    def check_covariates(self, x: Tensor) -> Tensor:
        """Return ``x`` if it is a floating tensor ``(*batch, n, d)``, of the dtype of the parameters.

        Raises:
            TypeError: if ``x`` is not a tensor of floating dtype, or has another dtype than the parameters.
            ValueError: if ``x`` has fewer than two dimensions, its last is not ``num_features``, or its leading ones do
                not broadcast with those of the bias.
        """
        check_tensor("x", x)
        if x.ndim < 2:
            raise ValueError(f"x must have shape (*batch, n, d), got shape {tuple(x.shape)}")
        if self.num_features is not None:
            check_last_dim("x", x, self.num_features, "covariates")
        self._check_batch(x)
        own = next(self.parameters(), x)
        if own.dtype != x.dtype and not torch.is_autocast_enabled(x.device.type):
            raise TypeError(f"x must have the dtype of the score's parameters, {own.dtype}, got {x.dtype}")
        return x

    def _check_batch(self, x: Tensor) -> None:
        batch = torch.Size() if self.bias is None else self.bias.shape[:-1]
        leading = zip(reversed(x.shape[:-2]), reversed(batch), strict=False)
        if any(a != b and 1 not in (a, b) for a, b in leading):
            raise ValueError(
                f"x must have leading dimensions that broadcast with {tuple(batch)}, those of the parameters, "
                f"got shape {tuple(x.shape)}"
            )

    def parameter_records(self) -> tuple[ParameterRecord, ...]:
        """What the parameters are; a subclass adds those that it knows, the others have generic records."""
        return (self.bias_record(),)

    def bias_record(self, *absorbs: str) -> ParameterRecord:
        """The record of the bias, which absorbs a shift of the covariates that the named coefficients belong to."""
        units = UnitChange(absorbs=absorbs)
        return ParameterRecord(
            "bias", "gate_bias", (Axis.EXPERT,), units=units, prior=GATE_PRIOR, place=Place.GATE_BIAS
        )

    def adapt_record(self, record: ParameterRecord) -> ParameterRecord:
        """A record, told which translation leaves the gate as it is; unknown matrices count as slopes."""
        if record.is_generic:
            is_matrix = self.get_parameter(record.name).ndim > 1
            slope = Slope.GATE if is_matrix else None
            record = replace(record, block=f"gate_{record.name}", slope=slope, place=Place.GATE)
        is_translated = record.name.removeprefix("" if record.pattern is None else "free_") in self.translated
        return replace(record, is_translated=is_translated, is_centered=record.is_centered or is_translated)

    def cancelling_columns(self) -> tuple[str, ...]:
        """Columns whose coefficient is common to all experts, which normalizers that no shift changes do not see."""
        return ()

    def extra_repr(self) -> str:
        """The sizes shown by ``repr``."""
        features = "" if self.num_features is None else f"num_features={self.num_features}, "
        return f"{features}num_experts={self.num_experts}, bias={self.bias is not None}"


class ParameterSettings(NamedTuple):
    """Where the parameters of a module live and how they start."""

    batch_shape: tuple[int, ...] = ()
    dtype: torch.dtype | None = None
    device: torch.device | str | None = None
    generator: torch.Generator | None = None


def new_parameter(settings: ParameterSettings, *shape: int, std: float = INITIAL_STD) -> nn.Parameter:
    """A parameter ``(*batch_shape, *shape)`` of independent normal entries of standard deviation ``std``."""
    size = (*_checked_batch_shape(settings.batch_shape), *shape)
    normal = torch.randn(size, dtype=settings.dtype, device=settings.device, generator=settings.generator)
    return nn.Parameter(std * normal)


def new_coefficients(settings: ParameterSettings, count: int, std: float = INITIAL_STD) -> Tensor:
    """Free coefficients ``(*batch_shape, F)`` of a pattern, normal of standard deviation ``std``; zeros for 0."""
    if std == 0.0 or count == 0:
        size = (*_checked_batch_shape(settings.batch_shape), count)
        return torch.zeros(size, dtype=settings.dtype, device=settings.device)
    return new_parameter(settings, count, std=std).detach()


def new_bias(settings: ParameterSettings, num_experts: int, wanted: bool = True) -> nn.Parameter | None:
    """A bias ``(*batch_shape, k)`` of zeros, or None."""
    if not wanted:
        return None
    size = (*_checked_batch_shape(settings.batch_shape), check_integer("num_experts", num_experts, low=1))
    return nn.Parameter(torch.zeros(size, dtype=settings.dtype, device=settings.device))


def _checked_batch_shape(batch_shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(check_integer("batch_shape", size, low=1) for size in batch_shape)
