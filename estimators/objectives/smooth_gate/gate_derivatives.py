r"""A gate as a function of its own parameters alone, for many parameter vectors at once, with its derivatives.

Every gate here is a softmax of logits :math:`z_j(x; \gamma)`, its scores or the logarithm of their link, and each logit
depends on the parameters of its own expert and on a few that all share (a temperature). All that a Hessian of the
log-likelihood needs are the Jacobian :math:`\partial z_j / \partial \gamma` at every observation and, for given
weights :math:`u`, the Hessian of the scalar :math:`Q(\gamma, u) = \sum_{n,j} u_{nj} z_j(x_n; \gamma)`. Both come from
one graph: a backward pass through an entry of :math:`\partial Q / \partial \gamma` gives a row of the Hessian as its
derivative in :math:`\gamma`, and a column of the Jacobian as its derivative in :math:`u`; and one pass serves one
parameter of all experts together, for they do not mix. A linear score with a temperature takes d + 2 passes, whatever
n, k and the batch.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from mixkit.gates import Gate
from mixkit.gates.normalizers import LinkNormalizer, Softmax
from mixkit.parameters import Axis, has_form

from ..parameter_vector import ParameterVector

__all__ = ["GateDerivatives", "GateFunction"]

_SHARED = -1


class GateDerivatives(NamedTuple):
    """Derivatives of Q in gamma at weights u, and of every logit.

    Attributes:
        gradient: ``(r, s, G)``.
        hessian: ``(r, s, G, G)``.
        jacobian: ``(r, s, k, G, c)``; zero where an expert is not selected.
    """

    gradient: Tensor
    hessian: Tensor
    jacobian: Tensor


class _Logits(nn.Module):
    """A gate without its checks and its softmax: where the scores of a trial step overflow, all its logits are NaN."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``(*batch, n, k)``, -inf where unselected."""
        gate = self.gate
        slope_scores = gate.score.slope_score(x)
        scores = gate.temperature.divide(gate.score.add_bias(slope_scores), x)
        bad = ~torch.isfinite(scores.detach()).all(-1).all(-1)[..., None, None]
        if bool(bad.any()):
            scores, slope_scores = (torch.where(bad, 0.0, part) for part in (scores, slope_scores))
        kept = gate.selection(scores, slope_scores=slope_scores, x=x)
        if isinstance(gate.normalizer, LinkNormalizer):
            possible = kept > -torch.inf
            kept = torch.where(possible, gate.normalizer.log_link(torch.where(possible, kept, 0.0)), -torch.inf)
        return torch.where(bad, torch.nan, kept) if bool(bad.any()) else kept


class GateFunction:
    """The logits of a gate as a function of the vector of its trainable parameters.

    Args:
        gate: a gate for which :meth:`supports` holds, unbatched.
        vector: where the whole model's parameters are.

    Attributes:
        positions: of the gate's G parameters in the vector, ``(G,)``.
    """

    def __init__(self, gate: Gate, vector: ParameterVector) -> None:
        own = {n: vector.positions[n] for n, record in vector.records.items() if record.family is None}
        self._has_rows = {n: vector.records[n].axes[:1] == (Axis.EXPERT,) for n in own}
        flat = torch.cat([place.flatten() for place in own.values()]) if own else torch.zeros(0, dtype=torch.long)
        self.positions = flat[flat < vector.size].sort().values
        size = len(self.positions)
        inverse = torch.full((vector.size + 1,), size)
        inverse[self.positions] = torch.arange(size)
        self._entries = {name: inverse[place] for name, place in own.items()}
        self._module = _Logits(gate)
        self._expert = torch.full((size + 1,), _SHARED)
        self._groups = self._grouped(size)

    def _grouped(self, size: int) -> list[Tensor]:
        """Entries of gamma by backward pass: one parameter of all experts, or one that they share."""
        groups: list[Tensor] = []
        for name, entries in self._entries.items():
            if self._has_rows[name]:
                rows = torch.arange(len(entries)).reshape(-1, *(1,) * (entries.ndim - 1)).expand(entries.shape)
                self._expert[entries] = rows
                groups += list(entries.reshape(len(entries), -1).unbind(-1))
            else:
                groups += list(entries.reshape(-1, 1).unbind(0))
        free = [group[group < size] for group in groups]
        return [group for group in free if len(group)]

    @staticmethod
    def supports(gate: Gate) -> bool:
        """Whether every part of the gate treats rows of x alone and takes leading batch dimensions."""
        return (
            gate.score.is_vectorized
            and (has_form(gate.normalizer, Softmax) or has_form(gate.normalizer, LinkNormalizer))  # type: ignore[type-abstract]
            and gate.selection.reads_scores_alone
            and gate.temperature.is_vectorized
            and has_form(gate, Gate, "forward", "scores")
        )

    def __call__(self, gamma: Tensor, x: Tensor) -> Tensor:
        """Logits ``(r, s, k, c)`` at ``gamma (r, s, G)`` and ``x (r, c, d)``."""
        padded = torch.cat([gamma, gamma.new_zeros((*gamma.shape[:-1], 1))], -1)
        own = {name: padded[..., entries.to(gamma.device)] for name, entries in self._entries.items()}
        logits: Tensor = functional_call(self._module, own, (x.unsqueeze(1),))
        return logits.mT.expand(*gamma.shape[:-1], *logits.mT.shape[-2:])

    def derivatives(self, logits: Tensor, gamma: Tensor, weights: Tensor) -> GateDerivatives:
        """Derivatives of ``logits (r, s, k, c)`` that autograd knows as a function of the leaf ``gamma (r, s, G)``.

        Args:
            logits: of this function.
            gamma: at which.
            weights: u, ``(r, s, k, c)``.
        """
        weights = weights.detach().requires_grad_()
        size = gamma.shape[-1]
        hessian = gamma.new_zeros((*gamma.shape, size))
        jacobian = weights.new_zeros((*weights.shape[:-1], size, weights.shape[-1]))
        if size == 0:
            return GateDerivatives(gamma.detach(), hessian, jacobian)
        with torch.enable_grad():
            total = (weights * torch.where(logits > -torch.inf, logits, 0.0)).sum()
        (gradient,) = torch.autograd.grad(total, gamma, create_graph=True)
        for group in self._groups:
            row, column = _derivatives_of(gradient[..., group], [gamma, weights])
            self._place(group, row, column, hessian, jacobian)
        shared = self._expert[:-1] == _SHARED
        mixed = shared.unsqueeze(0) & ~shared.unsqueeze(-1)
        hessian[..., mixed] = hessian.mT[..., mixed]
        return GateDerivatives(gradient.detach(), 0.5 * (hessian + hessian.mT), jacobian)

    def _place(self, group: Tensor, row: Tensor, column: Tensor, hessian: Tensor, jacobian: Tensor) -> None:
        """Put what one pass found where it belongs: an expert's own parameters meet no other expert's."""
        experts = self._expert[group]
        if experts[0] == _SHARED:
            hessian[..., group, :] = row.unsqueeze(-2)
            jacobian[..., group, :] = column.unsqueeze(-2)
            return
        is_own = (experts.unsqueeze(-1) == self._expert[:-1]).to(row)
        hessian[..., group, :] = row.unsqueeze(-2) * is_own
        jacobian[:, :, experts, group] = column[:, :, experts]


def _derivatives_of(entries: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    """Of the sum of ``entries (r, s, m)``, whose members depend each on their own row of the leaves."""
    if not entries.requires_grad:
        return [torch.zeros_like(leaf) for leaf in leaves]
    found = torch.autograd.grad(entries.sum(), leaves, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, leaves, strict=True)]
