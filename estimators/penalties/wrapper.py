"""An objective around another, in the same or other coordinates."""

import copy
from typing import Self

from torch import Tensor

from mixkit.mixture import MixtureOfExperts

from ..optimizers.objective import Objective, UserMap

__all__ = ["Wrapper"]


class Wrapper(Objective):
    """Passes to the wrapped objective whatever a subclass does not change.

    Args:
        base: the wrapped objective.
    """

    def __init__(self, base: Objective) -> None:
        self.base = base
        self.data, self.n, self.num_features = base.data, base.n, base.num_features
        self.num_params, self.lower, self.total_weight = base.num_params, base.lower, base.total_weight

    @property
    def is_by_autograd(self) -> bool:
        """Whether the wrapped objective is."""
        return self.base.is_by_autograd

    @property
    def is_batched(self) -> bool:
        """Whether the wrapped objective is."""
        return self.base.is_batched

    def fold(self, theta: Tensor) -> Tensor:
        """The vectors ``(r, s, P)`` of the wrapped objective that ``theta`` means: the same ones."""
        return theta

    def unfold(self, theta: Tensor) -> Tensor:
        """Vectors here that mean ``theta (r, s, P)`` of the wrapped objective, where they are allowed."""
        return theta

    def log_likelihood(self, theta: Tensor) -> Tensor:
        """The log-likelihood without any penalty, ``(r, s)``."""
        return self.base.log_likelihood(self.fold(theta))

    def scores(self, theta: Tensor) -> Tensor:
        """Gradient of each observation's log-likelihood, ``(n, P)``, without the penalty."""
        return self.base.scores(self.fold(theta[None, None])[0, 0])

    def expected_counts(self, theta: Tensor) -> Tensor:
        """Total responsibility of each expert, ``(r, s, k)``."""
        return self.base.expected_counts(self.fold(theta))

    def damped_m_step(self, theta: Tensor, candidate: Tensor, fraction: float) -> Tensor:
        """Shorten the whole step."""
        return self.project(theta + fraction * (candidate - theta))

    def from_responsibilities(self, responsibilities: Tensor) -> Tensor:
        """The wrapped objective's start."""
        return self.unfold(self.base.from_responsibilities(responsibilities))

    def read(self, model: MixtureOfExperts) -> Tensor:
        """The parameter vectors ``(r, 1, P)`` of a model."""
        theta = self.base.read(model)
        return self.unfold(theta.expand(len(self.data.x), -1, -1).clone())

    def parameters(self, theta: Tensor, index: int = 0) -> dict[str, Tensor]:
        """The model's parameters by name."""
        return self.base.parameters(self.fold(theta[None, None])[0, 0], index)

    def transfer(self, theta: Tensor, source: Objective) -> Tensor:
        """The parameters here that mean what ``theta`` means to ``source``."""
        return self.unfold(self.base.transfer(theta, source))

    def unwrapped(self, theta: Tensor) -> tuple[Tensor, Objective]:
        """Those of the wrapped objective."""
        return self.base.unwrapped(self.fold(theta))

    def user_map(self) -> UserMap:
        """That of the wrapped objective."""
        return self.base.user_map()

    def at_floor(self, theta: Tensor) -> Tensor:
        """Which entries of the wrapped objective's vectors stand at a floor."""
        return self.base.at_floor(self.fold(theta))

    def without_cache(self) -> Self:
        """A copy that wraps a compact objective."""
        twin = copy.copy(self)
        twin.base = self.base.without_cache()
        return twin
