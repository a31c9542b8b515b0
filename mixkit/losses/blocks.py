r"""A softmax over a vocabulary that comes in blocks: sums as mantissa and exponent, in one pass and without a maximum.

A number is held as :math:`m \, 2^n` with m near 1 and n an integer, kept apart: :math:`e^x` has
:math:`n = \operatorname{round}(x \log_2 e)` and :math:`m = e^{x - n \log 2}`. Such a sum cannot overflow, so the first
pass over the logits is the last one before the weights: the two-pass softmax, where the usual one needs three.
"""

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from .._validation import at_least_float32, check_tensor
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
        ValueError: if there is no block, or blocks differ in their leading dimensions.

    References:
        Dukhan and Ablavatski (2020), arXiv 2001.04438, "The two-pass softmax algorithm".

    Example:
        >>> log_sum_exp_in_blocks(torch.full((4,), 1e30) for _ in range(2))
        tensor(1.0000e+30)
        >>> log_sum_exp_in_blocks([torch.zeros(3), torch.zeros(5)]).exp()
        tensor(8.)
    """
    total: tuple[Tensor, Tensor] | None = None
    dtype = torch.float32
    for block in blocks:
        dtype = torch.promote_types(dtype, check_tensor("blocks", block).dtype)
        part = _sum_of(block)
        if total is not None and part[0].shape != total[0].shape:
            raise ValueError(
                f"blocks must agree in their leading dimensions, got {tuple(total[0].shape)} and {tuple(part[0].shape)}"
            )
        total = part if total is None else _add(total, part)
    if total is None:
        raise ValueError("blocks must hold at least one block, got none")
    return _logarithm(*total).to(dtype)


def softmax_in_blocks(blocks: Iterable[Tensor], log_total: Tensor) -> Iterator[Tensor]:
    """The second pass: weights of each block, given what :func:`log_sum_exp_in_blocks` returned.

    Example:
        >>> logits = torch.tensor([0.0, 1.0, 2.0, 3.0])
        >>> weights = softmax_in_blocks(logits.split(2), log_sum_exp_in_blocks(logits.split(2)))
        >>> torch.allclose(torch.cat(list(weights)), logits.softmax(-1))
        True
    """
    for block in blocks:
        yield (at_least_float32(block) - log_total.unsqueeze(-1)).exp()


def _sum_of(block: Tensor) -> tuple[Tensor, Tensor]:
    """Mantissa and exponent of the sum of the exponentials in a block, each ``(*batch,)``."""
    wide = block.to(widest_dtype(block))
    absent = torch.isneginf(wide)
    inside = wide.masked_fill(absent, 0.0)
    exponent = (inside.detach() / math.log(2.0)).round()
    rest = inside - exponent * math.log(2.0)
    rest = rest + (rest.clamp(-1.0, 1.0) - rest).detach()  # of logits beyond 1e15 no digit is left, but a gradient is
    mantissa = rest.exp().masked_fill(absent, 0.0)
    top = exponent.masked_fill(absent, -torch.inf).amax(-1)
    top = top.masked_fill(torch.isneginf(top), 0.0)
    return (mantissa * torch.exp2(exponent - top.unsqueeze(-1))).masked_fill(absent, 0.0).sum(-1), top


def _add(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The sum of two numbers, at the exponent of the larger one; a sum of nothing has no exponent."""
    exponents = [torch.where(mantissa > 0, exponent, -torch.inf) for mantissa, exponent in (first, second)]
    top = torch.maximum(*exponents)
    top = top.masked_fill(torch.isneginf(top), 0.0)
    scaled = [
        mantissa * torch.exp2(exponent - top).nan_to_num(0.0)
        for (mantissa, _), exponent in zip((first, second), exponents, strict=True)
    ]
    return scaled[0] + scaled[1], top


def _logarithm(mantissa: Tensor, exponent: Tensor) -> Tensor:
    present = mantissa > 0
    value = torch.where(present, mantissa, 1.0).log() + exponent * math.log(2.0)
    return torch.where(present, value, -torch.inf)
