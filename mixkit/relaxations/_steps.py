"""Small differentiable steps the estimators share."""

from typing import Any

import torch
from torch import Tensor

from ..numerics.precision import clamp_to_dtype, smallest_divisor

__all__ = ["divide_by_temperature", "hard_with_gradient_of", "is_one", "one_hot_of", "one_hot_with_gradient_of"]


def is_one(temperature: float | Tensor) -> bool:
    """Whether ``temperature`` is the number 1 (a tensor is not looked into)."""
    return not isinstance(temperature, Tensor) and temperature == 1.0


def divide_by_temperature(scores: Tensor, temperature: float | Tensor) -> Tensor:
    """``scores / temperature``, whose gradient in the temperature is finite where a score is -inf.

    The largest score of a row is to be of order one. A temperature that the dtype of the scores cannot divide by is
    moved into its range (:func:`mixkit.numerics.precision.clamp_to_dtype`), where a softmax is at its limit already.
    """
    if not isinstance(temperature, Tensor):
        return scores if is_one(temperature) else scores / clamp_to_dtype(float(temperature), scores.dtype)
    wide = temperature.to(torch.promote_types(temperature.dtype, scores.dtype)).to(scores.device)
    divisor = wide.clamp(smallest_divisor(scores.dtype), torch.finfo(scores.dtype).max).to(scores.dtype)
    if not temperature.requires_grad:
        return scores / divisor
    absent = torch.isneginf(scores)
    return (scores.masked_fill(absent, 0.0) / divisor).masked_fill(absent, -torch.inf)


class _Replace(torch.autograd.Function):
    """The value of the first argument with the derivative of the second, without arithmetic."""

    generate_vmap_rule = True

    @staticmethod
    def forward(hard: Tensor, soft: Tensor) -> Tensor:
        return hard.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor]:
        return None, grad

    @staticmethod
    def jvp(ctx: Any, hard_tangent: Tensor | None, soft_tangent: Tensor) -> Tensor:
        return soft_tangent.clone()


class _OneHot(_Replace):
    """The one-hot rows of an index with the derivative of the second argument: one pass over memory."""

    @staticmethod
    def forward(index: Tensor, soft: Tensor) -> Tensor:
        return one_hot_of(index, soft)


def one_hot_of(index: Tensor, like: Tensor) -> Tensor:
    """One-hot rows of ``index (*batch, 1)`` of the shape and dtype of ``like``, without gradient."""
    plain = like.detach()
    return torch.zeros_like(plain).scatter(-1, index, torch.ones_like(index, dtype=plain.dtype))


def one_hot_with_gradient_of(index: Tensor, soft: Tensor) -> Tensor:
    """The one-hot rows of ``index (*batch, 1)`` with the gradient of ``soft``, in forward and in reverse mode."""
    if torch.compiler.is_compiling():
        return one_hot_of(index, soft) + (soft - soft.detach())
    return _OneHot.apply(index, soft)


def hard_with_gradient_of(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of ``hard``, to the bit, with the gradient of ``soft``, in forward and in reverse mode.

    A compiler is shown arithmetic, which it can differentiate in every way; ``soft`` less itself is exactly zero.
    """
    if torch.compiler.is_compiling():
        return hard + (soft - soft.detach())
    return _Replace.apply(hard, soft)
