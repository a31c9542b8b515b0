"""The posterior mode and the normal distribution around it: where every inference starts, and its scale."""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixkit.mixture import MixtureOfExperts

from ..em import EM
from ..optimizers.linalg import damped_cholesky
from .delta_method import UserMoments, user_moments
from .labels import in_order
from .model import BayesianMixtureOfExperts
from .prior_sites import check_kind
from .summary import PosteriorSummary

__all__ = ["LaplaceApproximation", "laplace", "mode_of"]

_MAX_ITER = 200
_TOL = 1e-10
_LEAST_RISE = 1e-13
_HALVINGS = 30


@dataclass(frozen=True, eq=False, repr=False)
class LaplaceApproximation:
    r"""A normal distribution at the posterior mode, :math:`N(\hat u, L L^\top)` with :math:`L L^\top = (-H)^{-1}`.

    Attributes:
        mode: the real vector :math:`\hat u`, ``(P,)``.
        factor: L, ``(P, P)``.
        log_density: log of prior times likelihood at the mode.
        converged: whether a Newton step would gain less than 1e-6, with a negative definite Hessian.
        bayes: model, data and priors; None for a distribution that is given by its figures alone, which has no summary.

    Example:
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> from mixkit.datasets import load_tone
        >>> model = MixtureOfExperts(softmax_gate(1, 2), linear_gaussian_experts(1, 2))
        >>> mode = laplace(BayesianMixtureOfExperts(model, *load_tone()), random_state=0)
        >>> mode.param_names[:2], mode.summary(level=0.9).columns
        (['gate_weight[0,x0]', 'gate_bias[0]'], ['mode', 'std', '0.05', '0.95'])
    """

    mode: Tensor
    factor: Tensor
    log_density: float
    converged: bool
    bayes: BayesianMixtureOfExperts | None = None

    def __repr__(self) -> str:
        """The main figures in a line."""
        figures = f"log_density={self.log_density:.4f}, log_evidence={self.log_evidence:.4f}"
        return f"LaplaceApproximation(parameters={len(self.mode)}, {figures}, converged={self.converged})"

    def to_vector(self, z: Tensor) -> Tensor:
        """``mode + L z``: from vectors ``(*batch, P)`` that are standard normal to real parameters."""
        return self.mode + z @ self.factor.mT

    @property
    def log_determinant(self) -> float:
        """Logarithm of the determinant of L."""
        return float(self.factor.diagonal().log().sum())

    @property
    def log_evidence(self) -> float:
        r"""Laplace's approximation :math:`\log p(\hat u, y) + \frac P2 \log 2 \pi + \log |L|`, around this one mode."""
        return self.log_density + 0.5 * len(self.mode) * math.log(2.0 * math.pi) + self.log_determinant

    def _users(self) -> UserMoments:
        if self.bayes is None:
            raise ValueError("bayes must be given for users' parameters, got None; laplace(bayes) makes a whole result")
        return user_moments(self.bayes, self.mode, self.factor)

    @property
    def param_names(self) -> list[str]:
        """Names of the parameters as users read them, those of ``FitResult.param_names``."""
        return self._users().names

    @property
    def params(self) -> np.ndarray:
        """Those parameters at the mode, ``(P,)``: gates relative to the last expert, ``std`` not its log."""
        return self._users().values

    @property
    def std(self) -> np.ndarray:
        """Their posterior standard deviations ``(P,)`` to first order."""
        return self._users().std

    def interval(self, *, level: float = 0.95) -> np.ndarray:
        """Credible intervals ``(P, 2)`` of the normal distribution, those of scales on the log scale.

        Raises:
            TypeError: if ``level`` is not a number.
            ValueError: if it is not strictly between 0 and 1.
        """
        return self._users().interval(level=level)

    def summary(self, *, level: float = 0.95) -> PosteriorSummary:
        """A table of modes, standard deviations and intervals; prints as text, ``to_frame()`` gives a pandas frame.

        Args:
            level: of the intervals, in (0, 1).

        Raises:
            TypeError: if ``level`` is not a number.
            ValueError: if it is not strictly between 0 and 1.
        """
        users = self._users()
        head = [
            ("Method", "Laplace"),
            ("Observations", str(self.bayes.n if self.bayes is not None else "")),
            ("Converged", "yes" if self.converged else "no"),
            ("Log-density", f"{self.log_density:.3f}"),
            ("Log-evidence", f"{self.log_evidence:.3f}"),
        ]
        last = "" if self.bayes is None else f"Gates are relative to expert {self.bayes.model.num_experts - 1}. "
        notes = [f"{last}The evidence is that around this one mode."]
        values = np.column_stack([users.values, users.std, users.interval(level=level)])
        return PosteriorSummary(head, users.names, values, level, notes, center="mode")


