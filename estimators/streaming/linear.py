"""Stochastic EM for models with linear predictors."""

import copy
from typing import NamedTuple

import torch
from torch import Tensor

from ..data import Data
from ..linear.curvature import assemble_hessian, curvature_sums
from ..linear.design import Design
from ..linear.layout import Coefficients
from ..linear.likelihood import posterior, slopes
from ..linear.m_steps import GateSums, NewtonStep, expert_step, gate_step, gate_sums
from ..linear.objective import LinearObjective
from ..objective import Evaluation
from .recursion import Recursion

__all__ = ["LinearRecursion"]


class _BlockSums(NamedTuple):
    """Sums over a block: those of the M-step, then log-likelihood, gradient and Hessian."""

    gate: tuple[Tensor, ...]  # gradient and Hessian of the expected gate log-likelihood; empty without a gate
    expert: tuple[Tensor, ...]
    evaluation: Evaluation


class LinearRecursion(Recursion):
    r"""Online EM: averages of the sufficient statistics in place of their sums.

    Experts with a closed-form M-step take it from :math:`S_t = (1 - \gamma_t) S_{t-1} + \gamma_t s_t`, s_t the expected
    statistics of block t per row at the last parameters. The gate, and experts without a closed form, take a step of
    length :math:`\gamma_t` along Newton's direction, from the block's gradient and an equally averaged Hessian.

    Source: Cappe and Moulines (2009), JRSS B 71, 593-613, section 2.2; the Newton step is Titterington's (1984), JRSS B
        46, 257-267.
    """

    objective: LinearObjective

    def __init__(self, objective: LinearObjective, theta: Tensor, blocks_seen: float, power: float) -> None:
        super().__init__(objective, theta, blocks_seen, power)
        self._step = expert_step(objective.experts)
        self._gate_hessian: Tensor | None = None
        self._statistics: tuple[Tensor, ...] = ()
        start = self._sums(objective, theta)
        self._remember(start, float(objective.total_weight), 1.0)
        self.expansions = self.expansions.plus(theta, start.evaluation, float(objective.total_weight))

    def advance(self, data: Data) -> float:
        """One block: expected statistics, averages, M-step."""
        objective = on_rows(self.objective, data)
        weight = float(objective.total_weight)
        rate, sums = self._rate(), self._sums(objective, self.theta)
        if weight == 0.0:
            return 0.0
        self._remember(sums, weight, rate)
        self.expansions = self.expansions.plus(self.theta, sums.evaluation, weight)
        self._moved(self._m_step(sums, weight, rate))
        return float(sums.evaluation.value)

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
        hessian = assemble_hessian(type(curvature_sums(chunk, state, layout))(*curvature), layout)
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


def on_rows(objective: LinearObjective, data: Data) -> LinearObjective:
    """The log-likelihood of other rows in the same parameters, standardised as the first ones were."""
    twin = copy.copy(objective)
    twin.data, twin.n = data, data.x.shape[1]
    twin.total_weight = data.x.new_full((1,), float(twin.n)) if data.weight is None else data.weight.sum(-1)
    pairs = (2 * objective.k - 1) * objective.k
    twin.design = Design(data.x, data.y, data.weight, objective.scaling, pairs)
    return twin
