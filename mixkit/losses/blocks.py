"""A softmax over a vocabulary that comes in blocks: one pass for the sum, one for the weights."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from .._validation import at_least_float32, can_read_values, check_finite, check_no_nan, check_tensor
from ..numerics.log_space import safe_logsumexp
from ..numerics.precision import widest_dtype

__all__ = ["log_sum_exp_in_blocks", "softmax_in_blocks"]


def log_sum_exp_in_blocks(blocks: Iterable[Tensor]) -> Tensor:
    r""":math:`\log \sum_i e^{x_i}` over blocks of logits, each seen once and then forgotten.

    Args:
        blocks: logits ``(*batch, size)`` of any number of blocks and any sizes, -inf allowed. A generator may make them
            one at a time, so that no more than a block is in memory.

    Returns:
        ``(*batch,)``, in float32 at least; -inf where all logits are. Differentiable, where blocks keep their graphs.

    Raises:
        ValueError: if there is no block, blocks differ in their leading dimensions, or one has no logits, NaN or +inf.

    References:
        Milakov and Gimelshein (2018), arXiv 1805.02867: the largest logit and the sum in one pass. Here by blocks, the
        sums in float64.

    Example:
        >>> log_sum_exp_in_blocks(torch.full((4,), 1e30) for _ in range(2))
        tensor(1.0000e+30)
        >>> log_sum_exp_in_blocks([torch.zeros(3), torch.zeros(5)]).exp()
        tensor(8.)
    """
    totals: list[Tensor] = []
    dtype = torch.float32
    for block in blocks:
        dtype = torch.promote_types(dtype, _checked(block).dtype)
        totals.append(safe_logsumexp(block.to(widest_dtype(block))))
        if totals[-1].shape != totals[0].shape:
            raise ValueError(
                "blocks must agree in their leading dimensions, "
                f"got {tuple(totals[0].shape)} and {tuple(totals[-1].shape)}"
            )
    if not totals:
        raise ValueError("blocks must hold at least one block, got none")
    return safe_logsumexp(torch.stack(totals, -1)).to(dtype)


def softmax_in_blocks(blocks: Iterable[Tensor], log_total: Tensor) -> Iterator[Tensor]:
    """The second pass: weights of each block, given what :func:`log_sum_exp_in_blocks` returned.

    Raises:
        ValueError: if ``log_total`` is not finite, as that of a row without a finite logit.

    Example:
        >>> logits = torch.tensor([0.0, 1.0, 2.0, 3.0])
        >>> weights = softmax_in_blocks(logits.split(2), log_sum_exp_in_blocks(logits.split(2)))
        >>> torch.allclose(torch.cat(list(weights)), logits.softmax(-1))
        True
    """
    if can_read_values(log_total):
        check_finite("log_total", log_total.detach())
    for block in blocks:
        yield (at_least_float32(block) - log_total.unsqueeze(-1)).exp()


def _checked(block: Tensor) -> Tensor:
    if check_tensor("blocks", block).ndim == 0 or block.shape[-1] == 0:
        raise ValueError(f"blocks must have logits in their last dimension, got shape {tuple(block.shape)}")
    return check_no_nan("blocks", block) if can_read_values(block) else block
