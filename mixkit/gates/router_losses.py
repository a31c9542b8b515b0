"""Router losses: what keeps the experts of a sparse gate in use and its scores small.

All take a ``mask`` that leaves padding out, sum in float64, and return one loss per leading batch index. To pool a
``(batch, sequence, k)`` tensor over sequences, flatten it to ``(batch * sequence, k)`` first.

Logits are not log-weights, and the losses hold them apart: those of the weights refuse rows whose weights do not sum to
1, the one of the logits refuses rows that are log-weights already. NaN and experts that are not there are errors, too,
unless the mask leaves their row out.
"""

import math

import torch
from torch import Tensor

from .._validation import at_least_float32, can_read_values, check_indices, check_integer, check_tensor
from ..numerics.precision import narrow, wide_mean, wide_sum, widest_dtype

__all__ = ["check_mask", "importance_loss", "load_balance_loss", "masked_mean", "router_z_loss", "selection_rate"]


_ROUNDING = 0.1  # of a sum of weights whose logarithms are in bfloat16


def masked_mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """The mean over the observations that ``mask`` keeps; zero if it keeps none.

    Args:
        values: ``(*batch, n, k)``. Entries that are masked out may be anything, NaN included.
        mask: True where an observation counts, broadcastable to ``(*batch, n)``; all count if None.

    Returns:
        ``(*batch, k)``, in float32 at least, summed in float64.

    Raises:
        TypeError: if ``mask`` is not a boolean tensor.
        ValueError: if ``mask`` does not broadcast to the shape of ``values`` without its last dimension.
    """
    if mask is None:
        return wide_mean(values, -2) if values.shape[-2] else wide_sum(values, -2)
    weights = check_mask(mask, values.shape[:-1]).unsqueeze(-1)
    total = torch.where(weights, values, 0.0).sum(-2, dtype=widest_dtype(values))
    return narrow(total / weights.sum(-2).clamp(min=1), values)


def check_mask(mask: Tensor, rows: torch.Size) -> Tensor:
    """Return ``mask`` expanded to ``rows`` if it is a boolean tensor that broadcasts to that shape."""
    if check_tensor("mask", mask, floating=False).dtype != torch.bool:
        raise TypeError(f"mask must be a boolean tensor, got {mask.dtype}")
    if mask.ndim > len(rows) or any(
        m not in (1, r) for m, r in zip(reversed(mask.shape), reversed(rows), strict=False)
    ):
        raise ValueError(f"mask must broadcast to shape {tuple(rows)}, got shape {tuple(mask.shape)}")
    return mask.expand(rows)


def _mask_out(values: Tensor, mask: Tensor | None, fill: float) -> Tensor:
    """Overwrite padding before anything nonlinear is done to it, so that no NaN of it reaches a gradient."""
    return values if mask is None else torch.where(check_mask(mask, values.shape[:-1]).unsqueeze(-1), values, fill)


def selection_rate(indices: Tensor, num_experts: int, mask: Tensor | None = None) -> Tensor:
    """How often each expert is selected: the share of the observations whose ``indices`` name it.

    Args:
        indices: the selected experts, ``(*batch, n, num_selected)``.
        num_experts: number of experts ``k``.
        mask: True where an observation counts, broadcastable to ``(*batch, n)``.

    Returns:
        ``(*batch, k)``, float32; sums to ``num_selected``.

    Raises:
        TypeError: if ``indices`` does not hold integers.
        ValueError: if a row that counts names an expert outside 0 .. k - 1, or one twice.

    Example:
        >>> import torch
        >>> selection_rate(torch.tensor([[0, 1], [0, 2]]), 3)
        tensor([1.0000, 0.5000, 0.5000])
    """
    counted = _checked_indices(indices, check_integer("num_experts", num_experts, low=1), mask)
    shape = (*indices.shape[:-1], num_experts)
    selected = torch.zeros(shape, dtype=torch.float32, device=indices.device).scatter(-1, counted, 1.0)
    return masked_mean(selected, mask)


def _checked_indices(indices: Tensor, num_experts: int, mask: Tensor | None) -> Tensor:
    """The indices, those of rows that are masked out replaced by 0, 1, ..."""
    check_tensor("indices", indices, floating=False)
    if indices.ndim < 2 or not 1 <= indices.shape[-1] <= num_experts:
        raise ValueError(
            f"indices must have shape (*batch, n, num_selected) with num_selected from 1 to {num_experts}, "
            f"got {tuple(indices.shape)}"
        )
    if mask is not None:
        first = torch.arange(indices.shape[-1], device=indices.device, dtype=indices.dtype)
        indices = torch.where(check_mask(mask, indices.shape[:-1]).unsqueeze(-1), indices, first)
    check_indices("indices", indices, num_experts)
    ordered = indices.sort(-1).values
    if can_read_values(ordered) and (ordered[..., 1:] == ordered[..., :-1]).any():
        raise ValueError("indices must name different experts in every row, got one that is named twice")
    return indices.long()


