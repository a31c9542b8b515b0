"""Scores computed by any module."""

import torch
from torch import Tensor, nn

from ..._validation import check_last_dim
from .base import ParameterSettings, Score, new_bias

__all__ = ["ModuleScore"]


class ModuleScore(Score):
    r"""Scores computed by any module, :math:`s(x) = m(x) + \beta_0`.

    Args:
        module: maps ``x (*batch, n, d)`` to ``(*batch, n, k)``, a neural network for example.
        num_experts: number of experts ``k``.
        num_features: number of covariates ``d``; ``None`` leaves the check to the module.
        bias: whether there is a :math:`\beta_0` beside the module's own.
        batch_shape: leading dimensions of the bias.
        dtype: dtype of the bias.
        device: device of the bias.

    Raises:
        TypeError: if ``module`` is not a ``torch.nn.Module``.
        ValueError: when called, if the module's output has another last dimension than ``k``.

    Example:
        >>> import torch
        >>> network = torch.nn.Sequential(torch.nn.Linear(2, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
        >>> ModuleScore(network, 3)(torch.ones(5, 2)).shape
        torch.Size([5, 3])
    """

    def __init__(
        self,
        module: nn.Module,
        num_experts: int,
        *,
        num_features: int | None = None,
        bias: bool = False,
        batch_shape: tuple[int, ...] = (),
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(f"module must be a torch.nn.Module, got {type(module).__name__}")
        own_bias = new_bias(ParameterSettings(batch_shape, dtype, device), num_experts, bias)
        super().__init__(num_experts, num_features, own_bias)
        self.module = module

    def slope_score(self, x: Tensor) -> Tensor:
        """The module's output, ``(*batch, n, k)``."""
        output = self.module(x)
        return check_last_dim("the output of module", output, self.num_experts, "experts")
