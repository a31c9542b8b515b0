"""Cosines between a learned query of x and a key of each expert, times one learned gain."""

import math

import torch
from torch import Tensor, nn

from ..._validation import at_least_float32, check_integer, check_positive
from ...parameters import Axis, ParameterRecord
from .base import ParameterSettings, Score, new_bias, new_parameter
from .metric import unit_vectors

__all__ = ["QueryKeyNormScore"]


class QueryKeyNormScore(Score):
    r"""Scores :math:`s_j(x) = g \, \frac{(W x)^\top c_j}{\lVert W x\rVert \lVert c_j\rVert} + \beta_{0j}`.

    Query-key normalization of Henry, Dachapally, Pawar and Chen (2020), arXiv 2010.04245, with the experts' vectors as
    keys: scores are bounded by the gain g however large x or W, so that a softmax saturates only where the gain is
    learned to be large. A query of length zero scores 0.

    Args:
        num_features: number of covariates ``d``.
        num_experts: number of experts ``k``.
        key_size: length of queries and keys.
        gain: g at the start, positive; :math:`\log_2(k^2 - k)` as in the paper, but at least 1, if None.
        bias: whether there is a :math:`\beta_0`.
        batch_shape: leading dimensions of independent models.
        dtype: dtype of the parameters.
        device: device of the parameters.
        generator: source of the initial queries and keys, standard normal.

    Attributes:
        query: W, ``(*batch, key_size, d)``.
        key: c, ``(*batch, k, key_size)``.
        gain: g, ``(*batch,)``.
        bias: :math:`\beta_0`, ``(*batch, k)``, or ``None``.

    Example:
        >>> import torch
        >>> score = QueryKeyNormScore(3, 4, 2, gain=5.0, generator=torch.Generator().manual_seed(0))
        >>> x = torch.randn(6, 3, generator=torch.Generator().manual_seed(1))
        >>> bool(score(x).abs().max() <= 5.0), torch.allclose(score(100 * x), score(x), atol=1e-5)
        (True, True)
    """

    def __init__(
        self,
        num_features: int,
        num_experts: int,
        key_size: int,
        *,
        gain: float | None = None,
        bias: bool = True,
        batch_shape: tuple[int, ...] = (),
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        settings = ParameterSettings(batch_shape, dtype, device, generator)
        super().__init__(num_experts, num_features, new_bias(settings, num_experts, bias))
        self.key_size = check_integer("key_size", key_size, low=1)
        features = check_integer("num_features", num_features, low=1)
        self.query = new_parameter(settings, self.key_size, features, std=1.0)
        self.key = new_parameter(settings, num_experts, self.key_size, std=1.0)
        start = (
            max(1.0, math.log2(max(num_experts**2 - num_experts, 1))) if gain is None else check_positive("gain", gain)
        )
        self.gain = nn.Parameter(torch.full(batch_shape, float(start), dtype=dtype, device=device))

    def parameter_records(self) -> tuple[ParameterRecord, ...]:
        """The bias; and of the queries that they count no experts, which the keys do."""
        query = ParameterRecord("query", "query", (Axis.OTHER, Axis.OTHER), is_generic=True)
        return (*super().parameter_records(), query)

    def slope_score(self, x: Tensor) -> Tensor:
        """The gain times the cosines, ``(*batch, n, k)``."""
        queries = unit_vectors(at_least_float32(x) @ at_least_float32(self.query).mT)
        cosines = queries @ unit_vectors(at_least_float32(self.key)).mT
        return (at_least_float32(self.gain)[..., None, None] * cosines).to(x.dtype)

    def extra_repr(self) -> str:
        """The sizes shown by ``repr``."""
        return f"{super().extra_repr()}, key_size={self.key_size}"
