"""ReinMax: a straight-through estimator of second order."""

from typing import Any

import torch
from torch import Tensor

from .._validation import at_least_float32
from ..numerics.randomness import Randomness
from ._checks import check_logits, check_temperature
from ._steps import divide_by_temperature, is_one, one_hot_of
from .gradient_estimator import PathEstimator
from .noise import centered, sample_index_from_probs
from .tempered import TemperatureLike, Tempered

__all__ = ["ReinMax", "reinmax"]


def reinmax(
    logits: Tensor,  # (*batch, k)
    temperature: float | Tensor = 1.0,
    *,
    generator: Randomness = None,
) -> Tensor:
    r"""A one-hot draw d of :math:`\pi = \operatorname{softmax}(\theta)` with the gradient
    :math:`g^\top (2 J(\tfrac{\pi_\tau + d}{2}) - \tfrac12 J(\pi))`, where
    :math:`J(p) = \operatorname{diag}(p) - p p^\top` and :math:`\pi_\tau = \operatorname{softmax}(\theta / \tau)`.

    Heun's rule in place of the forward Euler rule that straight-through amounts to: at :math:`\tau = 1` its
    expectation is exact for one categorical and any quadratic function, and second order in general.

    Args:
        logits: :math:`\theta` ``(*batch, k)``, any floating dtype, -inf allowed.
        temperature: :math:`\tau > 0` of the backward pass (1 or above in the paper); it gets no gradient.
        generator: source of randomness; torch's default when None.

    Returns:
        One-hot rows ``(*batch, k)`` in the dtype of ``logits``. Differentiable once.

    Raises:
        ValueError: if a row holds NaN, +inf or nothing finite, or the temperature is not positive.

    References:
        Liu, Dong, Liu, Yu and Gao (2023), arXiv 2304.08612, algorithm 2.

    Example:
        >>> reinmax(torch.zeros(5), generator=torch.Generator().manual_seed(0)).sum()
        tensor(1.)
    """
    check_logits(logits)
    check_temperature(temperature)
    scores = at_least_float32(logits) if is_one(temperature) else centered(logits)  # a softmax centers by itself
    probs = scores.detach().softmax(-1)
    index = sample_index_from_probs(probs, generator=generator)
    tempered = probs if is_one(temperature) else _tempered(scores.detach(), temperature)
    if torch.compiler.is_compiling():
        return _with_heun_gradient(scores, index, probs, tempered).to(logits.dtype)
    return _HeunGradient.apply(scores, index, probs, tempered).to(logits.dtype)


def _tempered(logits: Tensor, temperature: float | Tensor) -> Tensor:
    detached = temperature.detach() if isinstance(temperature, Tensor) else temperature
    return divide_by_temperature(logits, detached).softmax(-1)


def _with_heun_gradient(logits: Tensor, index: Tensor, probs: Tensor, tempered: Tensor) -> Tensor:
    """What :class:`_HeunGradient` gives, as arithmetic that a compiler can read: the one-hot draw plus a zero."""
    absent = torch.isneginf(logits)
    step = (logits - logits.detach().masked_fill(absent, 0.0)).masked_fill(absent, 0.0)  # zero, with a derivative
    return one_hot_of(index, logits) + _heun_product(step, index, probs, tempered)


def _heun_product(vector: Tensor, index: Tensor, probs: Tensor, tempered: Tensor) -> Tensor:
    r""":math:`2 J(\tfrac{\pi_\tau + d}{2}) v - \tfrac12 J(\pi) v`: both matrices are symmetric, so of both modes.

    With :math:`c = (\pi_\tau^\top v + d^\top v) / 2` and :math:`e = \pi^\top v`, that is
    :math:`(\pi_\tau + d) (v - c) - \tfrac12 \pi (v - e)`. What d adds is an entry in each row.
    """
    drawn, mean = vector.gather(-1, index), _row_product(probs, vector)
    if tempered is probs:
        return (vector - drawn).mul_(probs).mul_(0.5).scatter_add_(-1, index, 0.5 * (drawn - mean))
    center = (drawn + _row_product(tempered, vector)) / 2.0
    product = (vector - center).mul_(tempered).sub_((vector - mean).mul_(probs).mul_(0.5))
    return product.scatter_add_(-1, index, drawn - center)


def _row_product(first: Tensor, second: Tensor) -> Tensor:
    """The inner product of the rows, ``(*batch, 1)``, without an array of products."""
    return (first.unsqueeze(-2) @ second.unsqueeze(-1)).squeeze(-1)


class _HeunGradient(torch.autograd.Function):
    """One-hot in value; :func:`_heun_product` in both modes."""

    generate_vmap_rule = True

    @staticmethod
    def forward(logits: Tensor, index: Tensor, probs: Tensor, tempered: Tensor) -> Tensor:
        return one_hot_of(index, logits)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        _, index, probs, tempered = inputs
        ctx.same = tempered is probs
        ctx.save_for_backward(index, probs, tempered)
        ctx.save_for_forward(index, probs, tempered)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        index, probs, tempered = ctx.saved_tensors
        return _heun_product(grad, index, probs, probs if ctx.same else tempered), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        index, probs, tempered = ctx.saved_tensors
        return _heun_product(tangent, index, probs, probs if ctx.same else tempered)


class ReinMax(Tempered, PathEstimator):
    """One-hot samples with the second-order gradient of :func:`reinmax`.

    Args:
        temperature: of the backward pass, a positive number or a :class:`mixkit.gates.temperatures.Temperature`.

    Example:
        >>> ReinMax()(torch.zeros(4, 3), generator=torch.Generator().manual_seed(0)).shape
        torch.Size([4, 3])
    """

    def __init__(self, temperature: TemperatureLike = 1.0) -> None:
        super().__init__(temperature)

    def forward(self, logits: Tensor, generator: Randomness = None) -> Tensor:
        """A one-hot sample ``(*batch, k)`` with a gradient."""
        return reinmax(logits, self.temperature_at(logits), generator=generator)
