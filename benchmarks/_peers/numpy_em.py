"""EM for a softmax-gated mixture of linear Gaussian experts in plain NumPy, as a textbook writes it.

The experts' M-step is weighted least squares; the gate's is one Newton step of the multinomial logit with its exact
Hessian, halved until the expected log-likelihood rises.
"""

import contextlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from .trace import OutOfTimeError, Trace

__all__ = ["Parameters", "e_step", "first_m_step", "fit", "m_step"]

Array = NDArray[np.float64]
_HALVINGS = 20
_GATE_STEPS_FROM_START = 3


class Parameters(NamedTuple):
    """Gate ``(k, D)`` with a last row of zeros, coefficients ``(k, D)``, intercepts last, and variances ``(k,)``."""

    gate: Array
    coefficients: Array
    variance: Array


def e_step(parameters: Parameters, design: Array, y: Array) -> tuple[float, Array]:
    """Log-likelihood and responsibilities ``(n, k)``."""
    residual = y[:, None] - design @ parameters.coefficients.T
    log_density = -0.5 * (np.log(2 * np.pi * parameters.variance) + residual**2 / parameters.variance)
    joint = log_gate(parameters.gate, design) + log_density
    log_prob = logsumexp(joint, axis=1)
    return float(log_prob.sum()), np.exp(joint - log_prob[:, None])


def log_gate(gate: Array, design: Array) -> Array:
    """Log-weights ``(n, k)``."""
    scores = design @ gate.T
    return scores - logsumexp(scores, axis=1)[:, None]


def m_step(parameters: Parameters, resp: Array, design: Array, y: Array) -> Parameters:
    """Experts in closed form, the gate by one Newton step."""
    coefficients, variance = np.empty_like(parameters.coefficients), np.empty_like(parameters.variance)
    for j, weight in enumerate(resp.T):
        weighted = design * weight[:, None]
        coefficients[j] = np.linalg.solve(weighted.T @ design, weighted.T @ y)
        variance[j] = weight @ (y - design @ coefficients[j]) ** 2 / weight.sum()
    return Parameters(gate_newton_step(parameters.gate, resp, design), coefficients, variance)


def gate_newton_step(gate: Array, resp: Array, design: Array) -> Array:
    """One step of Newton's method on the expected log-likelihood of the gate, halved until it rises."""
    k, width = gate.shape
    log_weights = log_gate(gate, design)
    w = np.exp(log_weights)
    gradient = ((resp - w)[:, :-1].T @ design).ravel()
    information = np.empty((k - 1, width, k - 1, width))
    for a in range(k - 1):
        for b in range(k - 1):
            information[a, :, b] = (design * (w[:, a] * ((a == b) - w[:, b]))[:, None]).T @ design
    size = (k - 1) * width
    step = np.zeros_like(gate)
    step[:-1] = np.linalg.solve(information.reshape(size, size), gradient).reshape(k - 1, width)
    old = (resp * log_weights).sum()
    for halving in range(_HALVINGS):
        candidate = gate + 0.5**halving * step
        if (resp * log_gate(candidate, design)).sum() >= old:
            return candidate
    return gate


def first_m_step(x: Array, y: Array, resp: Array) -> tuple[Parameters, Array]:
    """Parameters fitted to responsibilities ``(n, k)`` from a flat gate, and the design matrix."""
    design = np.column_stack([x, np.ones(len(x))])
    shape = (resp.shape[1], design.shape[1])
    parameters = Parameters(np.zeros(shape), np.zeros(shape), np.ones(shape[0]))
    for _ in range(_GATE_STEPS_FROM_START):
        parameters = m_step(parameters, resp, design, y)
    return parameters, design


def fit(x: Array, y: Array, resp: Array, trace: Trace, *, max_iter: int, tol: float) -> Parameters:
    """EM from responsibilities ``(n, k)`` until an iteration gains less than ``tol`` in log-likelihood."""
    parameters, design = first_m_step(x, y, resp)
    with contextlib.suppress(OutOfTimeError):
        for _ in range(max_iter):
            value, resp = e_step(parameters, design, y)
            trace.record(value)
            if len(trace.values) > 1 and value - trace.values[-2] < tol:
                break
            parameters = m_step(parameters, resp, design, y)
    return parameters
