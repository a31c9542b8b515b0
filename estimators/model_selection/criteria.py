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

import torch
from torch import Tensor

from mixkit._validation import check_finite
from mixkit.gates.gate import entropy
from mixkit.mixture import MixtureOfExperts

from ..data.dataset import Data
from ..data.unit_posterior import log_joint, unit_log_responsibilities
from ..results.fit_result import FitResult

__all__ = ["CRITERIA", "Criterion", "aic", "bic", "icl", "responsibility_entropy"]

Criterion = Callable[[FitResult, Tensor, Tensor], float]
"""What a user's own criterion is: a function of a fit, x ``(n, d)`` and y ``(n, ...)``; smaller is better."""


def responsibility_entropy(model: MixtureOfExperts, x: Tensor, y: Tensor, weight: Tensor | None = None) -> float:
    r"""Total entropy :math:`-\sum_i w_i \sum_j r_{ij} \log r_{ij}` of the responsibilities, in nats.

    From 0, where every observation has one possible expert, to ``n log k``.

    Args:
        model: a mixture of k experts.
        x: covariates ``(n, d)``.
        y: responses ``(n,)`` or ``(n, p)``.
        weight: weights of the observations, ``(n,)``; ones if None.

    Raises:
        ValueError: if a response is not finite, or the experts give one no responsibilities.

    Example:
        >>> import torch
        >>> from mixkit import MixtureOfExperts, constant_gate, linear_gaussian_experts
        >>> experts = linear_gaussian_experts(1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        >>> model = MixtureOfExperts(constant_gate(2, dtype=torch.float64), experts)
        >>> x, y = torch.zeros(3, 1, dtype=torch.float64), torch.full((3,), 1e3, dtype=torch.float64)
        >>> round(responsibility_entropy(model, x, y), 6)  # far out one expert has all the responsibility
        0.0
    """
    with torch.no_grad():
        rows = entropy(model(x).log_responsibilities(check_finite("y", y)))
    check_finite("the entropy of the responsibilities", rows)
    return float(rows.sum() if weight is None else (weight * rows).sum())


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
    return 2.0 * result.effective_df - 2.0 * result.llf


def bic(result: FitResult, data: Data) -> float:
    """Schwarz's criterion, ``P log n - 2 llf``, n the groups or rows with a weight; arguments as of :func:`aic`."""
    return result.bic


def icl(result: FitResult, data: Data) -> float:
    """BIC plus twice the entropy of the responsibilities; ``data`` are those of the fit."""
    weight = None if data.unit_weight is None else data.unit_weight[0]
    if data.units is None:
        return bic(result, data) + 2.0 * responsibility_entropy(result.model, data.x[0], data.y[0], weight)
    with torch.no_grad():
        power = None if data.units.power is None else data.units.power[0]
        joint = log_joint(result.model(data.x[0]), data.y[0], data.units, power)
        rows = entropy(unit_log_responsibilities(joint))
    return bic(result, data) + 2.0 * float(rows.sum() if weight is None else (weight * rows).sum())


CRITERIA: dict[str, Callable[[FitResult, Data], float]] = {"aic": aic, "bic": bic, "icl": icl}