def laplace(
    bayes: BayesianMixtureOfExperts,
    start: MixtureOfExperts | None = None,
    *,
    random_state: int | np.random.Generator | None = None,
) -> LaplaceApproximation:
    """Climb to the posterior mode by a damped Newton ascent.

    Args:
        bayes: model, data and priors.
        start: parameters to start from; None for those of maximum likelihood (:class:`~estimators.em.EM`).
        random_state: seed of the starts of that fit.

    Raises:
        TypeError: if ``bayes`` or ``start`` is of the wrong kind.
        ValueError: if ``start`` has other parameters than the model of ``bayes``.

    Example:
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> from mixkit.datasets import load_tone
        >>> model = MixtureOfExperts(softmax_gate(1, 2), linear_gaussian_experts(1, 2))
        >>> laplace(BayesianMixtureOfExperts(model, *load_tone()), random_state=0).converged
        True
    """
    _check_start(bayes, start)
    if start is None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            start = EM(random_state=random_state).fit(bayes.model, bayes.x, bayes.y).model
    vector = in_order(bayes, bayes.vector(bayes.read(start)))
    value, gradient, hessian = _derivatives(bayes, vector)
    for _ in range(_MAX_ITER):
        factor, damping = damped_cholesky(-hessian)
        step = torch.cholesky_solve(gradient.unsqueeze(-1), factor).squeeze(-1)
        gain = 0.5 * float(gradient @ step)
        if gain < _TOL and float(damping) == 0.0:
            break
        moved = _shortened(bayes, vector, value, step)
        if moved is None:
            break
        before, vector = float(value), moved
        value, gradient, hessian = _derivatives(bayes, vector)
        if float(value) - before < _LEAST_RISE * (1.0 + abs(before)):
            break
    factor, damping = damped_cholesky(-hessian)
    gain = 0.5 * float(gradient @ torch.cholesky_solve(gradient.unsqueeze(-1), factor).squeeze(-1))
    identity = torch.eye(len(vector), dtype=vector.dtype, device=vector.device)
    covariance = torch.cholesky_solve(identity, factor)
    spread = torch.linalg.cholesky(0.5 * (covariance + covariance.mT))
    converged = gain < 1e-6 and float(damping) == 0.0
    return LaplaceApproximation(vector, spread, float(value), converged, bayes)


def mode_of(bayes: BayesianMixtureOfExperts, at: LaplaceApproximation | None, seed: int) -> LaplaceApproximation:
    """What ``fit_nuts``, ``fit_svi`` and ``fit_chi_square`` stand on: ``at``, or the mode that is found if it is None.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if ``at`` has another number of parameters than ``bayes``.
    """
    check_kind("bayes", bayes, BayesianMixtureOfExperts)
    if at is None:
        return laplace(bayes, random_state=seed)
    check_kind("at", at, LaplaceApproximation, "laplace(bayes, model) makes one of a fitted model")
    if len(at.mode) != bayes.num_params:
        raise ValueError(f"at must have the {bayes.num_params} parameters of bayes, got {len(at.mode)}")
    return at


def _check_start(bayes: BayesianMixtureOfExperts, start: MixtureOfExperts | None) -> None:
    check_kind("bayes", bayes, BayesianMixtureOfExperts)
    if start is None:
        return
    check_kind("start", start, MixtureOfExperts, "that of a fit is its model")
    found = {name: p.shape for name, p in start.named_parameters()}
    other = [name for name, shape in bayes.shapes.items() if found.get(name) != shape]
    if other:
        raise ValueError(f"start must have the parameters of the model of bayes, got no {other[0]} of its shape")


def _shortened(bayes: BayesianMixtureOfExperts, vector: Tensor, value: Tensor, step: Tensor) -> Tensor | None:
    """The longest of the step's halves that raises the density; None if none does."""
    for halving in range(_HALVINGS):
        trial = vector + 0.5**halving * step
        if float(_log_density(bayes, trial)) > float(value):
            return trial
    return None


def _log_density(bayes: BayesianMixtureOfExperts, vector: Tensor) -> Tensor:
    """The log-density; -inf where a trial step makes scores overflow."""
    try:
        value = bayes.log_density(vector)
    except ValueError:
        return vector.new_full((), -math.inf)
    return torch.where(value.isnan(), -math.inf, value)


def _derivatives(bayes: BayesianMixtureOfExperts, vector: Tensor) -> tuple[Any, Tensor, Tensor]:
    leaf = vector.detach().clone().requires_grad_()
    value = bayes.log_density(leaf)
    (gradient,) = torch.autograd.grad(value, leaf, create_graph=True)
    identity = torch.eye(len(leaf), dtype=leaf.dtype, device=leaf.device)
    (hessian,) = torch.autograd.grad(gradient, leaf, identity, is_grads_batched=True)
    return value.detach(), gradient.detach(), 0.5 * (hessian + hessian.mT)
