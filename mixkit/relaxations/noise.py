"""Gumbel noise, its distribution given the winner, and the exact draw of one category."""

import torch
from torch import Tensor
from torch.nn import functional

from .._validation import at_least_float32, can_read_values
from ..numerics.precision import widest_dtype
from ..numerics.randomness import Randomness, as_generator
from ._checks import check_logits

__all__ = ["centered", "conditional_gumbel", "gumbel", "gumbel_like", "perturb", "sample_one_hot"]

_STEP = 2.0**-31 * (1.0 - 2.0**-24)  # takes 31 random bits into (0, 1), the largest rounding to 1 - 2^-24
_CHUNK = 2**16  # entries that stay in cache through all steps


def gumbel(
    shape: torch.Size | tuple[int, ...],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    generator: Randomness = None,
) -> Tensor:
    r"""Standard Gumbel noise, :math:`g = -\log(-\log(1 - u))` with :math:`u` uniform on a fine grid near zero.

    The grid has 31 bits in float32 and 53 in float64, so that the upper tail, which decides the winner, reaches
    22.2 (37.4 in float64); ``-log(-log(rand()))`` in float32 stops at 16.6 and ties in one row of 500 at 32,000
    categories. Half precision is refused: noise is drawn in float32 at least.

    Args:
        shape: shape of the result.
        dtype: ``torch.float32`` or ``torch.float64``.
        device: where to draw.
        generator: source of randomness, or a seed; torch's default when None.

    Raises:
        ValueError: if ``dtype`` is neither float32 nor float64.

    Example:
        >>> gumbel((2, 3), generator=torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3])
    """
    return exponential(shape, dtype=dtype, device=device, generator=generator, log=True).neg_()


def exponential(
    shape: torch.Size | tuple[int, ...],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
    generator: Randomness = None,
    log: bool = False,
) -> Tensor:
    """Standard exponential noise, or its logarithm, on the grid :func:`gumbel` describes."""
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
    out = torch.empty(shape, dtype=dtype, device=device)
    generator = as_generator(generator, out.device)
    if torch.compiler.is_compiling() or _under_vmap():
        return _to_exponential(_traceable_uniform(out, generator), log)
    for chunk in out.view(-1).split(_CHUNK if out.device.type == "cpu" else max(out.numel(), 1)):
        _to_exponential(_fill_uniform(chunk, generator), log)
    return out


def _to_exponential(uniform: Tensor, log: bool) -> Tensor:
    noise = uniform.neg_().log1p_().neg_()
    return noise.log_() if log else noise


def _fill_uniform(out: Tensor, generator: torch.Generator | None) -> Tensor:
    if out.dtype == torch.float64:
        return out.uniform_(generator=generator).clamp_(min=2.0**-54)
    bits = torch.empty(out.shape, dtype=torch.int32, device=out.device).random_(generator=generator)
    return out.copy_(bits).add_(0.5).mul_(_STEP)


def _under_vmap() -> bool:
    levels = torch._C._functorch.get_interpreter_stack() or ()
    return any(level.key() == torch._C._functorch.TransformType.Vmap for level in levels)


