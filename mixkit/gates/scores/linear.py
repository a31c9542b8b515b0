"""Scores built on linear forms: affine, an activation of it, a quadratic, and a constant."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..._validation import check_integer
from ...parameters import (
    Axis,
    CoefficientPattern,
    DefaultPrior,
    ParameterRecord,
    Patterned,
    Place,
    Slope,
    UnitChange,
)
from .base import GATE_PRIOR, ParameterSettings, Score, new_bias, new_coefficients, new_parameter

__all__ = ["ActivationScore", "ConstantScore", "LinearScore", "QuadraticScore"]


class LinearScore(Patterned, Score):
    r"""Affine scores :math:`s_j(x) = \beta_{1j}^\top x + \beta_{0j}`.

    Args:
        num_features: number of covariates ``d``.
        num_experts: number of experts ``k``.
        bias: whether there is a :math:`\beta_0`.
        pattern: which coefficients experts share, which are fixed or absent, and so which columns the score reads; None
            if every expert has its own of every covariate. The biases are the pattern's intercepts.
        batch_shape: leading dimensions of independent models.
        dtype: dtype of the parameters.
        device: device of the parameters.
        generator: source of the initial weight, normal of standard deviation 0.02; the bias starts at zero.

    Attributes:
        weight: :math:`\beta_1`, ``(*batch, k, d)``.
        bias: :math:`\beta_0`, ``(*batch, k)``, or ``None``.
        free_weight: with a pattern the parameter, its F free coefficients ``(*batch, F)``.
        free_bias: likewise.

    Raises:
        TypeError: if ``pattern`` is no :class:`~mixkit.parameters.CoefficientPattern`.
        ValueError: if it has another number of experts or covariates, or ``bias`` is False beside it.

    Example:
        >>> import torch
        >>> score = LinearScore(2, 3, batch_shape=(4,), generator=torch.Generator().manual_seed(0))
        >>> score(torch.ones(5, 2)).shape  # one data set shared by four models
        torch.Size([4, 5, 3])
        >>> from mixkit.parameters import CoefficientPattern
        >>> score = LinearScore(10, 3, pattern=CoefficientPattern.of(3, 10, columns=[4]))  # reads one column of ten
        >>> score.free_weight.shape, score.weight.shape
        (torch.Size([3]), torch.Size([3, 10]))
    """

    coefficient_names = ("weight", "bias")
    translated: tuple[str, ...] = ("weight", "bias")
    weight_name: str | None = "weight"
    is_vectorized = True
    is_homogeneous = True
    can_shift = True
    can_scale = True

    def __init__(
        self,
        num_features: int,
        num_experts: int,
        *,
        bias: bool = True,
        pattern: CoefficientPattern | None = None,
        batch_shape: tuple[int, ...] = (),
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        settings = ParameterSettings(batch_shape, dtype, device, generator)
        if pattern is not None and not bias:
            raise ValueError("bias must be True beside a pattern, whose intercepts may be absent, got False")
        own = None if pattern is not None else new_bias(settings, num_experts, bias)
        super().__init__(num_experts, num_features, own)
        d = check_integer("num_features", num_features, low=1)
        self._set_pattern(pattern, d, self.num_experts)
        if pattern is None:
            self.weight = new_parameter(settings, self.num_experts, d)
        else:
            del self._parameters["bias"]
            self._set_free("weight", new_coefficients(settings, pattern.slopes.num_free))
            self._set_free("bias", new_coefficients(settings, pattern.intercepts.num_free, std=0.0))

    def slope_score(self, x: Tensor) -> Tensor:
        r""":math:`\beta_1^\top x`, ``(*batch, n, k)``."""
        return x @ self.weight.mT

    def parameter_records(self) -> tuple[ParameterRecord, ...]:
        """The weight in units of one over the covariates, and a bias that absorbs their shift."""
        return self.patterned_records(_weight_record(), self.bias_record(*(("weight",) if self.can_shift else ())))

    def extra_repr(self) -> str:
        """The sizes shown by ``repr``."""
        return super().extra_repr() + ("" if self.pattern is None else f", pattern={self.pattern}")

    def cancelling_columns(self) -> tuple[str, ...]:
        """Columns whose coefficient is common to all experts, as far as a common change of all scores undoes it."""
        names = zip(self.coefficient_names, self.blocks.values(), strict=False)
        found = [
            f"x{column}" if name == self.coefficient_names[0] else "intercept"
            for name, block in names
            if name in self.translated and self.num_experts > 1
            for column in block.cancelling
        ]
        return tuple(found)


class ActivationScore(LinearScore):
    r"""Scores :math:`s_j(x) = \sigma(\beta_{1j}^\top x) + \beta_{0j}` with a smooth activation :math:`\sigma`.

    The activation gate of Nguyen, Akbarian and Ho (2024), arXiv 2401.13875, which frees the estimation of a temperature
    from its interaction with :math:`\beta_1`. The bias stands outside the activation here; add a constant covariate
    to have one inside as well.

    Args:
        activation: the function :math:`\sigma`, elementwise; a function that pickles if the score is to.
        num_features: number of covariates ``d``.
        num_experts: number of experts ``k``.
        bias: whether there is a :math:`\beta_0`.
        pattern: as in :class:`LinearScore`.
        batch_shape: leading dimensions of independent models.
        dtype: dtype of the parameters.
        device: device of the parameters.
        generator: source of the initial weight.

    Raises:
        TypeError: if ``activation`` cannot be called.

    Example:
        >>> import torch
        >>> score = ActivationScore(torch.tanh, 2, 3, generator=torch.Generator().manual_seed(0))
        >>> score(torch.ones(5, 2)).shape
        torch.Size([5, 3])
    """

    translated = ("bias",)
    weight_name = "weight"
    is_vectorized = True
    can_scale = True

    def __init__(
        self,
        activation: Callable[[Tensor], Tensor],
        num_features: int,
        num_experts: int,
        *,
        bias: bool = True,
        pattern: CoefficientPattern | None = None,
        batch_shape: tuple[int, ...] = (),
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if not callable(activation):
            raise TypeError(f"activation must be a function of a tensor, got {type(activation).__name__}")
        super().__init__(
            num_features,
            num_experts,
            bias=bias,
            pattern=pattern,
            batch_shape=batch_shape,
            dtype=dtype,
            device=device,
            generator=generator,
        )
        self.activation = activation

    def slope_score(self, x: Tensor) -> Tensor:
        r""":math:`\sigma(\beta_1^\top x)`, ``(*batch, n, k)``."""
        return self.activation(super().slope_score(x))

    def extra_repr(self) -> str:
        """The settings shown by ``repr``."""
        name = getattr(self.activation, "__name__", repr(self.activation))
        return f"activation={name}, {super().extra_repr()}"


class QuadraticScore(LinearScore):
    r"""Scores :math:`s_j(x) = \sum_{a \le b} q_{jab} x_a x_b + \beta_{1j}^\top x + \beta_{0j}`.

    With a softmax these are the posterior probabilities of Gaussian classes of unequal covariance, so the gate of a
    Gaussian mixture of y and x jointly is of this form. Each monomial has one coefficient, which keeps the parameters
    identified up to the softmax's translation.

    Arguments are those of :class:`LinearScore`, but for the pattern.

    Attributes:
        quadratic: coefficients of the monomials :math:`x_a x_b`, ``(*batch, k, d (d + 1) / 2)``, in the order
            of ``torch.triu_indices(d, d)``.
        weight: :math:`\beta_1`, ``(*batch, k, d)``.
        bias: :math:`\beta_0`, ``(*batch, k)``, or ``None``.

    Example:
        >>> import torch
        >>> score = QuadraticScore(2, 3, generator=torch.Generator().manual_seed(0))
        >>> score.quadratic.shape  # x_1 x_1, x_1 x_2, x_2 x_2
        torch.Size([3, 3])
    """

    translated = ("quadratic", "weight", "bias")
    weight_name = None
    is_vectorized = True
    is_homogeneous = True
    can_shift = True
    can_scale = True

    def __init__(
        self,
        num_features: int,
        num_experts: int,
        *,
        bias: bool = True,
        batch_shape: tuple[int, ...] = (),
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        settings = ParameterSettings(batch_shape, dtype, device, generator)
        super().__init__(num_features, num_experts, bias=bias, **settings._asdict())
        self.quadratic = new_parameter(settings, num_experts, num_features * (num_features + 1) // 2)

    def slope_score(self, x: Tensor) -> Tensor:
        """The quadratic and the linear part, ``(*batch, n, k)``."""
        rows, columns = torch.triu_indices(x.shape[-1], x.shape[-1], device=x.device)
        return super().slope_score(x) + (x[..., rows] * x[..., columns]) @ self.quadratic.mT

    def parameter_records(self) -> tuple[ParameterRecord, ...]:
        """The weight, and the coefficients of the monomials in units of one over products of covariates."""
        axes = (Axis.EXPERT, Axis.PRODUCT)
        quadratic = replace(_weight_record(), name="quadratic", block="gate_quadratic", axes=axes, place=Place.GATE)
        weight = replace(_weight_record(), units=UnitChange(covariate_power=-1, absorbs=("quadratic",)))
        return quadratic, weight, self.bias_record("weight", "quadratic")


class ConstantScore(Score):
    r"""Scores that do not depend on x, :math:`s_j(x) = \beta_{0j}`: a softmax makes them mixing proportions.

    Args:
        num_experts: number of experts ``k``.
        batch_shape: leading dimensions of independent models.
        dtype: dtype of the bias.
        device: device of the bias.

    Attributes:
        bias: :math:`\beta_0`, ``(*batch, k)``, zero at the start.

    Example:
        >>> import torch
        >>> ConstantScore(3)(torch.ones(2, 7)).detach()
        tensor([[0., 0., 0.],
                [0., 0., 0.]])
    """

    is_vectorized = True
    is_homogeneous = True
    can_shift = True
    can_scale = True

    def __init__(
        self,
        num_experts: int,
        *,
        batch_shape: tuple[int, ...] = (),
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(num_experts, None, new_bias(ParameterSettings(batch_shape, dtype, device), num_experts))

    def slope_score(self, x: Tensor) -> Tensor:
        """Zeros, ``(*batch, n, k)``."""
        return x.new_zeros(()).expand(*x.shape[:-1], self.num_experts)

    def parameter_records(self) -> tuple[ParameterRecord, ...]:
        """The bias, whose scores are those at all x."""
        return (replace(self.bias_record(), prior=DefaultPrior(std=1.5)),)


def _weight_record() -> ParameterRecord:
    return ParameterRecord(
        "weight",
        "gate_weight",
        (Axis.EXPERT, Axis.COVARIATE),
        units=UnitChange(covariate_power=-1),
        prior=GATE_PRIOR,
        slope=Slope.GATE,
        place=Place.GATE_WEIGHT,
    )
