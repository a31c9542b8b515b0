"""Covariates moved and scaled for a search, and the parameters found moved back.

A search from random parameters needs covariates of mean near zero and variance near one: a gate of a year would start
where all its weights are 0 or 1. Where a gate and its experts allow it, a model of ``(x - center) / scale`` is a model
of ``x`` with other parameters, and the search may choose its coordinates.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from mixkit.gates.scores import Score
from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import Axis, ParameterRecord, module_records, records_of

from ..data.dataset import Data
from ..objectives.softmax_gate.design import NEGLIGIBLE_SPREAD, moments
from ..objectives.softmax_gate.objective import is_linear_predictor
from .pattern_units import absorbed_shift, kept_by_patterns

__all__ = ["Coordinates", "coordinate_freedom", "restore_coordinates"]


class Coordinates(NamedTuple):
    """Coordinates ``(x - center) / scale`` of each data set; both ``(r, d)``.

    Example:
        >>> import copy
        >>> from mixkit import linear_gaussian_experts, sigmoid_gate
        >>> settings = {"generator": torch.Generator().manual_seed(0), "dtype": torch.float64}
        >>> model = MixtureOfExperts(sigmoid_gate(1, 2, **settings), linear_gaussian_experts(1, 2, **settings))
        >>> x = torch.tensor([[[1990.0], [2000.0], [2010.0]]], dtype=torch.float64)
        >>> chosen = Coordinates.of(model, Data(x, x[..., 0], None))
        >>> near = chosen.data(Data(x, x[..., 0], None)).x
        >>> far = copy.deepcopy(model)
        >>> restore_coordinates(far, chosen.center[0], chosen.scale[0])
        >>> bool(torch.allclose(far(x[0]).mean, model(near[0]).mean))
        True
    """

    center: Tensor
    scale: Tensor

    @classmethod
    def of(cls, model: MixtureOfExperts, data: Data) -> "Coordinates | None":
        """Means and standard deviations as far as the model allows them to change, or None if it does not."""
        can_move, can_scale = coordinate_freedom(model)
        if not (can_move or can_scale) or data.x.shape[-1] == 0:
            return None
        center, scale = moments(data.x, None, 1)
        center = center if can_move else torch.zeros_like(center)
        return cls(*kept_by_patterns(model, center, scale if can_scale else torch.ones_like(scale)))

    def data(self, data: Data) -> Data:
        """The data in these coordinates; a covariate that varies by rounding alone is zero.

        A coefficient of 1e16 could otherwise fit the noise of that rounding, and mean another model of the data.
        """
        moved = data.x - self.center.unsqueeze(1)
        size = data.x.abs().amax(1, keepdim=True)
        is_constant = moved.abs().amax(1, keepdim=True) <= NEGLIGIBLE_SPREAD * size
        return data._replace(x=torch.where(is_constant, 0.0, moved / self.scale.unsqueeze(1)))


@torch.no_grad()
def restore_coordinates(model: MixtureOfExperts, center: Tensor, scale: Tensor) -> None:
    """Change a model of ``(x - center) / scale`` in place into the same model of ``x``, as its records say."""
    records = records_of(model)
    by_name = {record.name: record for record in records}
    for record in records:
        _rescale(model.get_parameter(record.name), record, center, scale)
    if bool((center != 0).any()):
        for record in sorted(records, key=lambda record: Axis.COVARIATE not in record.axes):  # slopes, then levels
            part = model.get_submodule(record.parent)
            for name in record.units.absorbs:
                absorbed = by_name[f"{record.parent}.{name}"]
                if record.pattern is not None and absorbed.pattern is not None:
                    shift = absorbed_shift(part.get_parameter(name), absorbed.pattern, record.pattern, center)
                else:
                    is_slope = Axis.COVARIATE in record.axes
                    shift = _shifted_by(part.get_parameter(name), absorbed, center, is_slope=is_slope)
                model.get_parameter(record.name).sub_(shift)


def _rescale(value: Tensor, record: ParameterRecord, center: Tensor, scale: Tensor) -> None:
    """Coefficients and positions in the units of the covariates themselves."""
    along = record.along_covariates(scale)
    if along is None:
        return
    for _ in range(abs(record.units.covariate_power)):
        value.mul_(along) if record.units.covariate_power > 0 else value.div_(along)
    if record.units.is_position:
        value.add_(center)


def _shifted_by(coefficients: Tensor, record: ParameterRecord, center: Tensor, *, is_slope: bool) -> Tensor:
    """What a shift of the covariates takes from the levels, or from the slopes, that absorb it.

    Of coefficients ``(..., d)`` of covariates, or ``(..., d (d + 1) / 2)`` of their products. Levels come after slopes,
    whose own shift then counts the products twice.
    """
    d = len(center)
    if record.axes[-1:] == (Axis.COVARIATE,):
        return coefficients @ center
    a, b = torch.triu_indices(d, d)
    if not is_slope:
        return coefficients @ (center[a] * center[b])
    matrix = coefficients.new_zeros((*coefficients.shape[:-1], d, d))
    matrix[..., a, b] += coefficients
    matrix[..., b, a] += coefficients
    return matrix @ center


def coordinate_freedom(model: MixtureOfExperts) -> tuple[bool, bool]:
    """Whether covariates may be moved, and scaled, each its own way, without another model."""
    gate, predictor = model.gate, getattr(model.experts, "predictor", None)
    is_plain = (
        model.num_known == 0
        and is_linear_predictor(predictor)
        and not gate.temperature.depends_on_x
        and gate.selection.reads_scores_alone
        and all(parameter.requires_grad for parameter in model.parameters())
    )
    score = gate.score
    can_shift = score.can_shift and not gate.selection.reads_slope_scores and _is_absorbed(score)
    return is_plain and can_shift, is_plain and score.can_scale


def _is_absorbed(score: Score) -> bool:
    """Whether something takes up what a shift of the covariates does to every coefficient of theirs."""
    records = module_records(score)
    absorbed = {name for record in records for name in record.units.absorbs}
    axes = ((Axis.COVARIATE,), (Axis.PRODUCT,), (Axis.COEFFICIENT,))
    moved = [record for record in records if record.axes[-1:] in axes]
    return all(record.units.is_position or record.name in absorbed for record in moved)
