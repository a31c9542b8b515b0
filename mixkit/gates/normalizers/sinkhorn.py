"""Balanced weights: every row sums to 1 and every expert gets the same share of the rows."""

import torch
from torch import Tensor

from ..._validation import at_least_float32, check_integer
from ..router_losses import check_mask
from .base import Normalizer, check_rows

__all__ = ["Sinkhorn"]


class Sinkhorn(Normalizer):
    r"""Rescale rows and columns of :math:`e^{s}` in turn, so that each of k experts gets 1/k of the n rows.

    .. math:: w_{ij} = e^{s_{ij} + f_i + g_j}, \quad \sum_j w_{ij} = 1, \quad \sum_i w_{ij} \approx n / k

    Sinkhorn's iteration in log space, as balanced routers use it (Clark et al., 2022, arXiv 2202.01169). It ends on the
    rows, so weights sum to 1 exactly and what is left over shows in the columns: ``residual`` measures it. Scores of
    large spread converge slowly, and with -inf scores a balance may not exist. An expert at -inf in every row is left
    out of the balance. The weights of a row depend on the other rows of the same ``(n, k)`` matrix; rows that a mask
    leaves out, such as padding, are out of the balance.

    Args:
        num_iterations: how many times columns, then rows, are rescaled.

    Example:
        >>> import torch
        >>> normalizer = Sinkhorn(num_iterations=20)
        >>> log_weights = normalizer(torch.tensor([[2.0, 0.0], [1.0, 0.0]]))
        >>> log_weights.exp().sum(-2)
        tensor([1., 1.])
        >>> normalizer.residual(log_weights) < 1e-6
        tensor(True)
    """

    shift_invariant = True
    couples_rows = True

    def __init__(self, num_iterations: int = 50) -> None:
        super().__init__()
        self.num_iterations = check_integer("num_iterations", num_iterations, low=1)

    def log_weights(self, scores: Tensor) -> Tensor:
        """Log-weights ``(*batch, n, k)``."""
        if scores.ndim < 2:
            raise ValueError(f"scores must have shape (*batch, n, k), got {tuple(scores.shape)}")
        return self.masked_log_weights(scores, scores.new_ones((), dtype=torch.bool).expand(scores.shape[:-1]))

    def masked_log_weights(self, scores: Tensor, mask: Tensor) -> Tensor:
        """Log-weights ``(*batch, n, k)`` that balance the rows that ``mask (*batch, n)`` keeps."""
        counted = torch.where(mask.unsqueeze(-1), scores, -torch.inf)
        target = _log_share(counted, mask)
        dead = (counted == -torch.inf).all(-2, keepdim=True)
        over_rows = torch.where(dead, 0.0, counted)  # so that no column is empty; its potential meets -inf afterwards
        rows = scores.new_zeros((*scores.shape[:-1], 1))
        for _ in range(self.num_iterations):
            columns = target - torch.logsumexp(over_rows + rows, -2, keepdim=True)
            rows = -torch.logsumexp(scores + columns, -1, keepdim=True)
        return scores + columns + rows

    def residual(self, log_weights: Tensor, mask: Tensor | None = None) -> Tensor:
        """The largest relative error of an expert's share of the rows, ``(*batch,)``.

        Args:
            log_weights: what the normalizer returned, ``(*batch, n, k)``.
            mask: True where a row counts, as it was given to the normalizer.
        """
        every = torch.ones((), dtype=torch.bool, device=log_weights.device)
        kept = check_mask(every if mask is None else mask, check_rows(log_weights).shape[:-1])
        counted = torch.where(kept.unsqueeze(-1), at_least_float32(log_weights), -torch.inf)
        error = counted.exp().sum(-2, keepdim=True) / _log_share(counted, kept).exp() - 1.0
        return torch.where((counted > -torch.inf).any(-2, keepdim=True), error.abs(), 0.0).amax((-2, -1))

    def extra_repr(self) -> str:
        """The setting shown by ``repr``."""
        return f"num_iterations={self.num_iterations}"


def _log_share(counted: Tensor, mask: Tensor) -> Tensor:
    """Log of the weight each expert is to get in total: the rows that count over the experts not at -inf in all."""
    alive = (counted > -torch.inf).any(-2, keepdim=True).sum(-1, keepdim=True)
    rows = mask.sum(-1)[..., None, None]
    return rows.clamp(min=1).to(counted.dtype).log() - alive.clamp(min=1).to(counted.dtype).log()
