"""One call for every gradient estimator: an expectation over discrete choices that can be differentiated."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from .._validation import check_integer
from ..numerics.precision import wide_mean
from ..numerics.randomness import Randomness, as_generator
from ._checks import check_logits

__all__ = ["Function", "GradientEstimator", "PathEstimator", "expectation"]

Function = Callable[[Tensor], Tensor]
"""From choices ``(num_samples, *batch, k)`` to values ``(num_samples, *outer)``."""


class GradientEstimator(nn.Module, ABC):
    """A way to differentiate an expectation over discrete choices in the logits of their distribution."""

    @abstractmethod
    def estimate(
        self,
        function: Function,
        logits: Tensor,  # (*outer, *choices, k)
        *,
        num_samples: int,
        choice_dims: int,
        generator: Randomness,
    ) -> Tensor:  # (*outer,)
        """The estimate :func:`expectation` returns; its arguments have been checked."""


class PathEstimator(GradientEstimator):
    """An estimator that is a differentiable sample: it can stand wherever a draw is needed.

    A subclass defines ``forward(logits, generator=None)``, which returns one sample ``(*batch, k)`` per row.
    """

    @abstractmethod
    def forward(self, logits: Tensor, generator: Randomness = None) -> Tensor:
        """One differentiable sample ``(*batch, k)``."""

    def estimate(
        self,
        function: Function,
        logits: Tensor,
        *,
        num_samples: int,
        choice_dims: int,
        generator: Randomness,
    ) -> Tensor:
        """The mean of ``function`` over ``num_samples`` samples."""
        samples = self(logits.expand(num_samples, *logits.shape), generator)
        values = evaluate(function, samples, choice_dims)
        return wide_mean(values, 0).to(values.dtype)


def evaluate(function: Function, choices: Tensor, choice_dims: int) -> Tensor:
    """``function(choices)``, checked to be one value for every leading index that is no choice and no category."""
    values = function(choices)
    expected = choices.shape[: choices.ndim - 1 - choice_dims]
    if not isinstance(values, Tensor):
        raise TypeError(f"function must return a torch.Tensor, got {type(values).__name__}")
    if values.shape != expected:
        raise ValueError(
            f"function must return one value per sample and batch, shape {tuple(expected)} for choices of shape "
            f"{tuple(choices.shape)} and choice_dims={choice_dims}, got {tuple(values.shape)}"
        )
    return values


def expectation(
    function: Function,
    logits: Tensor,  # (*outer, *choices, k)
    *,
    estimator: GradientEstimator,
    num_samples: int = 1,
    choice_dims: int = 0,
    generator: Randomness = None,
) -> Tensor:  # (*outer,)
    r"""Estimate :math:`\mathbb{E}\, f(d)` for independent categorical choices d, with a gradient in their logits.

    The value estimates the expectation; ``backward`` gives the estimator's gradient in ``logits`` and an unbiased
    gradient in whatever ``function`` itself depends on (unless the samples are relaxed, as with
    :class:`GumbelSoftmax`, when both belong to the relaxed distribution).

    Args:
        function: maps choices ``(num_samples, *outer, *choices, k)``, one-hot in the last dimension (relaxed for
            relaxed estimators), to values ``(num_samples, *outer)``.
        logits: unnormalized log-probabilities ``(*outer, *choices, k)``, -inf allowed.
        estimator: how to differentiate, such as ``ReinMax()`` or ``LeaveOneOut()``.
        num_samples: draws of all choices that are averaged, at least 1.
        choice_dims: how many dimensions before the last one hold choices that enter ``function`` together.
        generator: source of randomness, or a seed; torch's default when None.

    Returns:
        One estimate per outer index, shape ``(*outer,)``.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if the logits, a number or the shape ``function`` returns is not as said above.

    Example:
        Three fair coins, and the square of the number of heads:

        >>> import torch
        >>> from mixkit.relaxations import Enumeration
        >>> logits = torch.zeros(3, 2, requires_grad=True)
        >>> square = lambda coins: coins[..., 1].sum(-1) ** 2
        >>> value = expectation(square, logits, estimator=Enumeration(), choice_dims=1)
        >>> value.backward()
        >>> round(value.item(), 4), logits.grad[0]
        (3.0, tensor([-0.7500,  0.7500]))
    """
    check_logits(logits)
    check_integer("num_samples", num_samples, low=1)
    check_integer("choice_dims", choice_dims, low=0, high=logits.ndim - 1)
    if not isinstance(estimator, GradientEstimator):
        raise TypeError(f"estimator must be a GradientEstimator object such as ReinMax(), got {estimator!r}")
    return estimator.estimate(
        function,
        logits,
        num_samples=num_samples,
        choice_dims=choice_dims,
        generator=as_generator(generator, logits.device),
    )
