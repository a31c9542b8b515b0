"""The score-function estimator with a leave-one-out baseline."""

from torch import Tensor

from .._validation import at_least_float32
from ..numerics.precision import wide_mean, wide_sum
from ..numerics.randomness import Randomness
from .gradient_estimator import Function, GradientEstimator, evaluate
from .noise import sample_one_hot

__all__ = ["LeaveOneOut", "choice_log_prob"]


def choice_log_prob(logits: Tensor, one_hot: Tensor, choice_dims: int = 0) -> Tensor:
    r"""Log-probability of one-hot choices, summed over the dimensions that are drawn together.

    Args:
        logits: ``(*outer, *choices, k)``, -inf allowed.
        one_hot: choices ``(..., *outer, *choices, k)``.
        choice_dims: number of dimensions called ``choices``.

    Returns:
        ``(..., *outer)``; -inf for a choice of a category of probability zero.

    Example:
        >>> import torch
        >>> choice_log_prob(torch.zeros(4), torch.tensor([0.0, 1.0, 0.0, 0.0]))
        tensor(-1.3863)
    """
    log_probs = at_least_float32(logits).log_softmax(-1).expand(one_hot.shape)
    chosen = log_probs.gather(-1, one_hot.argmax(-1, keepdim=True)).squeeze(-1)
    return wide_sum(chosen, tuple(range(-choice_dims, 0))) if choice_dims else chosen


class LeaveOneOut(GradientEstimator):
    r"""REINFORCE with the mean of the other samples as the baseline; unbiased for any function.

    :math:`\frac1S \sum_s (f_s - \frac1{S-1} \sum_{r \ne s} f_r)\, \nabla \log p(d_s)` with S samples. It needs no
    gradient of f in d and sees f at one-hot choices only.

    Raises:
        ValueError: on use, if ``num_samples`` is below 2.

    References:
        Williams (1992); Kool, van Hoof and Welling (2019), "Buy 4 REINFORCE samples, get a baseline for free!".

    Example:
        >>> import torch
        >>> from mixkit.relaxations import expectation
        >>> logits = torch.zeros(2, requires_grad=True)
        >>> draw = torch.Generator().manual_seed(0)
        >>> payoff = lambda coin: 2 * coin[..., 1]
        >>> expectation(payoff, logits, estimator=LeaveOneOut(), num_samples=1000, generator=draw).backward()
        >>> [round(value, 1) for value in logits.grad.tolist()]
        [-0.5, 0.5]
    """

    def estimate(
        self,
        function: Function,
        logits: Tensor,
        *,
        num_samples: int,
        choice_dims: int,
        generator: Randomness,
    ) -> Tensor:
        """The mean of ``function``, with the leave-one-out gradient."""
        if num_samples < 2:
            raise ValueError(f"num_samples must be at least 2 for LeaveOneOut, got {num_samples}")
        one_hot = sample_one_hot(logits.expand(num_samples, *logits.shape), generator=generator)
        values = evaluate(function, one_hot, choice_dims)
        log_prob = choice_log_prob(logits, one_hot, choice_dims)
        centered = (values - wide_mean(values, 0)).detach() * (num_samples / (num_samples - 1))
        score = (centered * (log_prob - log_prob.detach())).to(values.dtype)
        return wide_mean(values + score, 0).to(values.dtype)
