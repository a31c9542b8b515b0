"""REBAR: the score function with a relaxed control variate."""

import torch
from torch import Tensor

from ..numerics.precision import wide_mean
from ..numerics.randomness import Randomness, as_generator
from ._steps import divide_by_temperature
from .gradient_estimator import Function, GradientEstimator, evaluate
from .noise import centered, conditional_gumbel, one_hot_argmax, perturb
from .score_function import choice_log_prob
from .tempered import TemperatureLike, Tempered

__all__ = ["Rebar"]


class Rebar(Tempered, GradientEstimator):
    r"""REINFORCE whose control variate is the function at a Gumbel-softmax draw; unbiased for any function.

    With :math:`z = \theta + g`, d its one-hot argmax, :math:`\tilde z` drawn given d and
    :math:`\sigma(z) = \operatorname{softmax}(z / \tau)`, the gradient is

    .. math::
        (f(d) - \eta f(\sigma(\tilde z))) \nabla \log p(d) + \eta \nabla f(\sigma(z)) - \eta \nabla f(\sigma(\tilde z)).

    The function must accept points inside the simplex and is called three times. Its own parameters receive the
    gradient of f(d) plus that of the control variate, whose mean is zero.

    Args:
        temperature: :math:`\tau`, a positive number or a :class:`mixkit.gates.temperatures.Temperature`.
        scale: :math:`\eta`, the weight of the control variate; 0 is plain REINFORCE. Any finite number.

    Raises:
        ValueError: if the temperature is not positive or the scale not finite.

    References:
        Tucker, Mnih, Maddison, Lawson and Sohl-Dickstein (2017), arXiv 1703.07370.

    Example:
        >>> from mixkit.relaxations import expectation
        >>> logits = torch.zeros(2, requires_grad=True)
        >>> draw = torch.Generator().manual_seed(0)
        >>> payoff = lambda coin: 2 * coin[..., 1]
        >>> expectation(payoff, logits, estimator=Rebar(), num_samples=1000, generator=draw).backward()
        >>> [round(value, 1) for value in logits.grad.tolist()]
        [-0.5, 0.5]
    """

    def __init__(self, temperature: TemperatureLike = 0.5, scale: float = 1.0) -> None:
        super().__init__(temperature)
        self.scale = float(scale)
        if not -torch.inf < self.scale < torch.inf:
            raise ValueError(f"scale must be finite, got {scale}")

    def estimate(
        self,
        function: Function,
        logits: Tensor,
        *,
        num_samples: int,
        choice_dims: int,
        generator: Randomness,
    ) -> Tensor:
        """The mean of ``function`` over one-hot draws, with the REBAR gradient."""
        generator = as_generator(generator, logits.device)
        scores = centered(logits).expand(num_samples, *logits.shape)
        free = perturb(scores, generator=generator)
        one_hot = one_hot_argmax(free)
        bound = conditional_gumbel(scores, one_hot, generator=generator)
        value = evaluate(function, one_hot.to(logits.dtype), choice_dims)
        at_free, at_bound = (self._at_relaxed(function, z, logits, choice_dims) for z in (free, bound))
        log_prob = choice_log_prob(logits, one_hot, choice_dims)
        score = (value - self.scale * at_bound).detach() * (log_prob - log_prob.detach())
        control = self.scale * ((at_free - at_free.detach()) - (at_bound - at_bound.detach()))
        return wide_mean(value + score.to(value.dtype) + control, 0).to(value.dtype)

    def _at_relaxed(self, function: Function, perturbed: Tensor, logits: Tensor, choice_dims: int) -> Tensor:
        relaxed = divide_by_temperature(perturbed, self.temperature_at(logits)).softmax(-1)
        return evaluate(function, relaxed.to(logits.dtype), choice_dims)

    def extra_repr(self) -> str:
        """The settings."""
        return f"scale={self.scale}"
