r"""Normalizers that divide a positive function of each score by its sum, :math:`w_j = \phi(s_j) / \sum_i \phi(s_i)`."""

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from ..._validation import at_least_float32
from .base import Normalizer

__all__ = ["LinkNormalizer", "NormalizedSigmoid", "Softmax", "SoftplusL1", "StableMax"]


class Softmax(Normalizer):
    r"""The softmax, :math:`w_j = e^{s_j} / \sum_i e^{s_i}`.

    Example:
        >>> import torch
        >>> Softmax()(torch.tensor([0.0, 0.0, -torch.inf])).exp()
        tensor([0.5000, 0.5000, 0.0000])
    """

    shift_invariant = True

    def log_weights(self, scores: Tensor) -> Tensor:
        """Log-weights ``(..., k)``."""
        return torch.log_softmax(scores, -1)


class LinkNormalizer(Normalizer):
    r"""Weights proportional to a positive link of the score, :math:`w_j = \phi(s_j) / \sum_i \phi(s_i)`.

    A subclass writes ``log_link``, :math:`\log \phi`, and the sum is taken in log space, so that the weights sum to 1
    however small the links are: no epsilon stands in the denominator for a router to hide behind.
    """

    shift_invariant = False

    @abstractmethod
    def log_link(self, scores: Tensor) -> Tensor:
        r""":math:`\log \phi` of finite scores, elementwise."""

    def log_weights(self, scores: Tensor) -> Tensor:
        """Log-weights ``(..., k)``."""
        return torch.log_softmax(self.log_links(scores), -1)

    def log_links(self, scores: Tensor) -> Tensor:
        r""":math:`\log \phi` of scores, in float32 at least; -inf stays."""
        possible = scores > -torch.inf
        links = self.log_link(at_least_float32(torch.where(possible, scores, 0.0)))
        return torch.where(possible, links, -torch.inf)


class NormalizedSigmoid(LinkNormalizer):
    r"""Sigmoids divided by their sum, :math:`w_j = \sigma(s_j) / \sum_i \sigma(s_i)`.

    The normalized form of the sigmoid gate of Nguyen, Ho and Rinaldo (2024), arXiv 2405.13997, used by routers since
    DeepSeek-V3 (arXiv 2412.19437).

    Example:
        >>> import torch
        >>> NormalizedSigmoid()(torch.tensor([-1e4, -1e4])).exp()
        tensor([0.5000, 0.5000])
    """

    def log_link(self, scores: Tensor) -> Tensor:
        """The logarithm of the sigmoid."""
        return logsigmoid(scores)


class SoftplusL1(LinkNormalizer):
    r"""Softplus divided by its sum, :math:`w_j = \log(1 + e^{s_j}) / \sum_i \log(1 + e^{s_i})`.

    Example:
        >>> import torch
        >>> SoftplusL1()(torch.tensor([3e4, 1e4])).exp()  # linear in large scores, exponential in very negative ones
        tensor([0.7500, 0.2500])
    """

    def log_link(self, scores: Tensor) -> Tensor:
        """The logarithm of the softplus; below -30 its expansion, exact to the last digit of float64 there."""
        small = scores < -30.0
        softplus = torch.logaddexp(torch.where(small, 0.0, scores), scores.new_zeros(()))
        tail = torch.where(small, scores, -30.0)
        return torch.where(small, tail - tail.exp() / 2.0, softplus.log())


class StableMax(LinkNormalizer):
    r"""StableMax: :math:`\phi(s) = s + 1` for :math:`s \ge 0` and :math:`1 / (1 - s)` below.

    From Prieto, Barsbey, Mediano and Birdal (2025), arXiv 2501.04697, equation 5. Here in logarithms,
    :math:`\log \phi(s) = \text{sign}(s) \log(1 + |s|)`, which has no pole and a finite gradient at every score.

    Example:
        >>> import torch
        >>> StableMax()(torch.tensor([1.0, -1.0])).exp()
        tensor([0.8000, 0.2000])
    """

    def log_link(self, scores: Tensor) -> Tensor:
        """The signed logarithm."""
        sign = torch.where(scores >= 0.0, 1.0, -1.0)
        return sign * torch.log1p(sign * scores)
