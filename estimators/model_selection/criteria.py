r"""Criteria for the number of experts; smaller is better in all of them.

With maximized log-likelihood :math:`\hat\ell`, P free parameters and n observations (rows of positive weight, whatever
their weights; groups of them where these share an expert):

- AIC, :math:`2 P - 2 \hat\ell` (Akaike 1974), which takes too many components of a mixture with a probability that does
  not vanish;
- BIC, :math:`P \log n - 2 \hat\ell` (Schwarz 1978), consistent for mixtures under conditions (Keribin 2000, Sankhya A
  62, 49-66);
- ICL, BIC plus twice the entropy of the responsibilities, :math:`-2 \sum_{ij} r_{ij} \log r_{ij}`, which asks for
  experts that are told apart (Biernacki, Celeux, Govaert 2000, IEEE PAMI 22, 719-725; there with hard assignments, here
  in the form with :math:`r_{ij}` that McLachlan and Peel 2000, section 6.10.3, call ICL-BIC).

Of penalized fits P is the effective number of parameters (:func:`~estimators.results.effective_df.effective_df`), and
:math:`\hat\ell` the log-likelihood without the penalty.
"""

from collections.abc import Callable

from torch import Tensor

from ..data.dataset import Data
from ..results.criteria import total_entropy
from ..results.fit_result import FitResult

__all__ = ["CRITERIA", "Criterion", "aic", "bic", "icl"]

Criterion = Callable[[FitResult, Tensor, Tensor], float]
"""What a user's own criterion is: a function of a fit, x ``(n, d)`` and y ``(n, ...)``; smaller is better."""


def aic(result: FitResult, data: Data) -> float:
    """Akaike's criterion, ``2 P - 2 llf``.

    Args:
        result: a fit.
        data: not used; criteria share a signature.

    Example:
        >>> import torch
        >>> from estimators import EM
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> from mixkit.datasets import load_tone
        >>> g = torch.Generator().manual_seed(0)
        >>> model = MixtureOfExperts(softmax_gate(1, 2, generator=g), linear_gaussian_experts(1, 2, generator=g))
        >>> fit = EM(random_state=0).fit(model, *load_tone())
        >>> [round(rule(fit, fit.maximum.data), 1) for rule in (aic, bic, icl)]
        [-269.7, -245.6, -185.9]
    """
    return result.aic


def bic(result: FitResult, data: Data) -> float:
    """Schwarz's criterion, ``P log n - 2 llf``, n the groups or rows with a weight; arguments as of :func:`aic`."""
    return result.bic


def icl(result: FitResult, data: Data) -> float:
    """BIC plus twice the entropy of the responsibilities; ``data`` are those of the fit."""
    return bic(result, data) + 2.0 * total_entropy(result.model, data)


CRITERIA: dict[str, Callable[[FitResult, Data], float]] = {"aic": aic, "bic": bic, "icl": icl}
