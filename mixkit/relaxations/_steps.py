"""Small differentiable steps the estimators share."""

import torch
from torch import Tensor

__all__ = ["divide_by_temperature", "hard_with_gradient_of", "in_float32_at_least"]


def in_float32_at_least(logits: Tensor) -> Tensor:
    """``logits`` in float32 if they came in half precision, unchanged otherwise."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def divide_by_temperature(scores: Tensor, temperature: float | Tensor) -> Tensor:
    """``scores / temperature``, whose gradient in the temperature is finite where a score is -inf."""
    if not isinstance(temperature, Tensor):
        return scores if temperature == 1.0 else scores / temperature
    if not temperature.requires_grad:
        return scores / temperature.to(scores)
    absent = torch.isneginf(scores)
    return (scores.masked_fill(absent, 0.0) / temperature.to(scores)).masked_fill(absent, -torch.inf)


def hard_with_gradient_of(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of ``hard``, to the bit, with the gradient of ``soft``."""
    return hard + (soft - soft.detach())
