"""Where a fit ended, and what its standard errors need of it."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mixkit._validation import check_choice

from ..data.dataset import Data
from ..optimizers.newton import Ascent
from ..optimizers.objective import Objective, UserMap
from ..statistics.covariance import clustered, inverse_information, propagate, sandwich

__all__ = ["COVARIANCES", "DataRemovedError", "Maximum"]


class DataRemovedError(ValueError):
    """What was asked of a result needs the data, which ``remove_data`` took away."""


@dataclass(eq=False)
class Maximum:
    """The end of a fit to one data set.

    Attributes:
        theta: parameter vector ``(P,)``.
        gradient: of the log-likelihood there, ``(P,)``.
        hessian: of the log-likelihood there, ``(P, P)``, or empty where P is too large for one.
        to_user: how users' parameters follow from the vector.
        at_bound: which parameters stand at a lower bound against which the likelihood pushes them, ``(P,)`` bool.
    """

    theta: Tensor
    gradient: Tensor
    hessian: Tensor
    to_user: UserMap
    at_bound: Tensor
    _objective: Objective | None
    _covariances: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, objective: Objective, ascent: Ascent) -> "Maximum":
        """The first end of the first data set of an ascent."""
        theta, gradient = ascent.theta[0, 0].clone(), ascent.evaluation.gradient[0, 0].clone()
        at_bound = (theta <= objective.lower) & (gradient < 0)
        hessian = ascent.evaluation.hessian[0, 0].clone()
        return cls(theta, gradient, hessian, objective.user_map(), at_bound, objective.without_cache())

    @property
    def objective(self) -> Objective:
        """The log-likelihood of the data; raises :class:`DataRemovedError` once the data are gone."""
        if self._objective is None:
            raise DataRemovedError("this needs the data of the fit, which remove_data() took away")
        return self._objective

    @property
    def data(self) -> Data:
        """The observations, with r = 1."""
        return self.objective.data

    def remove_data(self) -> None:
        """Forget the observations; covariances computed before stay."""
        self._objective = None

    def covariance(self, cov_type: str, clusters: Tensor | None = None) -> Tensor:
        """Covariance of the vector, ``(P, P)``; NaN where the data do not determine a parameter.

        Args:
            cov_type: a name of :data:`COVARIANCES`.
            clusters: the cluster of each unit ``(g,)``, from 0 on, for "cluster" alone.
        """
        check_choice("cov_type", cov_type, COVARIANCES)
        if not self.hessian.numel():
            return self._unknown()
        if clusters is not None:
            return clustered(self.hessian, self.at_bound, self.objective.scores(self.theta), clusters)
        if cov_type not in self._covariances:
            self._covariances[cov_type] = COVARIANCES[cov_type](self)
        return self._covariances[cov_type]

    def user_covariance(self, cov_type: str, clusters: Tensor | None = None) -> Tensor:
        """Covariance of users' parameters, ``(P, P)``, by the delta method."""
        if not self.hessian.numel():
            return self._unknown()
        return propagate(self.to_user.jacobian(self.theta), self.covariance(cov_type, clusters))

    def _unknown(self) -> Tensor:
        return self.theta.new_full((len(self.theta), len(self.theta)), torch.nan)


def _observed(maximum: Maximum) -> Tensor:
    return inverse_information(maximum.hessian, maximum.at_bound)


def _sandwich(maximum: Maximum) -> Tensor:
    return sandwich(maximum.hessian, maximum.at_bound, maximum.objective.scores(maximum.theta))


def _outer_product(maximum: Maximum) -> Tensor:
    scores, weight = maximum.objective.scores(maximum.theta), maximum.data.unit_weight
    if weight is not None:
        scores = scores / weight[0].clamp(min=torch.finfo(weight.dtype).tiny).sqrt().unsqueeze(-1)
    return inverse_information(-(scores.mT @ scores), maximum.at_bound)


def _clustered(maximum: Maximum) -> Tensor:
    raise ValueError("groups must be given for cov_type='cluster': labels of rows that depend, got None")


COVARIANCES: dict[str, Callable[[Maximum], Tensor]] = {
    "observed": _observed,
    "sandwich": _sandwich,
    "opg": _outer_product,
    "cluster": _clustered,
}
"""Covariances by name: the inverse observed information, the sandwich, the inverse outer product of the scores.

That of "cluster" needs the clusters.
"""
