"""Stochastic EM for models with linear predictors."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..data.dataset import Data
from ..objectives.softmax_gate.hessian import Curvature, assemble_hessian, curvature_sums
from ..objectives.softmax_gate.layout import Coefficients
from ..objectives.softmax_gate.likelihood import posterior, slopes
from ..objectives.softmax_gate.m_step import GateSums, NewtonStep, expert_step, gate_step, gate_sums
from ..objectives.softmax_gate.objective import LinearObjective
from ..optimizers.objective import Evaluation
from .recursion import Recursion

__all__ = ["LinearRecursion"]

_CHANCES = 3.0


class _BlockSums(NamedTuple):
    """Sums over a block: those of the M-step, then log-likelihood, gradient and Hessian."""

    gate: tuple[Tensor, ...]  # gradient and Hessian of the expected gate log-likelihood; empty without a gate
    expert: tuple[Tensor, ...]
    evaluation: Evaluation


class LinearRecursion(Recursion):
    r"""Online EM, kept at the maximum of all it has seen by a running Newton step.

    Experts with a closed-form M-step take it from :math:`S_t = (1 - \gamma_t) S_{t-1} + \gamma_t s_t`, s_t the expected
    statistics of block t per row at the last parameters. The gate, and experts without a closed form, take a step of
    length :math:`\gamma_t` along Newton's direction, from the block's gradient and an equally averaged Hessian.

    As in :class:`~estimators.em.EM`, a second-order step comes on top: the log-likelihood of every block is expanded
    around the parameters it met, and where the sum of the expansions has a maximum within reach, that is the next
    iterate, and the estimate. It differs from the maximum on all rows by the expansions' errors alone.

    Args:
        objective: the log-likelihood of the rows the start has seen.
        theta: its maximum, ``(1, 1, P)``.
        blocks_seen: t_0.
        power: a.
        finish: whether to take the second-order step.

    Source: Cappe and Moulines (2009), JRSS B 71, 593-613, section 2.2; the gate's step is Titterington's (1984), JRSS B
        46, 257-267; the second-order step is the renewable estimator of Luo and Song (2020), JRSS B 82, 69-97.
    """

    objective: LinearObjective

    def __init__(
        self, objective: LinearObjective, theta: Tensor, blocks_seen: float, power: float, *, finish: bool = True
    ) -> None:
        super().__init__(objective, theta, blocks_seen, power)
        self._best: Tensor | None = None
        self._finish = finish
        self._step = expert_step(objective.experts)
        self._gate_hessian: Tensor | None = None
        self._statistics: tuple[Tensor, ...] = ()
        start = self._sums(objective, theta)
        self._remember(start, float(objective.total_weight), 1.0)
        self.expansions = self.expansions.plus(theta, start.evaluation, float(objective.total_weight))

    def advance(self, data: Data) -> float:
        """One block: expected statistics, averages, M-step."""
        objective = self.objective.on_rows(data)
        weight = float(objective.total_weight)
        rate, sums = self._rate(), self._sums(objective, self.theta)
        if weight == 0.0:
            return 0.0
        self._remember(sums, weight, rate)
        self.expansions = self.expansions.plus(self.theta, sums.evaluation, weight)
        self._best = self._newton_end(objective, float(sums.evaluation.value)) if self._finish else None
        self._moved(self._m_step(sums, weight, rate) if self._best is None else self._best[None, None])
        return float(sums.evaluation.value)

    def _newton_end(self, block: LinearObjective, value: float) -> Tensor | None:
        """The maximum of the expansions, ``(P,)``, unless the block itself speaks against it.

        Its log-likelihood rises along the way if the expansions are right, but for a chance whose standard deviation is
        the length of the way over what the block knows.
        """
        step = self.expansions.maximum(self.theta[0, 0])
        if step is None:
            return None
        end = self.objective.project(step.end)
        rise = float(block.value(end[None, None])) - value
        chance = (step.distance * float(block.total_weight) / step.weight) ** 0.5
        return end if rise >= -_CHANCES * chance else None

    def estimate(self) -> Tensor:
        """The maximum of the expansions, ``(P,)``; the average of the iterates where it is out of reach."""
        return self.average[0, 0] if self._best is None else self._best

    def _sums(self, objective: LinearObjective, theta: Tensor) -> _BlockSums:
        layout, coefficients = objective.layout, objective.layout.unpack(theta)
        parts = []
        for chunk in objective.design.chunks():
            state = posterior(chunk, coefficients, layout, objective.experts)
            gate = tuple(gate_sums(chunk, state, layout)) if layout.num_gate_rows else ()
            expert = tuple(self._step.sums(chunk, state, layout))
            value = state.log_prob if chunk.weight is None else state.log_prob * chunk.weight.squeeze(-2)
            ends = (value.sum(-1), slopes(chunk, state).flatten(), *curvature_sums(chunk, state, layout))
            parts.append((*gate, *expert, *ends))
        sums = tuple(sum(column[1:], column[0]) for column in zip(*parts, strict=True))
        gates = 2 if layout.num_gate_rows else 0
        value, gradient, *curvature = sums[-5:]
        hessian = assemble_hessian(Curvature(*curvature), layout)
        value = value - objective.total_weight * objective.scaling.y_std.log()
        evaluation = Evaluation(value, layout.pull_gradient(gradient), layout.pull_hessian(hessian))
        return _BlockSums(sums[:gates], sums[gates:-5], evaluation)

    def _remember(self, sums: _BlockSums, weight: float, rate: float) -> None:
        """Average the statistics per unit of weight."""
        new = tuple(part / weight for part in sums.expert)
        old = self._statistics or new
        self._statistics = tuple(a + rate * (b - a) for a, b in zip(old, new, strict=True))
        if sums.gate:
            hessian = sums.gate[1] / weight
            past = hessian if self._gate_hessian is None else self._gate_hessian
            self._gate_hessian = past + rate * (hessian - past)

    def _m_step(self, sums: _BlockSums, weight: float, rate: float) -> Tensor:
        layout = self.objective.layout
        old = layout.unpack(self.theta)
        if isinstance(self._step, NewtonStep):
            gradient = sums.expert[0] / weight
            full = self._step.update(old, (gradient, self._statistics[1]), layout)
            moved = [a + rate * (b - a) for a, b in zip(old.constants, full.constants, strict=True)]
            new = Coefficients(old.gate, old.expert + rate * (full.expert - old.expert), moved)
        else:
            new = self._step.update(old, self._statistics, layout)
        if sums.gate and self._gate_hessian is not None:
            stepped = gate_step(old.gate, GateSums(sums.gate[0] / weight, self._gate_hessian), layout)
            new = new._replace(gate=old.gate + rate * (stepped - old.gate))
        packed = layout.pack(new)
        return torch.where(torch.isfinite(packed), packed, self.theta)
