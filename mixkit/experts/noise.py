"""An expert for outliers: uniform over the range of the data."""

from typing import Any

import torch
from torch import Tensor

from .._validation import check_finite, check_integer, check_last_dim
from ..distributions.box import Box
from .base import Experts
from .dominating_measure import REAL_LINE

__all__ = ["NoiseExperts"]


class NoiseExperts(Experts):
    r"""A constant density :math:`1 / V` over a box of volume V, whatever x: an expert that takes the outliers.

    It stands beside others in :class:`~mixkit.experts.MixedExperts` and has no parameters; the gate learns where and
    how often there are outliers.

    Args:
        low: least value of the response, a number, or one for each coordinate ``(p,)``.
        high: largest value, above ``low``.
        everywhere: whether the density is :math:`1 / V` outside the box, too, as in mclust: no distribution any more,
            but no response is impossible.
        num_experts: number of experts; more than one is of use only in tests.
        dtype: dtype of the box.
        device: device of the box.

    Raises:
        ValueError: if ``high`` is not above ``low``, or one is not finite.

    Source: Banfield and Raftery (1993), Model-based Gaussian and non-Gaussian clustering, Biometrics 49, 803-821.

    Example:
        >>> import torch
        >>> y = torch.tensor([0.0, 1.0, 4.0])
        >>> NoiseExperts.over(y)(torch.zeros(3, 2)).log_prob(y.unsqueeze(-1)).exp().squeeze(-1)
        tensor([0.2500, 0.2500, 0.2500])
    """

    dominating_measure = REAL_LINE
    low: Tensor
    high: Tensor

    def __init__(
        self,
        low: Any,
        high: Any,
        *,
        everywhere: bool = False,
        num_experts: int = 1,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.num_experts = check_integer("num_experts", num_experts, low=1)
        self.everywhere = bool(everywhere)
        for name, value in (("low", low), ("high", high)):
            tensor = torch.as_tensor(value, dtype=dtype, device=device)
            tensor = tensor if tensor.is_floating_point() else tensor.to(torch.get_default_dtype())
            self.register_buffer(name, check_finite(name, tensor.detach().clone()))
        if not bool((self.high > self.low).all()):
            raise ValueError(f"high must be above low, got {self.high.tolist()} and {self.low.tolist()}")

    @classmethod
    def over(cls, y: Tensor, **settings: Any) -> "NoiseExperts":
        """Noise over the range of responses ``(n,)`` or ``(n, p)``."""
        return cls(y.amin(0), y.amax(0), **settings)

    def forward(self, x: Tensor) -> Box:
        """Uniform distributions of batch shape ``(*batch, n, k)``."""
        shape = (*x.shape[:-1], self.num_experts, *self.low.shape)
        low, high = (end.to(x.dtype).expand(shape) for end in (self.low, self.high))
        return Box(low, high, is_vector=self.low.ndim > 0, everywhere=self.everywhere, validate_args=False)

    def fixed_log_density(self, y: Tensor) -> Tensor:
        """Log-density of scalar responses of any shape."""
        return Box(self.low.to(y), self.high.to(y), everywhere=self.everywhere, validate_args=False).log_prob(y)

    def check_response(self, y: Tensor) -> Tensor:
        """Return ``y`` if its last dimension is that of the box."""
        super().check_response(y)
        return y if self.low.ndim == 0 else check_last_dim("y", y, len(self.low), "responses")

    def extra_repr(self) -> str:
        """The settings shown by ``repr``."""
        ends = f"low={self.low.tolist()}, high={self.high.tolist()}"
        return f"{ends}, everywhere={self.everywhere}, num_experts={self.num_experts}"
