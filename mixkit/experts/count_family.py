"""What experts that treat zeros apart ask of a distribution of counts."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from torch.distributions import Distribution

from .base import DensityTerms

__all__ = ["CountFamily"]


class CountFamily(NamedTuple):
    """A distribution of counts of log-mean eta and some constants.

    Attributes:
        title: what messages call it.
        constant_names: names of the constants.
        distribution: the distribution at ``(eta, *constants)``, with a survival function ``sf``.
        log_prob: its log-probability at ``(y, eta, *constants)``.
        terms: the same with derivatives in ``(eta, *constants)``.
    """

    title: str
    constant_names: tuple[str, ...]
    distribution: Callable[..., Distribution]
    log_prob: Callable[..., Tensor]
    terms: Callable[..., DensityTerms]
