"""A relaxed one-hot distribution whose values live in log space, for torch and Pyro."""

from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints

from .._validation import can_read_values, check_tensor
from ..numerics.precision import narrow, wide_sum, widest_dtype
from ..numerics.randomness import Randomness
from ._checks import check_logits, check_temperature
from ._steps import divide_by_temperature, hard_with_gradient_of
from .noise import centered, one_hot_argmax, perturb

__all__ = ["LogRelaxedOneHot", "harden", "log_simplex"]


class _LogSimplex(constraints.Constraint):
    """Log-probabilities: rows whose exponentials sum to 1, up to the rounding of their dtype; -inf allowed."""

    is_discrete = False
    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        total = torch.logsumexp(value.to(widest_dtype(value)), -1)
        rounding = torch.finfo(value.dtype).eps * (8.0 + 4.0 * torch.tensor(float(value.shape[-1])).log().item())
        return total.abs() <= rounding


log_simplex = _LogSimplex()
"""The constraint of a log-probability vector in the last dimension."""


def harden(log_relaxed: Tensor) -> Tensor:
    r"""The one-hot argmax of :math:`y = \log z`, with the gradient of :math:`z = \exp(y)`.

    A deterministic function of the sample: the density stays that of the relaxed value, so the same
    :class:`LogRelaxedOneHot` serves as model and as guide site, and straight-through needs no distribution of its own.

    Args:
        log_relaxed: values of :class:`LogRelaxedOneHot`, ``(*batch, k)``.

    Returns:
        One-hot rows ``(*batch, k)``.

    Example:
        >>> harden(torch.tensor([0.2, 0.7, 0.1]).log())
        tensor([0., 1., 0.])
    """
    check_tensor("log_relaxed", log_relaxed)
    return hard_with_gradient_of(one_hot_argmax(log_relaxed), log_relaxed.exp())


class LogRelaxedOneHot(TorchDistribution):
    r"""The distribution of :math:`y = \log \operatorname{softmax}((\theta + g) / \tau)`, g standard Gumbel noise.

    .. math::
        \log p(y) = \log\Gamma(k) + (k - 1) \log\tau + \sum_{i=1}^k \log\operatorname{softmax}(\theta - \tau y)_i

    with respect to the measure on :math:`\sum_i e^{y_i} = 1` under which Maddison et al. state it. Nothing is
    exponentiated, so neither a small temperature nor a large k can push a value to the border of the simplex. A
    logit of -inf removes its category: the value there is -inf and k counts the others. ``value.exp()`` is the
    relaxed one-hot vector, :func:`harden` the one-hot vector with a straight-through gradient.

    Args:
        temperature: :math:`\tau > 0`, a number or a tensor that broadcasts with the batch shape.
        probs: probabilities ``(*batch, k)``, zeros allowed, normalized by us; or
        logits: unnormalized log-probabilities ``(*batch, k)``, -inf allowed. Exactly one of the two.

    Values have the dtype of the logits, at its lowest number where they are below it; log-probabilities are in float32
    at least, and summed in float64.

    Raises:
        ValueError: if not exactly one of ``probs`` and ``logits`` is given, a row holds NaN, +inf or nothing of
            positive probability, or the temperature is not positive.

    References:
        Maddison, Mnih and Teh (2017), arXiv 1611.00712 (the ExpConcrete distribution of the appendix).

    Example:
        >>> law = LogRelaxedOneHot(0.05, logits=torch.zeros(512))
        >>> value = law.rsample(generator=torch.Generator().manual_seed(0))
        >>> bool(law.support.check(value)), bool(law.log_prob(value).isfinite())
        (True, True)
    """

    arg_constraints = {"temperature": constraints.positive, "logits": constraints.independent(constraints.real, 1)}  # noqa: RUF012
    support = log_simplex
    has_rsample = True

    def __init__(
        self,
        temperature: float | Tensor,
        probs: Tensor | None = None,
        logits: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.logits = check_logits(_logits_of(probs, logits))
        check_temperature(temperature)
        if not isinstance(temperature, Tensor):
            temperature = self.logits.new_tensor(temperature, dtype=widest_dtype(self.logits))
        batch_shape = torch.broadcast_shapes(temperature.shape, self.logits.shape[:-1])
        self.temperature = temperature
        self.logits = self.logits.expand(*batch_shape, -1)
        validate_args = validate_args if can_read_values(self.logits) else False
        super().__init__(batch_shape, self.logits.shape[-1:], validate_args=validate_args)

    @property
    def probs(self) -> Tensor:
        """The probabilities ``(*batch, k)`` of the argmax."""
        return self.logits.softmax(-1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "LogRelaxedOneHot":
        """The same distribution with more leading dimensions."""
        new = self._get_checked_instance(LogRelaxedOneHot, _instance)
        new.temperature = self.temperature
        new.logits = self.logits.expand(*batch_shape, -1)
        super(LogRelaxedOneHot, new).__init__(torch.Size(batch_shape), self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def rsample(self, sample_shape: Any = (), generator: Randomness = None) -> Tensor:
        """Values ``(*sample_shape, *batch, k)``, differentiable in logits and temperature."""
        logits = self.logits.expand(self._extended_shape(torch.Size(sample_shape)))
        scores = divide_by_temperature(perturb(logits, generator=generator), self._column_temperature())
        return _cast_finite(scores.log_softmax(-1), logits)

    def sample(self, sample_shape: Any = (), generator: Randomness = None) -> Tensor:
        """Values ``(*sample_shape, *batch, k)`` without gradient."""
        with torch.no_grad():
            return self.rsample(sample_shape, generator)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density ``(..., *batch)``; -inf where a value is -inf and its logit is not, or the other way round."""
        if self._validate_args:
            self._validate_sample(value)
        wide = widest_dtype(self.logits)
        logits, value = torch.broadcast_tensors(self.logits.to(wide), value.to(wide))
        absent, gone = torch.isneginf(logits), torch.isneginf(value)
        temperature = self._column_temperature().to(logits)
        scores = centered(logits) - temperature * value.masked_fill(absent | gone, 0.0)
        terms = scores.log_softmax(-1).masked_fill(absent, 0.0).sum(-1)
        size = (~absent).sum(-1).to(terms)
        log_prob = torch.lgamma(size) + (size - 1.0) * temperature.squeeze(-1).log() + terms
        log_prob = log_prob.masked_fill((absent != gone).any(-1), -torch.inf)
        return narrow(log_prob, self.logits)

    def _column_temperature(self) -> Tensor:
        return self.temperature.unsqueeze(-1)


def _cast_finite(log_relaxed: Tensor, logits: Tensor) -> Tensor:
    """The value in the dtype of the logits, at its lowest number where it is below; -inf where the logit is alone."""
    finite = log_relaxed.clamp(min=torch.finfo(logits.dtype).min).to(logits.dtype)
    return torch.where(torch.isneginf(logits), -torch.inf, finite)


def _logits_of(probs: Tensor | None, logits: Tensor | None) -> Tensor:
    if (probs is None) == (logits is None):
        raise ValueError(f"exactly one of probs and logits must be given, got {'neither' if probs is None else 'both'}")
    if logits is not None:
        return logits
    given = check_tensor("probs", probs)
    if can_read_values(given) and not bool((given >= 0).all()):
        raise ValueError(f"probs must be non-negative, got a smallest entry of {float(given.min())}")
    return (given / wide_sum(given, keepdim=True).to(given.dtype)).log()
