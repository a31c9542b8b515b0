"""Covariates moved and scaled for a search, and the parameters found moved back.

A search from random parameters needs covariates of mean near zero and variance near one: a gate of a year would start
where all its weights are 0 or 1. Where a gate and its experts allow it, a model of ``(x - center) / scale`` is a model
of ``x`` with other parameters, and the search may choose its coordinates.
"""

import copy
from functools import singledispatch
from typing import NamedTuple

import torch
from torch import Tensor

from mixkit.experts.predictors import ConstantPredictor, LinearPredictor
from mixkit.gates.scores import ActivationScore, ConstantScore, DistanceScore, LinearScore, Score
from mixkit.gates.selections import Dense, TopKByScore, TopKBySlope
from mixkit.mixture import MixtureOfExperts

from ..data.dataset import Data

__all__ = ["Coordinates", "restore_score", "score_freedom"]


class Coordinates(NamedTuple):
    """Coordinates ``(x - center) / scale`` of each data set; both ``(r, d)``.

    Example:
        >>> from mixkit import linear_gaussian_experts, sigmoid_gate
        >>> settings = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
        >>> model = MixtureOfExperts(sigmoid_gate(1, 2, **settings), linear_gaussian_experts(1, 2, **settings))
        >>> x = torch.tensor([[[1990.0], [2000.0], [2010.0]]], dtype=torch.float64)
        >>> chosen = Coordinates.of(model, Data(x, x[..., 0], None))
        >>> near = chosen.data(Data(x, x[..., 0], None)).x
        >>> far = chosen.restored(model, 0)
        >>> bool(torch.allclose(far(x[0]).mean, model(near[0]).mean))
        True
    """

    center: Tensor
    scale: Tensor

    @classmethod
    def of(cls, model: MixtureOfExperts, data: Data) -> "Coordinates | None":
        """Means and standard deviations as far as the model allows them to change, or None if it does not."""
        can_move, can_scale = _freedom(model)
        if not (can_move or can_scale) or data.x.shape[-1] == 0:
            return None
        center, scale = data.x.mean(1), data.x.std(1, correction=0)
        scale = torch.where(scale > 0, scale, 1.0)
        return cls(center if can_move else torch.zeros_like(center), scale if can_scale else torch.ones_like(scale))

    def data(self, data: Data) -> Data:
        """The data in these coordinates."""
        return data._replace(x=(data.x - self.center.unsqueeze(1)) / self.scale.unsqueeze(1))

    @torch.no_grad()
    def restored(self, model: MixtureOfExperts, index: int) -> MixtureOfExperts:
        """A copy of a model of data set ``index`` in these coordinates, as one of the covariates themselves."""
        found = copy.deepcopy(model)
        center, scale = self.center[index], self.scale[index]
        restore_score(found.gate.score, center, scale)
        predictor = found.experts.predictor
        if isinstance(predictor, LinearPredictor):
            predictor.slope.div_(scale)
            predictor.intercept.sub_(predictor.slope @ center)
        return found


def _freedom(model: MixtureOfExperts) -> tuple[bool, bool]:
    """Whether covariates may be moved, and scaled, each its own way, without another model."""
    gate, predictor = model.gate, getattr(model.experts, "predictor", None)
    is_plain = (
        not model.has_offset
        and type(predictor) in (LinearPredictor, ConstantPredictor)
        and not gate.temperature.depends_on_x
        and type(gate.selection) in (Dense, TopKByScore, TopKBySlope)
        and all(parameter.requires_grad for parameter in model.parameters())
    )
    can_move, can_scale = score_freedom(gate.score) if is_plain else (False, False)
    return can_move and not isinstance(gate.selection, TopKBySlope), can_scale


@singledispatch
def score_freedom(score: Score) -> tuple[bool, bool]:
    """Whether a score of moved, and of scaled, covariates is one of the covariates themselves; no unless it says so."""
    return False, False


@score_freedom.register
def _(score: LinearScore) -> tuple[bool, bool]:
    if isinstance(score, ActivationScore):  # the bias stands outside the activation
        return False, True
    is_linear = type(score) is LinearScore
    return is_linear and score.bias is not None, is_linear


@score_freedom.register
def _(score: DistanceScore) -> tuple[bool, bool]:
    return True, False


@score_freedom.register
def _(score: ConstantScore) -> tuple[bool, bool]:
    return True, True


@singledispatch
def restore_score(score: Score, center: Tensor, scale: Tensor) -> None:
    """Change a score of ``(x - center) / scale`` in place into the same score of ``x``; a constant one stays."""


@restore_score.register
def _(score: LinearScore, center: Tensor, scale: Tensor) -> None:
    score.weight.div_(scale)
    if score.bias is not None and not isinstance(score, ActivationScore):
        score.bias.sub_(score.weight @ center)


@restore_score.register
def _(score: DistanceScore, center: Tensor, scale: Tensor) -> None:
    score.center.add_(center)
