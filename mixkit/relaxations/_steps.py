"""Small differentiable steps the estimators share."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["divide_by_temperature", "hard_with_gradient_of", "in_float32_at_least", "is_one"]


def in_float32_at_least(logits: Tensor) -> Tensor:
    """``logits`` in float32 if they came in half precision, unchanged otherwise."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def is_one(temperature: float | Tensor) -> bool:
    """Whether ``temperature`` is the number 1 (a tensor is not looked into)."""
    return not isinstance(temperature, Tensor) and temperature == 1.0


def divide_by_temperature(scores: Tensor, temperature: float | Tensor) -> Tensor:
    """``scores / temperature``, whose gradient in the temperature is finite where a score is -inf."""
    if not isinstance(temperature, Tensor):
        return scores if is_one(temperature) else scores / temperature
    if not temperature.requires_grad:
        return scores / temperature.to(scores)
    absent = torch.isneginf(scores)
    return (scores.masked_fill(absent, 0.0) / temperature.to(scores)).masked_fill(absent, -torch.inf)


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


def hard_with_gradient_of(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of ``hard``, to the bit, with the gradient of ``soft``."""
    return _Replace.apply(hard, soft)