def _checked_weights(log_weights: Tensor, mask: Tensor | None) -> Tensor:
    """The weights in float32 at least, 0 in rows that are masked out; the others sum to 1."""
    wide = at_least_float32(check_tensor("log_weights", log_weights))
    weights = _mask_out(wide, mask, -torch.inf).exp()
    if can_read_values(weights):
        total = wide_sum(weights.detach())
        wanted = 1.0 if mask is None else check_mask(mask, total.shape).to(total)
        error = (total - wanted).abs()
        if not (error <= _ROUNDING).all():
            raise ValueError(
                "log_weights must be the logarithms of weights that sum to 1 in every row, such as "
                "gate.normalizer(logits), not logits or probabilities; "
                f"got a row that is off by {float(error.amax()):.3g}"
            )
    return weights


def load_balance_loss(log_weights: Tensor, indices: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""The load-balancing loss :math:`k \sum_j f_j P_j`, 1 when the load is even.

    From Fedus, Zoph and Shazeer (2022), arXiv 2101.03961, equations 4 to 6: :math:`f_j` is the share of the selections
    that fall on expert j, a constant to the gradient, and :math:`P_j` the mean weight of expert j over the
    observations.

    Args:
        log_weights: log-weights over all experts, before any selection, ``(*batch, n, k)``, that is
            ``gate.normalizer(logits)``. As they sum to 1, no gate lowers the loss by shrinking all of its weights.
        indices: the selected experts, ``(*batch, n, num_selected)``.
        mask: True where an observation counts, broadcastable to ``(*batch, n)``.

    Returns:
        ``(*batch,)``; 0 if the mask keeps nothing.

    Raises:
        TypeError: if ``indices`` does not hold integers.
        ValueError: if the weights of a row that counts do not sum to 1, as those of logits do not, or ``indices`` name
            an expert outside 0 .. k - 1, or one twice.

    Example:
        >>> import torch
        >>> from mixkit.gates import topk_gate
        >>> gate = topk_gate(2, 4, 1, generator=torch.Generator().manual_seed(0))
        >>> routing = gate.route(torch.zeros(6, 2))  # ties: all go to expert 0, with equal weights
        >>> load_balance_loss(gate.normalizer(routing.logits), routing.indices).item()
        1.0
    """
    k = check_tensor("log_weights", log_weights).shape[-1]
    share = selection_rate(indices, k, mask) / indices.shape[-1]
    weight = masked_mean(_checked_weights(log_weights, mask), mask)
    return k * (share * weight).sum(-1)


def importance_loss(log_weights: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""The squared coefficient of variation of the experts' total weights, 0 when they are equal.

    From Shazeer et al. (2017), arXiv 1701.06538, equations 6 and 7, without its scale; the variance is that of the k
    values, divided by k.

    Args:
        log_weights: log-weights as the gate returns them, ``(*batch, n, k)``.
        mask: True where an observation counts, broadcastable to ``(*batch, n)``.

    Returns:
        ``(*batch,)``; 0 if the mask keeps nothing.

    Raises:
        ValueError: if the weights of a row that counts do not sum to 1, as those of logits do not.

    Example:
        >>> import torch
        >>> importance_loss(torch.tensor([[1.0, 0.0], [1.0, 0.0]]).log())
        tensor(1.)
    """
    weight = masked_mean(_checked_weights(log_weights, mask), mask)
    mean = weight.mean(-1, keepdim=True)
    return ((weight - mean) / torch.where(mean > 0, mean, 1.0)).square().mean(-1)


def router_z_loss(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""The mean of :math:`(\log \sum_j e^{s_j})^2`, which keeps scores small.

    From Zoph et al. (2022), arXiv 2202.08906, equation 5.

    Args:
        logits: scores before the selection, ``(*batch, n, k)``.
        mask: True where an observation counts, broadcastable to ``(*batch, n)``.

    Returns:
        ``(*batch,)``; 0 if the mask keeps nothing.

    Raises:
        ValueError: if a row that counts has NaN, +inf or nothing finite, or if all rows are log-weights, of which the
            loss is 0.

    Example:
        >>> import torch
        >>> router_z_loss(torch.tensor([[0.0, 0.0]])) == torch.log(torch.tensor(2.0)) ** 2
        tensor(True)
    """
    counted = _mask_out(at_least_float32(check_tensor("logits", logits)), mask, 0.0)
    totals = torch.logsumexp(counted, -1, keepdim=True)
    _check_totals(logits, totals.detach(), mask)
    return masked_mean(totals.square(), mask).squeeze(-1)


def _check_totals(logits: Tensor, totals: Tensor, mask: Tensor | None) -> None:
    """Refuse rows that hold no logits: not finite, or log-weights, which sum to 1 in every row."""
    if not can_read_values(totals) or not totals.numel():
        return
    if not torch.isfinite(totals).all():
        raise ValueError("logits must hold no NaN, no +inf and at least one finite entry in every row that counts")
    counts = totals if mask is None else totals[check_mask(mask, logits.shape[:-1])]
    rounding = 4.0 * torch.finfo(logits.dtype).eps * (1.0 + math.log(logits.shape[-1]))
    if logits.shape[-1] > 1 and counts.numel() and (counts.abs() <= rounding).all():
        raise ValueError("logits must be scores before the normalizer, got log-weights: every row sums to 1 after exp")
