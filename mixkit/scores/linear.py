"""Scores linear in their parameters: affine, and constant in x."""

import torch
from torch import Tensor

from .._validation import check_integer
from .base import ParameterSettings, Score, new_bias, new_parameter

__all__ = ["ConstantScore", "LinearScore"]


class LinearScore(Score):
    r"""Affine scores :math:`s_j(x) = \beta_{1j}^\top x + \beta_{0j}`.

    Args:
        num_features: number of covariates ``d``.
        num_experts: number of experts ``k``.
        bias: whether there is a :math:`\beta_0`.
        batch_shape: leading dimensions of independent models.
        dtype: dtype of the parameters.
        device: device of the parameters.
        generator: source of the initial weight, normal of standard deviation 0.02; the bias starts at zero.

    Attributes:
        weight: :math:`\beta_1`, ``(*batch, k, d)``.
        bias: :math:`\beta_0`, ``(*batch, k)``, or ``None``.

    Example:
        >>> import torch
        >>> score = LinearScore(2, 3, batch_shape=(4,), generator=torch.Generator().manual_seed(0))
        >>> score(torch.ones(5, 2)).shape  # one data set shared by four models
        torch.Size([4, 5, 3])
    """

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
        super().__init__(num_experts, num_features, new_bias(settings, num_experts, bias))
        self.weight = new_parameter(settings, self.num_experts, check_integer("num_features", num_features, low=1))

    def slope_score(self, x: Tensor) -> Tensor:
        r""":math:`\beta_1^\top x`, ``(*batch, n, k)``."""
        return self.check_covariates(x) @ self.weight.mT


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
        >>> ConstantScore(3)(torch.ones(2, 7))
        tensor([[0., 0., 0.],
                [0., 0., 0.]], grad_fn=<AddBackward0>)
    """

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
        self.check_covariates(x)
        return x.new_zeros(()).expand(*x.shape[:-1], self.num_experts)
