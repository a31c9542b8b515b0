"""An expert that always gives one value."""

import torch
from torch import Tensor

from .._validation import check_integer
from ..distributions import Atom
from .base import Experts
from .dominating_measure import DominatingMeasure

__all__ = ["PointMassExperts"]


class PointMassExperts(Experts):
    r"""All mass at one value, whatever x: zero for customers who do not buy.

    Beside experts with Lebesgue densities in :class:`~mixkit.experts.MixedExperts` the gate's weight of the atom is
    the probability of the value; the others must give it density zero, as log-normal experts do at 0.

    Args:
        value: where the mass is.
        num_experts: number of experts; more than one is of use only in tests.
        dtype: dtype of the value.
        device: device of the value.

    Example:
        >>> import torch
        >>> PointMassExperts(0.0)(torch.zeros(3, 2)).mean.shape
        torch.Size([3, 1])
    """

    value: Tensor

    def __init__(
        self,
        value: float = 0.0,
        num_experts: int = 1,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.num_experts = check_integer("num_experts", num_experts, low=1)
        self.register_buffer("value", torch.full((), float(value), dtype=dtype, device=device))

    @property
    def dominating_measure(self) -> DominatingMeasure:  # type: ignore[override]
        """A unit mass at the value."""
        return DominatingMeasure(values=(float(self.value),))

    def forward(self, x: Tensor) -> Atom:
        """Point masses of batch shape ``(*batch, n, k)``."""
        return Atom(self.value.to(x.dtype).expand(*x.shape[:-1], self.num_experts), validate_args=False)

    def fixed_log_density(self, y: Tensor) -> Tensor:
        """Log-density of responses of any shape."""
        return torch.where(y == self.value.to(y), torch.zeros_like(y), -torch.inf)

    def extra_repr(self) -> str:
        """The settings shown by ``repr``."""
        return f"value={float(self.value):g}, num_experts={self.num_experts}"