def _traceable_uniform(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """As :func:`_fill_uniform`, by calls that vmap and the compiler accept; in float32 from other bits."""
    if like.dtype == torch.float64:
        return torch.rand(like.shape, dtype=like.dtype, device=like.device, generator=generator).clamp(min=2.0**-54)
    bits = torch.randint(0, 2**31 - 1, like.shape, dtype=torch.int32, device=like.device, generator=generator)
    return bits.to(like.dtype).add_(0.5).mul_(_STEP)


def gumbel_like(logits: Tensor, *, generator: Randomness = None) -> Tensor:
    """Gumbel noise of the shape, dtype and device of ``logits``, in float32 if they are in half precision."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return gumbel(logits.shape, dtype=dtype, device=logits.device, generator=generator)


def centered(logits: Tensor) -> Tensor:
    """``logits`` less the largest of their row, a constant to the gradient; in float32 at least.

    A softmax and a ranking stay what they are, while noise of order one keeps its digits beside logits of order 1e7.
    """
    wide = at_least_float32(logits)
    return wide - wide.detach().amax(-1, keepdim=True)


def perturb(logits: Tensor, *, generator: Randomness = None) -> Tensor:
    """Centered logits plus Gumbel noise, in float32 at least: the argmax follows their softmax."""
    noise, scores = gumbel_like(logits, generator=generator), centered(logits)
    return noise.add_(scores) if can_read_values(scores) else scores + noise


def one_hot_argmax(scores: Tensor) -> Tensor:
    """One-hot ``(*batch, k)`` of the largest entry of each row, in the dtype of ``scores``, without gradient."""
    scores = scores.detach()
    return torch.zeros_like(scores).scatter(-1, scores.argmax(-1, keepdim=True), 1.0)


def sample_one_hot(logits: Tensor, *, generator: Randomness = None) -> Tensor:
    r"""Draw one category of :math:`\operatorname{softmax}(\text{logits})` per row by the Gumbel-max rule.

    Args:
        logits: unnormalized log-probabilities ``(*batch, k)``, -inf allowed: such a category is never drawn.
        generator: source of randomness; torch's default when None.

    Returns:
        One-hot rows ``(*batch, k)`` in the dtype of ``logits``, without gradient.

    Raises:
        ValueError: if a row holds NaN, +inf or nothing finite.

    Example:
        >>> logits = torch.tensor([0.0, -torch.inf])
        >>> sample_one_hot(logits, generator=torch.Generator().manual_seed(0))
        tensor([1., 0.])
    """
    check_logits(logits)
    return one_hot_argmax(perturb(logits.detach(), generator=generator)).to(logits.dtype)


def sample_index_from_probs(probs: Tensor, *, generator: Randomness = None) -> Tensor:
    """Draw one category per row, ``(*batch, 1)``, of probabilities at hand, by one uniform number and sums in float64.

    A category of probability zero is never drawn, at the end of a row neither.
    """
    cumulative = probs.detach().cumsum(-1, dtype=widest_dtype(probs))
    total = cumulative[..., -1:]
    source = as_generator(generator, probs.device)
    uniform = torch.rand(total.shape, dtype=total.dtype, device=total.device, generator=source)
    below_total = uniform.clamp(max=1.0 - 2.0 * torch.finfo(total.dtype).eps) * total
    if can_read_values(cumulative):
        return torch.searchsorted(cumulative, below_total, right=True)
    return (cumulative <= below_total).sum(-1, keepdim=True)  # the same, for vmap


def conditional_gumbel(logits: Tensor, one_hot: Tensor, *, generator: Randomness = None) -> Tensor:
    r"""Draw :math:`z = \text{logits} - \max(\text{logits}) + g` given that the drawn category is its argmax.

    The largest logit of each row is taken away, a constant to the gradient, so that the noise keeps its digits.

    The maximum is :math:`m = \log\sum_j e^{\theta_j} + g_0` whoever wins, and every other entry is a Gumbel variable
    truncated at it, :math:`z_j = m - \operatorname{softplus}(m - \theta_j - g_j)`: no difference of exponentials
    appears, so magnitudes of 1e4 and -inf are safe.

    Args:
        logits: ``(*batch, k)``, -inf allowed.
        one_hot: the drawn category ``(*batch, k)``, or more leading dimensions.
        generator: source of randomness; torch's default when None.

    Returns:
        Perturbed centered logits of the broadcast shape, in float32 at least, differentiable in ``logits`` (the
        reparameterization of REBAR, Tucker et al. 2017, arXiv 1703.07370).

    Example:
        >>> logits, drawn = torch.zeros(3), torch.tensor([0.0, 1.0, 0.0])
        >>> int(conditional_gumbel(logits, drawn, generator=torch.Generator().manual_seed(0)).argmax())
        1
    """
    generator = as_generator(generator, logits.device)
    logits = centered(check_logits(logits))
    scores, one_hot = torch.broadcast_tensors(logits, one_hot)
    noise = gumbel_like(scores, generator=generator)
    top_noise = gumbel_like(scores[..., :1], generator=generator)
    top = torch.logsumexp(logits, -1, keepdim=True) + top_noise
    return torch.where(one_hot > 0, top, top - functional.softplus(top - scores - noise))
