"""Several scalar responses, independent and of different distributions, as one vector."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from .values import ZeroOutsideSupport

__all__ = ["IndependentResponses"]


class IndependentResponses(ZeroOutsideSupport, Distribution):
    """Independent scalar distributions, one for each coordinate of a vector.

    Densities are taken with respect to the product of theirs: a coordinate may be a count and another continuous.

    Args:
        laws: of one batch shape, or shapes that broadcast; p of them.
        validate_args: as everywhere in torch.

    Raises:
        ValueError: if there is none, or one is of vectors.

    Example:
        >>> import torch
        >>> from mixkit.distributions import Normal, Poisson
        >>> law = IndependentResponses([Normal(torch.zeros(()), torch.ones(())), Poisson(torch.ones(()))])
        >>> law.event_shape, law.log_prob(torch.tensor([0.0, 0.0])), law.mean
        (torch.Size([2]), tensor(-1.9189), tensor([0., 1.]))
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own name and type)

    def __init__(self, laws: Sequence[Distribution], validate_args: bool | None = None) -> None:
        if not laws or any(law.event_shape for law in laws):
            raise ValueError(f"laws must hold distributions of scalars, got {[tuple(law.event_shape) for law in laws]}")
        batch = torch.broadcast_shapes(*(law.batch_shape for law in laws))
        self.laws = [law if law.batch_shape == batch else law.expand(batch) for law in laws]
        super().__init__(batch, torch.Size([len(laws)]), validate_args=validate_args)

    @constraints.dependent_property
    def support(self) -> Any:
        """Each coordinate in the support of its own distribution."""
        return constraints.stack([law.support for law in self.laws], -1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "IndependentResponses":
        """The same distribution with a larger batch shape."""
        laws = [law.expand(torch.Size(batch_shape)) for law in self.laws]
        return IndependentResponses(laws, validate_args=self._validate_args)

    @property
    def mean(self) -> Tensor:
        """Means of the coordinates."""
        return torch.stack([law.mean for law in self.laws], -1)

    @property
    def variance(self) -> Tensor:
        """Variances of the coordinates."""
        return torch.stack([law.variance for law in self.laws], -1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of ``value (..., p)``: the sum of those of the coordinates."""
        if self._validate_args:
            self._validate_sample(value)
        terms = [law.log_prob(part) for law, part in zip(self.laws, value.unbind(-1), strict=True)]
        return torch.stack(torch.broadcast_tensors(*terms)).sum(0)

    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draws ``(..., p)``."""
        return torch.stack([law.sample(sample_shape) for law in self.laws], -1)
