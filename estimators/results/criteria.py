"""Degrees of freedom and information criteria of a fit."""

import numpy as np
import torch
from torch import Tensor

from mixkit._validation import check_choice, check_finite, check_positive
from mixkit.gates.gate import entropy
from mixkit.mixture import MixtureOfExperts

from ..data.dataset import Data
from ..data.unit_posterior import log_joint, unit_log_responsibilities
from .effective_df import effective_df
from .likelihood_inference import LikelihoodInference

__all__ = ["InformationCriteria", "responsibility_entropy", "total_entropy"]


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


def total_entropy(model: MixtureOfExperts, data: Data) -> float:
    """The same of the first data set, whose rows may share experts by group: then of the groups' responsibilities."""
    x, y, units = data.x[0], data.y[0], data.units
    weight = None if data.unit_weight is None else data.unit_weight[0]
    if units is None:
        return responsibility_entropy(model, x, y, weight)
    with torch.no_grad():
        joint = log_joint(model(x), y, units, None if units.power is None else units.power[0])
        rows = entropy(unit_log_responsibilities(joint))
    return float(rows.sum() if weight is None else (weight * rows).sum())


class InformationCriteria(LikelihoodInference):
    """The part of a result that weighs its log-likelihood against the number of its parameters."""

    llf: float
    nobs: int
    num_groups: int | None
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
        """Schwarz's criterion, ``P log n - 2 llf``; n counts what is independent: groups, or without these rows.

        Those of positive weight count, whatever the weight. P is the effective number of parameters. Of weights that
        are counts of equal rows the criterion of the rows written out has their sum in place of n. For other numbers,
        as that of the rows where there are groups, see :meth:`info_criteria`.
        """
        return self.info_criteria("bic")

    def info_criteria(self, criterion: str, *, nobs: str | float | None = None) -> float:
        """Akaike's ("aic") or Schwarz's criterion ("bic"), the latter for a number of observations of one's choice.

        Args:
            criterion: one of the two.
            nobs: n of Schwarz's: "groups", "rows", or a positive number; None for groups where there are some, else
                rows.

        Raises:
            ValueError: for another criterion or number, or "groups" of a fit without groups.
        """
        check_choice("criterion", criterion, ("aic", "bic"))
        if criterion == "aic":
            return self.aic
        return float(np.log(self._count(nobs))) * self.effective_df - 2.0 * self.llf

    def _count(self, nobs: str | float | None) -> float:
        if nobs is None:
            return self.nobs if self.num_groups is None else self.num_groups
        if not isinstance(nobs, str):
            return float(check_positive("nobs", nobs))
        if check_choice("nobs", nobs, ("groups", "rows")) == "rows":
            return self.nobs
        if self.num_groups is None:
            raise ValueError("nobs must be 'rows' or a number for a fit without groups, got 'groups'")
        return self.num_groups

    @property
    def icl(self) -> float:
        """BIC plus twice the entropy of the responsibilities: smaller where experts are told apart.

        Raises:
            DataRemovedError: after ``remove_data``.

        Source: Biernacki, Celeux, Govaert (2000), IEEE PAMI 22, 719-725, in the form with responsibilities of McLachlan
        and Peel (2000), section 6.10.3.
        """
        return self.bic + 2.0 * total_entropy(self.model, self.maximum.data)
