"""Scores built on lengths and angles: distance to a center, cosine to a direction."""

import torch
from torch import Tensor

from ..._validation import at_least_float32, check_integer
from ...parameters import Axis, DefaultPrior, ParameterRecord, Place, Slope, UnitChange
from .base import ParameterSettings, Score, new_bias, new_parameter

__all__ = ["CosineScore", "DistanceScore"]


def _root(squares: Tensor) -> Tensor:
    """The square root, with derivatives of zero (not infinity) at zero."""
    positive = squares > 0
    return torch.where(positive, torch.where(positive, squares, 1.0).sqrt(), 0.0)


def unit_vectors(vectors: Tensor, perturbation: float = 0.0) -> Tensor:
    """Vectors over their length plus the perturbation; zero stays, with a gradient of zero where there is none.

    They are scaled first, so that no square overflows or vanishes.
    """
    top = vectors.detach().abs().amax(-1, keepdim=True)
    scale = torch.where(top > 0, top, 1.0)
    scaled = vectors / scale
    length = _root(scaled.square().sum(-1, keepdim=True)) + perturbation / scale
    return scaled / torch.where(length > 0, length, 1.0)


class DistanceScore(Score):
    r"""Scores :math:`s_j(x) = -\lVert x - c_j \rVert + \beta_{0j}`, those of the Laplace gate.

    The Laplace gate is from Han, Nguyen, Harris, Ho and Saria (2024), arXiv 2402.03226; its rates are studied by
    Nguyen, Han, Harris, Saria and Ho (2024), arXiv 2410.02935. At ``x == center``, where a distance has no derivative,
    the gradient is zero. The differences ``(*batch, n, k, d)`` are held in memory, which keeps short distances exact.

    Args:
        num_features: number of covariates ``d``.
        num_experts: number of experts ``k``.
        squared: take the squared Euclidean distance instead.
        bias: whether there is a :math:`\beta_0`.
        batch_shape: leading dimensions of independent models.
        dtype: dtype of the parameters.
        device: device of the parameters.
        generator: source of the initial centers, standard normal.

    Attributes:
        center: :math:`c`, ``(*batch, k, d)``.
        bias: :math:`\beta_0`, ``(*batch, k)``, or ``None``.

    Example:
        >>> import torch
        >>> score = DistanceScore(2, 1, bias=False)
        >>> with torch.no_grad():
        ...     _ = score.center.copy_(torch.tensor([[3.0, 4.0]]))
        >>> score(torch.zeros(1, 2)).item()
        -5.0
    """

    weight_name = "center"
    is_vectorized = True
    can_shift = True

    def __init__(
        self,
        num_features: int,
        num_experts: int,
        *,
        squared: bool = False,
        bias: bool = True,
        batch_shape: tuple[int, ...] = (),
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        settings = ParameterSettings(batch_shape, dtype, device, generator)
        super().__init__(num_experts, num_features, new_bias(settings, num_experts, bias))
        self.squared = squared
        self.center = new_parameter(settings, num_experts, check_integer("num_features", num_features, low=1), std=1.0)

    def slope_score(self, x: Tensor) -> Tensor:
        """Minus the (squared) distance to each center, ``(*batch, n, k)``."""
        difference = at_least_float32(x).unsqueeze(-2) - self.center.unsqueeze(-3)
        squares = difference.square().sum(-1)
        return -(squares if self.squared else _root(squares)).to(x.dtype)

    def parameter_records(self) -> tuple[ParameterRecord, ...]:
        """The centers, positions among the covariates; a penalty draws them together."""
        center = ParameterRecord(
            "center",
            "gate_center",
            (Axis.EXPERT, Axis.COVARIATE),
            units=UnitChange(covariate_power=1, is_position=True),
            prior=DefaultPrior(std=2.0),
            slope=Slope.GATE,
            is_centered=True,
            place=Place.GATE_WEIGHT,
        )
        return center, self.bias_record()

    def extra_repr(self) -> str:
        """The settings shown by ``repr``."""
        return f"{super().extra_repr()}, squared={self.squared}"


class CosineScore(Score):
    r"""Perturbed cosine scores.

    .. math:: s_j(x) = \frac{\beta_{1j}^\top x}
        {(\lVert\beta_{1j}\rVert + \tau_1) (\lVert x\rVert + \tau_2)} + \beta_{0j}

    The cosine router of Chi et al. (2022), arXiv 2204.09179, with both norms perturbed as by Nguyen, Akbarian, Pham,
    Nguyen, Zhang and Ho (2025), arXiv 2405.14131, which removes the invariance of the score to the length of
    :math:`\beta_1` and so makes polynomial estimation rates possible. Scores lie in (-1, 1), so a gate of these
    wants a temperature below 1.

    Args:
        num_features: number of covariates ``d``.
        num_experts: number of experts ``k``.
        perturbation: :math:`(\tau_1, \tau_2)`, or one number for both; at least 0. With 0, a zero vector scores 0.
        bias: whether there is a :math:`\beta_0`.
        batch_shape: leading dimensions of independent models.
        dtype: dtype of the parameters.
        device: device of the parameters.
        generator: source of the initial directions, standard normal.

    Attributes:
        weight: :math:`\beta_1`, ``(*batch, k, d)``.
        bias: :math:`\beta_0`, ``(*batch, k)``, or ``None``.

    Raises:
        ValueError: if a perturbation is negative or not finite.

    Example:
        >>> import torch
        >>> score = CosineScore(2, 3, perturbation=0.0, generator=torch.Generator().manual_seed(0))
        >>> x = torch.tensor([[1.0, 2.0]])
        >>> torch.allclose(score(x), score(10 * x))
        True
    """

    weight_name = "weight"
    is_vectorized = True

    def __init__(
        self,
        num_features: int,
        num_experts: int,
        *,
        perturbation: float | tuple[float, float] = 0.1,
        bias: bool = True,
        batch_shape: tuple[int, ...] = (),
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        settings = ParameterSettings(batch_shape, dtype, device, generator)
        super().__init__(num_experts, num_features, new_bias(settings, num_experts, bias))
        self.perturbation = _checked_perturbation(perturbation)
        self.weight = new_parameter(settings, num_experts, check_integer("num_features", num_features, low=1), std=1.0)

    def slope_score(self, x: Tensor) -> Tensor:
        """The perturbed cosines, ``(*batch, n, k)``."""
        wide, weight = at_least_float32(x), at_least_float32(self.weight)
        directions = unit_vectors(weight, self.perturbation[0])
        return (unit_vectors(wide, self.perturbation[1]) @ directions.mT).to(x.dtype)

    def parameter_records(self) -> tuple[ParameterRecord, ...]:
        """The directions, whose lengths have no unit."""
        weight = ParameterRecord(
            "weight", "gate_weight", (Axis.EXPERT, Axis.COVARIATE), slope=Slope.GATE, place=Place.GATE_WEIGHT
        )
        return weight, self.bias_record()

    def extra_repr(self) -> str:
        """The settings shown by ``repr``."""
        return f"{super().extra_repr()}, perturbation={self.perturbation}"


def _checked_perturbation(perturbation: float | tuple[float, float]) -> tuple[float, float]:
    first, second = perturbation if isinstance(perturbation, tuple) else (perturbation, perturbation)
    if not (0.0 <= first < float("inf") and 0.0 <= second < float("inf")):
        raise ValueError(f"perturbation must be finite and at least 0, got {perturbation}")
    return float(first), float(second)
