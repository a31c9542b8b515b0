"""Thirty lines of PyTorch: the log-likelihood by autograd, maximized by ``torch.optim.LBFGS``."""

import contextlib

import numpy as np
import torch
from torch import Tensor

from .numpy_em import Array, first_m_step
from .trace import OutOfTimeError, Trace

__all__ = ["fit"]


def log_likelihood(gate: Tensor, coefficients: Tensor, log_std: Tensor, design: Tensor, y: Tensor) -> Tensor:
    """Total log-likelihood."""
    scores = torch.nn.functional.pad(design @ gate.T, (0, 1))
    law = torch.distributions.Normal(design @ coefficients.T, log_std.exp(), validate_args=False)
    return torch.logsumexp(torch.log_softmax(scores, -1) + law.log_prob(y[:, None]), -1).sum()


def fit(x: Array, y: Array, resp: Array, trace: Trace, *, max_iter: int) -> list[Tensor]:
    """L-BFGS with strong Wolfe line search on the mean log-likelihood, from one M-step."""
    start, columns = first_m_step(x, y, resp)
    design, response = torch.as_tensor(columns), torch.as_tensor(y)
    blocks = (start.gate[:-1], start.coefficients, 0.5 * np.log(start.variance))
    parameters = [torch.tensor(block, requires_grad=True) for block in blocks]
    settings = {"history_size": 20, "tolerance_grad": 1e-9, "tolerance_change": 1e-13, "line_search_fn": "strong_wolfe"}
    optimizer = torch.optim.LBFGS(parameters, max_iter=max_iter, max_eval=2 * max_iter, **settings)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = -log_likelihood(*parameters, design, response) / len(response)
        loss.backward()
        trace.record(-float(loss.detach()) * len(response))
        return loss

    with contextlib.suppress(OutOfTimeError):
        optimizer.step(closure)
    return [parameter.detach() for parameter in parameters]
