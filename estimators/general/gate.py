r"""A gate as a function of its own parameters alone, for many parameter vectors at once, with its derivatives.

With log-weights :math:`\ell_j(x; \gamma)` of a gate of G parameters, all that a Hessian of the log-likelihood needs
of them is the Jacobian :math:`\partial \ell_j / \partial \gamma` at every observation and, for given weights
:math:`u`, the Hessian of the scalar :math:`Q(\gamma, u) = \sum_{n,j} u_{nj} \ell_j(x_n; \gamma)`. Both come from one
graph: a backward pass through entry g of :math:`\partial Q / \partial \gamma` gives row g of the Hessian as its
derivative in :math:`\gamma`, and column g of the Jacobian as its derivative in :math:`u`. G + 1 passes, whatever n
and the batch.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mixkit.gates import Gate
from mixkit.normalizers import LinkNormalizer, Softmax
from mixkit.scores import (
    ActivationScore,
    ConstantScore,
    CosineScore,
    DistanceScore,
    LinearScore,
    QuadraticScore,
)
from mixkit.selection import Dense, TopKByScore, TopKBySlope

from ..vector import ParameterVector

__all__ = ["GateDerivatives", "GateFunction", "gate_derivatives"]

_SCORES = (ActivationScore, ConstantScore, CosineScore, DistanceScore, LinearScore, QuadraticScore)
_SELECTIONS = (Dense, TopKByScore, TopKBySlope)


class GateDerivatives(NamedTuple):
    """Derivatives at weights u: of Q in gamma, and of every log-weight.

    Attributes:
        gradient: ``(r, s, G)``.
        hessian: ``(r, s, G, G)``.
        jacobian: ``(r, s, k, G, c)``; zero where an expert is not selected.
    """

    gradient: Tensor
    hessian: Tensor
    jacobian: Tensor


class _Unchecked(nn.Module):
    """A gate without its checks: where the scores of a trial step overflow, all log-weights of that vector are NaN."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        """Log-weights ``(*batch, n, k)``."""
        gate = self.gate
        slope_scores = gate.score.slope_score(x)
        scores = gate.temperature.divide(gate.score.add_bias(slope_scores), x)
        bad = ~torch.isfinite(scores.detach()).all(-1).all(-1)[..., None, None]
        scores, slope_scores = (torch.where(bad, 0.0, part) for part in (scores, slope_scores))
        kept = gate.selection(scores, slope_scores=slope_scores, x=x)
        return torch.where(bad, torch.nan, gate.normalizer.log_weights(kept))


class GateFunction:
    """The log-weights of a gate as a function of the vector of its trainable parameters.

    Args:
        gate: a gate for which :meth:`supports` holds, unbatched.
        vector: where the whole model's parameters are.

    Attributes:
        positions: of the gate's G parameters in the vector, ``(G,)``.
    """

    def __init__(self, gate: Gate, vector: ParameterVector) -> None:
        own = {name: place for name, place in vector.positions.items() if name.startswith("gate.")}
        flat = torch.cat([place.flatten() for place in own.values()]) if own else torch.zeros(0, dtype=torch.long)
        self.positions = flat[flat < vector.size].sort().values
        inverse = torch.full((vector.size + 1,), len(self.positions))
        inverse[self.positions] = torch.arange(len(self.positions))
        self._entries = {name: inverse[place] for name, place in own.items()}
        self._module = _Unchecked(gate)

    @staticmethod
    def supports(gate: Gate) -> bool:
        """Whether every part of the gate treats rows of x alone and takes leading batch dimensions."""
        return (
            type(gate.score) in _SCORES
            and isinstance(gate.normalizer, Softmax | LinkNormalizer)
            and type(gate.selection) in _SELECTIONS
        )

    def __call__(self, gamma: Tensor, x: Tensor) -> Tensor:
        """Log-weights ``(r, s, k, c)`` at ``gamma (r, s, G)`` and ``x (r, c, d)``."""
        padded = torch.cat([gamma, gamma.new_zeros((*gamma.shape[:-1], 1))], -1)
        own = {name: padded[..., entries.to(gamma.device)] for name, entries in self._entries.items()}
        log_weights: Tensor = functional_call(self._module, own, (x.unsqueeze(1),))
        return log_weights.mT.expand(*gamma.shape[:-1], *log_weights.mT.shape[-2:])


def gate_derivatives(log_weights: Tensor, gamma: Tensor, weights: Tensor, *, jacobian: bool = True) -> GateDerivatives:
    """Derivatives of log-weights ``(r, s, k, c)`` that autograd knows as a function of ``gamma (r, s, G)``.

    Args:
        log_weights: of a :class:`GateFunction` at a leaf ``gamma``.
        gamma: the leaf.
        weights: u, ``(r, s, k, c)``.
        jacobian: whether to find the Jacobian too; empty (G = 0) otherwise.
    """
    weights = weights.detach().requires_grad_(jacobian)
    size = gamma.shape[-1]
    with torch.enable_grad():
        total = (weights * torch.where(log_weights > -torch.inf, log_weights, 0.0)).sum()
    if size == 0:
        return GateDerivatives(gamma, gamma.unsqueeze(-1), weights.detach().unsqueeze(-2)[..., :0, :])
    (gradient,) = torch.autograd.grad(total, gamma, create_graph=True)
    leaves = [gamma, weights] if jacobian else [gamma]
    rows = [_derivatives_of(entry, leaves) for entry in gradient.unbind(-1)]
    hessian = torch.stack([row[0] for row in rows], -2)
    columns = torch.stack([row[1] for row in rows], -2) if jacobian else weights.unsqueeze(-2)[..., :0, :]
    return GateDerivatives(gradient.detach(), 0.5 * (hessian + hessian.mT), columns)


def _derivatives_of(entry: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    """Of the sum of ``entry (r, s)``, whose members depend each on their own row of the leaves."""
    if not entry.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    found = torch.autograd.grad(entry.sum(), leaves, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, leaves, strict=True)]
