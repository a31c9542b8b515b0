"""The binomial distribution with its distribution function, precise at any number of trials."""

import math
from typing import Any

import numpy as np
import scipy.special
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.nn.functional import logsigmoid

from .._validation import at_least_float32
from .by_scipy import double_array
from .parametric import TwoTailedDistribution
from .stirling import deviance, stirling_of

__all__ = ["Binomial", "binomial_log_prob"]

_HALF_LOG_TWO_PI = 0.5 * math.log(2.0 * math.pi)


class Binomial(TwoTailedDistribution):
    r"""Successes in m independent trials of probability :math:`p = 1 / (1 + e^{-\eta})`.

    .. math:: P(y) = \binom{m}{y} p^y (1 - p)^{m - y}.

    ``cdf`` and ``sf`` (SciPy's incomplete beta) leave autograd's graph.

    Args:
        logit: log-odds :math:`\eta` of success, any shape.
        trials: number of trials m, positive integers, broadcastable with it.
        validate_args: as everywhere in torch.

    Example:
        >>> import torch
        >>> law = Binomial(torch.tensor(0.0), torch.tensor(3.0))
        >>> law.log_prob(torch.tensor(1.0)).exp(), law.mean, law.cdf(torch.tensor(1.0))
        (tensor(0.3750), tensor(1.5000), tensor(0.5000))
    """

    arg_constraints: dict[str, Any] = {  # noqa: RUF012 (torch's own name and type)
        "logit": constraints.real,
        "trials": constraints.positive_integer,
    }

    def __init__(self, logit: Tensor, trials: Tensor, validate_args: bool | None = None) -> None:
        self.logit, self.trials = torch.broadcast_tensors(logit, trials.to(logit.dtype))
        super().__init__(self.logit.shape, validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        """The integers from zero to the number of trials."""
        return constraints.integer_interval(0, self.trials)

    @property
    def mean(self) -> Tensor:
        """``m p``."""
        return self.trials * torch.sigmoid(self.logit)

    @property
    def variance(self) -> Tensor:
        """``m p (1 - p)``."""
        return self.trials * torch.sigmoid(self.logit) * torch.sigmoid(-self.logit)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of ``value``; -inf where it is no number of successes."""
        if self._validate_args:
            self._validate_sample(value)
        is_count = (value >= 0) & (value == value.floor()) & (value <= self.trials)
        return self._log_prob_where(is_count, value, 0.0, binomial_log_prob, self.trials, self.logit)

    def _tail(self, value: Tensor, *, is_upper: bool) -> Tensor:
        """The incomplete beta function at the smaller of the two probabilities, which 1 less the other would round."""
        dtype = torch.promote_types(value.dtype, self.logit.dtype)
        logit, trials = double_array(self.logit), double_array(self.trials)
        count = np.clip(np.floor(double_array(value)), 0.0, np.maximum(trials - 1.0, 0.0))
        success, failure = scipy.special.expit(logit), scipy.special.expit(-logit)
        above, rest = count + 1.0, trials - count
        if is_upper:
            inside = np.where(
                logit < 0, scipy.special.betainc(above, rest, success), scipy.special.betaincc(rest, above, failure)
            )
        else:
            inside = np.where(
                logit < 0, scipy.special.betaincc(above, rest, success), scipy.special.betainc(rest, above, failure)
            )
        tail = torch.as_tensor(inside, dtype=dtype, device=value.device)
        tail = torch.where(value < 0, float(is_upper), tail)
        tail = torch.where(value >= self.trials, float(not is_upper), tail)
        return torch.where(value.isnan(), torch.nan, tail)

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size()) -> Tensor:  # noqa: B008
        """Draws: successes, or failures where these are the rarer."""
        shape = self._extended_shape(torch.Size(sample_shape))
        logit, trials = (at_least_float32(part).expand(shape) for part in (self.logit, self.trials))
        rarer = torch.binomial(trials.contiguous(), torch.sigmoid(-logit.abs()).contiguous())
        return torch.where(logit > 0, trials - rarer, rarer).to(self.logit.dtype)


def binomial_log_prob(count: Tensor, trials: Tensor, logit: Tensor) -> Tensor:
    r"""The binomial log-probability of counts :math:`0 \le y \le m`, elementwise.

    Deviances and what Stirling's formula leaves out, so that no terms of size m cancel.

    Source: Loader (2000), Fast and Accurate Computation of Binomial Probabilities.

    Example:
        >>> import torch
        >>> trials = torch.tensor(1e12, dtype=torch.float64)
        >>> binomial_log_prob(trials / 2, trials, torch.zeros((), dtype=torch.float64))  # log(2 / (pi m)) / 2
        tensor(-14.0413, dtype=torch.float64)
    """
    count, trials, logit = torch.broadcast_tensors(count, trials, logit)
    log_success, log_failure = logsigmoid(logit), logsigmoid(-logit)
    is_inside = (count > 0) & (count < trials)
    y, m = torch.where(is_inside, count, 1.0), torch.where(is_inside, trials, 2.0)
    ends = torch.where(count > 0, trials * log_success, trials * log_failure)
    rest = m - y
    inside = (
        stirling_of(m)
        - stirling_of(y)
        - stirling_of(rest)
        - deviance(y, m.log() - y.log() + log_success)
        - deviance(rest, m.log() - rest.log() + log_failure)
        + 0.5 * (m.log() - y.log() - rest.log())
        - _HALF_LOG_TWO_PI
    )
    return torch.where(is_inside, inside, ends)
