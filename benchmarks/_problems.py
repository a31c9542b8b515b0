"""Problems that the benchmarks of the estimators share."""

import torch
from torch import Tensor

from mixkit import MixingMeasure

__all__ = ["REFERENCE", "random_problem", "reference_data"]

REFERENCE = MixingMeasure(
    gate_bias=torch.tensor([-8.0, 0.0], dtype=torch.float64),
    gate_weight=torch.tensor([[25.0], [0.0]], dtype=torch.float64),
    slope=torch.tensor([[-20.0], [20.0]], dtype=torch.float64),
    intercept=torch.tensor([15.0, -5.0], dtype=torch.float64),
    variance=torch.tensor([0.09, 0.16], dtype=torch.float64),
)
"""The truth of the simulations in Nguyen, Nguyen, Ho (2023), arXiv 2305.03288."""


def reference_data(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """A sample from ``REFERENCE``, x uniform on [0, 1]: ``(n, 1)`` and ``(n,)``."""
    return REFERENCE.sample_xy(n, generator=torch.Generator().manual_seed(seed))


def random_problem(n: int, k: int, d: int, seed: int) -> tuple[Tensor, Tensor, MixingMeasure]:
    """Normal covariates ``(n, d)``, responses ``(n,)`` of k overlapping experts, and the truth."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, scale: float) -> Tensor:
        return scale * torch.randn(shape, generator=generator, dtype=torch.float64)

    x = normal(n, d, scale=1.0)
    truth = MixingMeasure(
        gate_bias=normal(k, scale=0.5),
        gate_weight=normal(k, d, scale=2.0 / d**0.5),
        slope=normal(k, d, scale=2.0 / d**0.5),
        intercept=normal(k, scale=2.0),
        variance=(0.3 + 0.4 * torch.rand(k, generator=generator, dtype=torch.float64)).square(),
    )
    return x, truth.sample(x, generator=generator), truth
