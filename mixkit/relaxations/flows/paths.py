r"""The Gumbel-softmax path from noise to a token, and its exact velocity, density, posterior and score.

A token ``k`` of a vocabulary of size ``v`` becomes a point of the simplex at time ``t`` in [0, 1] by

    y_t = signal(t) e_k + g,      x_t = softmax(y_t / temperature(t)),      g_i ~ Gumbel(0, 1) i.i.d.

Every function works on ``log_x = log x_t``, in which nothing underflows.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..._validation import at_least_float32, can_read_values, check_positive, check_tensor
from ...numerics.log_space import log_expm1
from ...numerics.precision import wide_sum
from ...numerics.randomness import Randomness
from .._steps import divide_by_temperature
from ..distributions import LogRelaxedOneHot
from ..noise import perturb
from .curves import ConstantCurve, Curve, ExponentialCurve, LinearCurve


@dataclass(frozen=True)
class GumbelSoftmaxPath:
    r"""The Gumbel-softmax interpolant with time-dependent temperature (Tang et al. 2025, arXiv:2503.17361).

    ``x_t = softmax((signal(t) e_k + g) / temperature(t))`` follows the Concrete distribution with log-weights
    ``signal(t) e_k``. The interpolant of that paper, its Eq. 9, is ``softmax((e_k + g / beta) / tau(t))``: this
    path with the *constant* signal ``beta`` and the temperature ``beta tau(t)`` (``published_path``).

    The velocity. With ``z = y_t / temperature``, ``log x = z - logsumexp(z)`` and a dot for the time derivative,

        dz/dt = (signal' / temperature) e_k - (temperature' / temperature) z,
        dx/dt = x * (dz/dt - <x, dz/dt>),

    and ``z`` may be replaced by ``log x``, which differs from it by a constant: the velocity is a function of the point
    and the token alone, the noise is eliminated exactly. It is linear in ``e_k``, so the marginal velocity, which
    transports the distribution of ``x_t`` over all tokens, has the posterior ``p(k | x_t)`` in place of ``e_k``.

    What was checked. The velocity published for Eq. 9 (its Eq. 13) is ``(lambda / tau) x_k (e_k - x)``,
    ``tau(t) = tau_max exp(-lambda t)``. Differentiating Eq. 9 at fixed noise gives that term *plus*
    ``lambda / (beta tau) x * (g - <x, g>)``: the published form leaves the motion of the noise out. It is exact for
    another path, in which the temperature divides the token and not the noise (an ``ExponentialCurve`` as signal). With
    the noise kept the sum is ``lambda x * (log x - <x, log x>)``, which does not depend on the token: along Eq. 9 a
    point only sharpens, and its largest entry is settled at time 0, where it is the token with probability
    ``e^beta / (e^beta + v - 1)``. The exact flow of Eq. 9 has nothing to learn, and the distribution it starts from is
    a mixture over the data; sampling therefore asks for ``signal(0) = 0`` (``gumbel_softmax_path``), whose start is
    pure noise. The tests compare both velocities with the derivative of the path at fixed noise and with the
    continuity equation, which the published one misses by three quarters of its largest term.

    Args:
        signal: log-odds of the token over any other one; finite, never negative.
        temperature: divides the noisy scores; positive.

    Example:
        >>> path = gumbel_softmax_path(signal_end=10.0)
        >>> generator = torch.Generator().manual_seed(0)
        >>> log_x = path.sample(torch.tensor([2, 0]), torch.tensor(1.0), num_categories=3, generator=generator)
        >>> log_x.argmax(-1)
        tensor([2, 0])
    """

    signal: Curve
    temperature: Curve

    def __post_init__(self) -> None:
        ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
        check_positive("temperature", self.temperature(ends))
        if not (self.signal(ends) >= 0).all():
            raise ValueError(f"signal must be at least 0 at times 0 and 1, got {self.signal(ends).tolist()}")

    def sample(
        self,
        tokens: Tensor,  # (*batch,)
        t: Tensor | float,  # broadcastable to (*batch,)
        *,
        num_categories: int,
        generator: Randomness = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:  # (*batch, v)
        """Draw ``log_x`` at time ``t`` given the tokens; shape ``(*batch, v)``."""
        dtype = dtype or torch.get_default_dtype()
        one_hot = _one_hot(tokens, num_categories, torch.promote_types(dtype, torch.float32))
        time = _as_time(t, one_hot)
        perturbed = perturb(self.signal(time).unsqueeze(-1) * one_hot, generator=generator)
        scores = divide_by_temperature(perturbed, self.temperature(time).unsqueeze(-1))
        return torch.log_softmax(scores, dim=-1).clamp(min=torch.finfo(dtype).min).to(dtype)

    def velocity(
        self,
        log_x: Tensor,  # (*batch, v)
        log_posterior: Tensor,  # (*batch, v)
        t: Tensor | float,
    ) -> Tensor:  # (*batch, v)
        """Velocity ``dx/dt`` at ``log_x``: entries sum to 0.

        ``log_posterior`` is the log-probability of each token given the point: a learned denoiser's for the marginal
        velocity, the log of a one-hot vector (0 and -inf) for the conditional one.
        """
        time, wide = _as_time(t, log_x), at_least_float32(log_x)
        temperature = self.temperature(time).unsqueeze(-1)
        pull = self.signal.derivative(time).unsqueeze(-1) / temperature * at_least_float32(log_posterior).exp()
        sharpening = -self.temperature.derivative(time).unsqueeze(-1) / temperature
        return _tangent(wide, pull + sharpening * wide).to(log_x.dtype)

    def noise_free_velocity(self, log_x: Tensor, log_posterior: Tensor, t: Tensor | float) -> Tensor:
        r"""The velocity in the form published (Eq. 13): ``d(signal / temperature)/dt x_k (e_k - x)``; for comparison.

        It leaves out the motion of the noise, ``-temperature' / temperature^2 x * (g - <x, g>)``, and agrees with
        ``velocity`` only where the temperature is constant.
        """
        time = _as_time(t, log_x)
        signal, temperature = self.signal(time), self.temperature(time)
        rate = (self.signal.derivative(time) - signal * self.temperature.derivative(time) / temperature) / temperature
        drift = rate.unsqueeze(-1) * at_least_float32(log_posterior).exp()
        return _tangent(at_least_float32(log_x), drift).to(log_x.dtype)

    def log_prob(self, log_x: Tensor, tokens: Tensor, t: Tensor | float) -> Tensor:  # (*batch,)
        """Log-density of ``log x_t`` given the tokens, with respect to Lebesgue measure on its log-ratios to one entry.

        The distribution is ``LogRelaxedOneHot(temperature(t), logits=signal(t) e_k)``; subtract ``log_x.sum(-1)`` for
        the density of ``x_t`` on the simplex.
        """
        time = _as_time(t, log_x)
        logits = self.signal(time).unsqueeze(-1) * _one_hot(tokens, log_x.shape[-1], time.dtype)
        return LogRelaxedOneHot(self.temperature(time), logits=logits, validate_args=False).log_prob(log_x)

    def log_posterior(self, log_x: Tensor, log_prior: Tensor, t: Tensor | float) -> Tensor:  # (*batch, v)
        r"""Log-probability of each token given the point, for independent tokens of distribution ``log_prior``; exact.

        ``p(k | x) \propto prior_k e^a (1 + (e^a - 1) r_k)^{-v}`` with ``a = signal(t)``, ``r = softmax(-T log x)``.
        """
        time = _as_time(t, log_x)
        excess = self._excess(at_least_float32(log_x), time)[1]
        return torch.log_softmax(at_least_float32(log_prior) - log_x.shape[-1] * excess, dim=-1).to(log_x.dtype)

    def score(self, log_x: Tensor, log_posterior: Tensor, t: Tensor | float) -> Tensor:  # (*batch, v)
        r"""Gradient of the log-density of ``log x`` (entries sum to 0), averaged over the posterior.

        Given token ``k`` it is ``-T + v T softmax(signal(t) e_k - T log x)``; the score of the marginal distribution
        is the average over ``p(k | x)``, taken here in closed form in O(v).
        """
        time = _as_time(t, log_x)
        log_rest, excess = self._excess(at_least_float32(log_x), time)
        log_share = at_least_float32(log_posterior) - excess  # log of p_k / (1 + (e^a - 1) r_k)
        log_signal = log_expm1(self.signal(time)).unsqueeze(-1)
        mean = log_rest + torch.logaddexp(log_share.logsumexp(-1, keepdim=True), log_signal + log_share)
        temperature = self.temperature(time).unsqueeze(-1)
        return (temperature * (log_x.shape[-1] * mean.exp() - 1)).to(log_x.dtype)

    def recovery_probability(self, t: Tensor | float, num_categories: int) -> Tensor:
        """Probability that the largest entry of ``x_t`` is the token: ``e^a / (e^a + v - 1)``, ``a = signal(t)``."""
        signal = self.signal(torch.as_tensor(t, dtype=torch.get_default_dtype()))
        return torch.sigmoid(signal - torch.log(signal.new_tensor(num_categories - 1.0)))

    def _excess(self, log_x: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """``log r`` and ``log(1 + (e^a - 1) r)`` for ``r = softmax(-T log x)``."""
        log_rest = torch.log_softmax(-self.temperature(time).unsqueeze(-1) * log_x, dim=-1)
        log_signal = log_expm1(self.signal(time)).unsqueeze(-1)
        return log_rest, torch.nn.functional.softplus(log_signal + log_rest)


def gumbel_softmax_path(*, signal_end: float = 12.0, temperature: float | Curve = 1.0) -> GumbelSoftmaxPath:
    """The path to train flows on: signal ``signal_end * t``, so that time 0 is pure noise and independent of the data.

    Args:
        signal_end: positive; at time 1 the token is the largest entry with probability ``e^a / (e^a + v - 1)``.
        temperature: positive number, or a curve; it changes the coordinates a network sees, not the flow.

    Example:
        >>> gumbel_softmax_path().recovery_probability(1.0, num_categories=20)
        tensor(0.9999)
    """
    check_positive("signal_end", signal_end)
    curve = (
        temperature
        if isinstance(temperature, Curve)
        else ConstantCurve(float(check_positive("temperature", temperature)))
    )
    return GumbelSoftmaxPath(LinearCurve(0.0, signal_end), curve)


def published_path(
    *, temperature_max: float = 10.0, decay: float = 3.0, noise_divisor: float = 2.0
) -> GumbelSoftmaxPath:
    r"""Eq. 9 of arXiv:2503.17361, ``softmax((e_k + g / beta) / tau(t))``, ``tau(t) = tau_max exp(-lambda t)``.

    Args:
        temperature_max: ``tau_max``, positive.
        decay: ``lambda``, positive.
        noise_divisor: ``beta``, positive.

    Example:
        >>> published_path().recovery_probability(0.0, num_categories=4)  # its start already tells the token
        tensor(0.7112)
    """
    for name, value in (("temperature_max", temperature_max), ("decay", decay), ("noise_divisor", noise_divisor)):
        check_positive(name, value)
    return GumbelSoftmaxPath(ConstantCurve(noise_divisor), ExponentialCurve(noise_divisor * temperature_max, -decay))


def _tangent(log_x: Tensor, drift: Tensor) -> Tensor:
    """``x * (drift - <x, drift>)``, with 0 where x is 0."""
    x = log_x.exp()
    drift = torch.where(log_x == -torch.inf, 0, drift)
    return x * (drift - wide_sum(x * drift, keepdim=True))


def _one_hot(tokens: Tensor, num_categories: int, dtype: torch.dtype) -> Tensor:
    check_tensor("tokens", tokens, floating=False)
    if tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool:
        raise TypeError(f"tokens must have an integer dtype, got {tokens.dtype}")
    if (
        can_read_values(tokens)
        and tokens.numel()
        and not (int(tokens.min()) >= 0 and int(tokens.max()) < num_categories)
    ):
        low, high = int(tokens.min()), int(tokens.max())
        raise ValueError(f"tokens must lie in [0, {num_categories}), got values from {low} to {high}")
    return torch.nn.functional.one_hot(tokens.long(), num_categories).to(dtype)


def _as_time(t: Tensor | float, like: Tensor) -> Tensor:
    """``t`` on the device and with the dtype of ``like``, in float32 at least, checked to lie in [0, 1]."""
    time = torch.as_tensor(t, dtype=torch.promote_types(like.dtype, torch.float32), device=like.device)
    if can_read_values(time) and not ((time >= 0) & (time <= 1)).all():
        raise ValueError(f"t must lie in [0, 1], got {t if time.ndim == 0 else 'entries outside'}")
    return time
