"""What every recursion over blocks of rows shares: step sizes, averaging, and a quadratic model of what it has seen."""

from abc import ABC, abstractmethod

from torch import Tensor

from ..data.dataset import Data
from ..optimizers.objective import Objective
from .expansions import Expansions

__all__ = ["Recursion"]


class Recursion(ABC):
    r"""Parameters that follow a stream, :math:`\theta_t` from :math:`\theta_{t-1}` and the t-th block of rows.

    The step size is :math:`(t_0 + t)^{-a}` with a in (1/2, 1), where t_0 counts the blocks that the start has seen.
    What is reported is not the last iterate but the average of all (Polyak and Juditsky 1992), which for such steps has
    the least possible variance to first order.

    Args:
        objective: the log-likelihood of the rows the start has seen.
        theta: its maximum, ``(1, 1, P)``.
        blocks_seen: t_0.
        power: a.
    """

    def __init__(self, objective: Objective, theta: Tensor, blocks_seen: float, power: float) -> None:
        self.objective, self.theta, self.average = objective, theta, theta
        self.blocks_seen, self.power, self.num_blocks = max(1.0, blocks_seen), power, 0
        self.expansions = Expansions()

    @abstractmethod
    def advance(self, data: Data) -> float:
        """Take in one block: move on, and return the block's log-density under the parameters before it."""

    def _rate(self) -> float:
        """The next step size."""
        self.num_blocks += 1
        return float((self.blocks_seen + self.num_blocks) ** -self.power)

    def _moved(self, theta: Tensor) -> None:
        """Store a new iterate, and average."""
        self.theta = self.objective.project(theta)
        weight = 1.0 / (self.num_blocks + 1.0)
        self.average = self.average + weight * (self.theta - self.average)

    def estimate(self) -> Tensor:
        """The best estimate so far, ``(P,)``."""
        return self.average[0, 0]

    def hessian(self) -> Tensor | None:
        """The Hessian of all rows ``(P, P)``; None where it is not known."""
        return self.expansions.hessian() if self.expansions.epochs else None
