"""Degrees of freedom and information criteria of a fit."""

import numpy as np
import torch
from torch import Tensor

from mixkit._validation import check_finite
from mixkit.gates.gate import entropy
from mixkit.mixture import MixtureOfExperts

from .effective_df import effective_df
from .likelihood_inference import LikelihoodInference

__all__ = ["InformationCriteria", "responsibility_entropy"]


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


class InformationCriteria(LikelihoodInference):
    """The part of a result that weighs its log-likelihood against the number of its parameters."""

    llf: float
    nobs: int
    _effective_df: float | None
    _num_redundant: int

    @property
    def is_penalized(self) -> bool:
        """Whether the fit maximized something else than the log-likelihood."""
        return abs(self.objective_value - self.llf) > 1e-9 * (1.0 + abs(self.llf))

    @property
    def df_model(self) -> int:
        """The number of free parameters: P less those that others make up for, as a temperature of a linear gate."""
        return len(self.params) - self._num_redundant

    @property
    def effective_df(self) -> float:
        """P, or the effective number of parameters of a penalized fit (``effective_df.py``)."""
        if self._effective_df is None and self.is_penalized:
            return effective_df(self.maximum)
        return float(self.df_model) if self._effective_df is None else self._effective_df

    @property
    def df_resid(self) -> float:
        """Observations less the effective number of parameters, scales and the gate's among them."""
        return self.nobs - self.effective_df

    @property
    def aic(self) -> float:
        """Akaike's criterion, ``2 P - 2 llf``, P the effective number of parameters."""
        return 2.0 * self.effective_df - 2.0 * self.llf

    @property
    def bic(self) -> float:
        """Schwarz's criterion, ``P log n - 2 llf``; n is ``nobs``: rows of positive weight, whatever the weight.

        P is the effective number of parameters. Of weights that are counts of equal rows the criterion of the rows
        written out has their sum in place of n.
        """
        return float(np.log(self.nobs)) * self.effective_df - 2.0 * self.llf

    @property
    def icl(self) -> float:
        """BIC plus twice the entropy of the responsibilities: smaller where experts are told apart.

        Raises:
            DataRemovedError: after ``remove_data``.

        Source: Biernacki, Celeux, Govaert (2000), IEEE PAMI 22, 719-725, in the form with responsibilities of McLachlan
        and Peel (2000), section 6.10.3.
        """
        data = self.maximum.data
        weight = None if data.weight is None else data.weight[0]
        return self.bic + 2.0 * responsibility_entropy(self.model, data.x[0], data.y[0], weight)
