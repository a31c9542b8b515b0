"""The exact expectation by enumeration of every joint choice: the reference for the estimators."""

import torch
from torch import Tensor

from .._validation import check_integer
from ..numerics.precision import wide_sum
from ..numerics.randomness import Randomness
from .gradient_estimator import Function, GradientEstimator, evaluate
from .score_function import choice_log_prob

__all__ = ["Enumeration", "joint_choices"]


def joint_choices(choice_shape: tuple[int, ...], num_categories: int, *, like: Tensor) -> Tensor:
    """Every joint one-hot choice, ``(num_categories ** c, *choice_shape, num_categories)`` for c choices.

    Example:
        >>> joint_choices((2,), 3, like=torch.empty(())).shape
        torch.Size([9, 2, 3])
    """
    num_choices = torch.Size(choice_shape).numel()
    index = torch.arange(num_categories, device=like.device)
    grid = torch.cartesian_prod(*([index] * num_choices)).reshape(-1, *choice_shape)
    return torch.nn.functional.one_hot(grid, num_categories).to(like.dtype)


class Enumeration(GradientEstimator):
    r"""The expectation itself, :math:`\sum_d p(d) f(d)` over all :math:`k^c` joint choices; no noise, no bias.

    Args:
        max_terms: refuse more joint choices than this.

    Raises:
        ValueError: on use, if there are more than ``max_terms`` joint choices.

    Example:
        >>> from mixkit.relaxations import expectation
        >>> logits = torch.tensor([0.0, 0.0, -torch.inf])
        >>> expectation(lambda choice: choice @ torch.tensor([1.0, 2.0, 3.0]), logits, estimator=Enumeration())
        tensor(1.5000)
    """

    def __init__(self, max_terms: int = 1_000_000) -> None:
        super().__init__()
        self.max_terms = check_integer("max_terms", max_terms, low=1)

    def estimate(
        self,
        function: Function,
        logits: Tensor,
        *,
        num_samples: int,
        choice_dims: int,
        generator: Randomness,
    ) -> Tensor:
        """The exact expectation; ``num_samples`` and ``generator`` play no part."""
        outer, inner = logits.shape[: logits.ndim - 1 - choice_dims], logits.shape[logits.ndim - 1 - choice_dims : -1]
        terms = logits.shape[-1] ** inner.numel()
        if terms > self.max_terms:
            raise ValueError(f"the joint choices must number at most max_terms={self.max_terms}, got {terms}")
        choices = joint_choices(tuple(inner), logits.shape[-1], like=logits)
        choices = choices.reshape(terms, *([1] * len(outer)), *inner, logits.shape[-1]).expand(terms, *logits.shape)
        prob = choice_log_prob(logits, choices, choice_dims).exp()
        values = evaluate(function, choices, choice_dims)
        return wide_sum(prob * values.masked_fill(prob == 0.0, 0.0), 0).to(values.dtype)

    def extra_repr(self) -> str:
        """The settings."""
        return f"max_terms={self.max_terms}"
