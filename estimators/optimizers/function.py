"""What an optimizer sees: a function of parameter vectors with two derivatives, and lower bounds."""

from abc import ABC, abstractmethod
from typing import NamedTuple, Self

import torch
from torch import Tensor

__all__ = ["Evaluation", "SmoothFunction", "choose", "choose_evaluation"]


class Evaluation(NamedTuple):
    """Values ``(r, s)`` of a function, its gradients ``(r, s, P)`` and Hessians ``(r, s, P, P)``.

    Where P is too large for a Hessian it is empty, ``(r, s, 0, 0)``.
    """

    value: Tensor
    gradient: Tensor
    hessian: Tensor


def choose(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Tensors ``(r, s, ...)``: one where ``mask (r, s)`` says so, elsewhere the other."""
    return torch.where(mask.reshape(mask.shape + (1,) * (yes.ndim - mask.ndim)), yes, no)


def choose_evaluation(mask: Tensor, yes: Evaluation, no: Evaluation) -> Evaluation:
    """Evaluations at ``(r, s)`` vectors: one where ``mask (r, s)`` says so, elsewhere the other."""
    return Evaluation(*(choose(mask, a, b) for a, b in zip(yes, no, strict=True)))


class SmoothFunction(ABC):
    """A function for each of ``r`` data sets, at ``s`` parameter vectors each, ``theta (r, s, P)``.

    Attributes:
        num_params: length P of the parameter vector.
        lower: lower bounds of the parameters, of a shape that broadcasts to theirs, -inf where there is none.
    """

    num_params: int
    lower: Tensor

    @abstractmethod
    def value(self, theta: Tensor) -> Tensor:
        """Values ``(r, s)``."""

    @abstractmethod
    def evaluate(self, theta: Tensor) -> Evaluation:
        """Values with gradients and Hessians."""

    def on_sets(self, sets: Tensor) -> Self | None:
        """That of the data sets at positions ``sets (q,)``, in the same parameters; None where there is none.

        An ascent leaves out the data sets that are done where it can.
        """
        return None

    def project(self, theta: Tensor) -> Tensor:
        """``theta`` with every parameter raised to its lower bound."""
        return torch.maximum(theta, self.lower)
