"""Stochastic variational inference in Pyro, its guide empty: maximum likelihood by Adam with a falling step."""

import contextlib

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import ClippedAdam
from torch import Tensor

from .numpy_em import Array, Parameters, first_m_step
from .trace import OutOfTimeError, Trace

__all__ = ["fit"]

_LEARNING_RATE = 0.05
_FALL = 0.01  # last learning rate over the first


def model(design: Tensor, y: Tensor, start: Parameters) -> None:
    """The mixture of experts as a Pyro user writes it, each parameter a ``pyro.param``."""
    gate = pyro.param("gate", lambda: torch.tensor(start.gate[:-1]))
    coefficients = pyro.param("coefficients", lambda: torch.tensor(start.coefficients))
    log_std = pyro.param("log_std", lambda: torch.tensor(0.5 * np.log(start.variance)))
    weights = dist.Categorical(logits=torch.nn.functional.pad(design @ gate.T, (0, 1)), validate_args=False)
    experts = dist.Normal(design @ coefficients.T, log_std.exp(), validate_args=False)
    with pyro.plate("data", len(y)):
        pyro.sample("y", dist.MixtureSameFamily(weights, experts, validate_args=False), obs=y)


def guide(design: Tensor, y: Tensor, start: Parameters) -> None:
    """Nothing is latent."""


def fit(x: Array, y: Array, resp: Array, trace: Trace, *, max_iter: int) -> None:
    """``max_iter`` steps of Adam on all the data, from one M-step."""
    pyro.clear_param_store()
    start, columns = first_m_step(x, y, resp)
    data = (torch.as_tensor(columns), torch.as_tensor(y), start)
    svi = SVI(model, guide, ClippedAdam({"lr": _LEARNING_RATE, "lrd": _FALL ** (1 / max_iter)}), Trace_ELBO())
    with contextlib.suppress(OutOfTimeError):
        for _ in range(max_iter):
            trace.record(-svi.step(*data))
