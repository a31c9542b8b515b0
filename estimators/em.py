"""Expectation-maximization, with a second-order finish."""

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor

from mixkit._validation import check_integer
from mixkit.mixture import MixtureOfExperts

from .optimizers.em_iterations import EMRun, em_iterations
from .optimizers.newton import Ascent, predicted_gain
from .optimizers.objective import Objective
from .search.estimator import Estimator

__all__ = ["EM"]


class EM(Estimator):
    r"""EM for any mixture of experts, finished by Newton's method on the observed log-likelihood.

    The E-step computes :math:`r_{ij} \propto w_j(x_i) f_j(y_i \mid x_i)`; the M-step maximizes
    :math:`\sum_i \sum_j r_{ij} (\log w_j(x_i) + \log f_j(y_i \mid x_i))`: experts by weighted least squares (or one
    Newton step of their family), softmax gates by one Newton step with the exact Hessian, anything else by L-BFGS with
    gradients from autograd. No iteration lowers the log-likelihood: a gate's step that would is shortened.

    EM alone stops far from the maximum when the model has more experts than the truth, so ``em_iter`` iterations of all
    starts are followed by a damped Newton ascent with the exact Hessian (:mod:`estimators.optimizers.newton`).
    ``finish=False`` leaves EM to run alone until the relative gain of an iteration falls below ``em_tol``, as
    published simulations do; ``converged`` then means no more than that, and ``predicted_gain`` says how far from a
    maximum it stopped.

    Top-K gates: the selection makes the likelihood discontinuous in the gate's parameters. A step is computed with
    the selection held fixed and kept only if the likelihood with the selection it leads to is higher; so the
    likelihood never falls below the start's, but an end is a maximum within its region, and may lie at a region's
    border, in which case ``converged`` is False. Many starts are the remedy. Standard errors hold the selection fixed.

    Args:
        em_iter: EM iterations of every start.
        em_tol: EM also ends when no start gains more than this share of its log-likelihood in an iteration.
        finish: whether to finish by Newton's method.
        **settings: those of :class:`~estimators.search.settings.SearchSettings`.

    Source: Dempster, Laird, Rubin (1977), JRSS B 39, 1-38; Jordan and Jacobs (1994), Neural Computation 6, 181-214.

    Example:
        >>> import torch
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> from mixkit.datasets import load_faithful
        >>> x, y = load_faithful()
        >>> generator = torch.Generator().manual_seed(0)
        >>> model = MixtureOfExperts(
        ...     softmax_gate(1, 2, generator=generator), linear_gaussian_experts(1, 2, generator=generator)
        ... )
        >>> result = EM(random_state=0).fit(model, x, y)
        >>> result.converged, round(result.llf, 2)
        (True, -851.31)
    """

    def __init__(self, *, em_iter: int = 10, em_tol: float = 1e-6, finish: bool = True, **settings: Any) -> None:
        super().__init__(**settings)
        self.em_iter = check_integer("em_iter", em_iter, low=0)
        self.em_tol = float(em_tol)
        self.finish = finish

    def _climb(self, objective: Objective, theta: Tensor, callback: Callable[[Tensor], None]) -> Ascent:
        run = em_iterations(objective, theta, self.em_iter, relative_tol=self.em_tol, callback=callback)
        if self.finish:
            return self._finish(objective, run.theta, callback)
        return self._unfinished(objective, run)

    def _climb_on(self, objective: Objective, theta: Tensor, callback: Callable[[Tensor], None]) -> Ascent:
        """Near a maximum EM has nothing to add to Newton's method."""
        return (self._finish if self.finish else self._climb)(objective, theta, callback)

    def _warm_start(self, extra_starts: int = 0) -> Self:
        """A model at a maximum needs no EM iterations before Newton's method."""
        warm = super()._warm_start(extra_starts)
        if self.finish and not extra_starts:
            warm.em_iter = 0
        return warm

    def _rounds_of_moves(self, model: MixtureOfExperts, *, is_default: bool) -> int:
        """No moves unless they are asked for where EM runs alone: published simulations make none."""
        return super()._rounds_of_moves(model, is_default=is_default and self.finish)

    @staticmethod
    def _unfinished(objective: Objective, run: EMRun) -> Ascent:
        """Where EM stands, with what a Newton step would still gain."""
        evaluation = objective.evaluate(run.theta)._replace(value=run.value)
        gain = torch.full_like(run.value, torch.nan)
        if evaluation.hessian.numel():
            gain = predicted_gain(objective, run.theta, evaluation)
        return Ascent(run.theta, run.value, gain, run.stopped, run.num_iterations, evaluation)
