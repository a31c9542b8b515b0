r"""The spherical family: links that are polynomials of the score, which no exponential has to be taken of."""

import torch
from torch import Tensor

from ..._validation import check_positive
from .links import LinkNormalizer

__all__ = ["SphericalSoftmax", "TaylorSoftmax"]


class SphericalSoftmax(LinkNormalizer):
    r"""The spherical softmax, :math:`w_j = (s_j^2 + \epsilon) / \sum_i (s_i^2 + \epsilon)`.

    From Vincent, de Brebisson and Bouthillier (2015), arXiv 1412.7091, and de Brebisson and Vincent (2015), arXiv
    1511.05042. The link is even: a score and its negative have one weight.

    Args:
        epsilon: positive; the link of a score of zero.

    Raises:
        ValueError: if ``epsilon`` is not positive and finite.

    Example:
        >>> import torch
        >>> SphericalSoftmax(1e-3)(torch.tensor([3.0, -1.0, 0.0])).exp().round(decimals=3)
        tensor([0.9000, 0.1000, 0.0000])
    """

    def __init__(self, epsilon: float = 1e-2) -> None:
        super().__init__()
        self.epsilon = float(check_positive("epsilon", epsilon))

    def log_link(self, scores: Tensor) -> Tensor:
        """The logarithm of the square plus epsilon; of large scores without the square, which may overflow."""
        large = scores.abs() > 1e4
        inside = torch.where(large, 1.0, scores)
        size = torch.where(large, scores.abs(), 1e4)
        return torch.where(
            large, 2.0 * size.log() + torch.log1p(self.epsilon / size / size), (inside.square() + self.epsilon).log()
        )

    def extra_repr(self) -> str:
        """The setting shown by ``repr``."""
        return f"epsilon={self.epsilon:g}"


class TaylorSoftmax(LinkNormalizer):
    r"""The Taylor softmax, :math:`w_j = (1 + s_j + s_j^2 / 2) / \sum_i (1 + s_i + s_i^2 / 2)`.

    From de Brebisson and Vincent (2015), arXiv 1511.05042: the second-order expansion of the exponential, which is at
    least 1/2 (at a score of -1) and so positive everywhere. Below -1 it rises again: it does not keep the order of
    scores there.

    Example:
        >>> import torch
        >>> TaylorSoftmax()(torch.tensor([2.0, 0.0, -1.0])).exp().round(decimals=4)
        tensor([0.7692, 0.1538, 0.0769])
    """

    def log_link(self, scores: Tensor) -> Tensor:
        """The logarithm of the parabola; of large scores without the square, which may overflow."""
        large = scores.abs() > 1e4
        inside = torch.where(large, 0.0, scores)
        outside = torch.where(large, scores, 1e4)
        far = 2.0 * outside.abs().log() + torch.log(0.5 + 1.0 / outside + (1.0 / outside).square())
        return torch.where(large, far, torch.log1p(inside + inside.square() / 2.0))
