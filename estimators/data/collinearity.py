"""Columns that others determine."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mixkit.experts.predictors import ConstantPredictor
from mixkit.gates.scores import ConstantScore
from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import has_form, patterned_parts

from .columns import with_names
from .dataset import Data
from .dependent_coefficients import dependent_coefficients
from .patterns import families_of
from .spread import is_constant, spread
from .triangle import COLLINEAR, triangle

__all__ = ["CollinearityWarning", "dependence_remark", "dependent_columns"]


class CollinearityWarning(UserWarning):
    """A covariate is constant, or a linear combination of others; the data do not determine its coefficients."""


def dependent_columns(
    data: Data, *, model: MixtureOfExperts, num_known: int = 0, is_held: tuple[bool, bool] = (False, False)
) -> Tensor:
    """Covariates ``(d,)`` that are constant or a linear combination of earlier ones, in any data set.

    The last ``num_known`` columns, an offset for example, have no coefficients and count as none of them. Of a
    ``model`` with a pattern of coefficients these are coefficients ``(1 + f, k, d)``, those of the gate and of each
    family of experts among the columns that it reads; so they are if ``is_held`` says that a penalty holds the slopes
    of the gate or of the experts, which are then no dependent ones.

    Raises:
        ValueError: if squares of a column overflow, or those of one that varies underflow.
    """
    d = data.x.shape[-1]
    if _reads_nothing(model):
        return torch.zeros(d, dtype=torch.bool, device=data.x.device)
    x = data.x[..., : d - num_known]
    if patterned_parts(model):
        dependent = dependent_coefficients(model, x)
    else:
        dependent = torch.zeros(d, dtype=torch.bool, device=data.x.device)
        dependent[: d - num_known] = torch.stack([_dependent(rows) for rows in x]).any(0)
    if not any(is_held):
        return dependent
    count = len(families_of(model))
    parts = dependent.expand(1 + count, model.num_experts, -1) if dependent.ndim == 1 else dependent
    held = torch.tensor([is_held[0], *[is_held[1]] * count], device=parts.device)
    return parts[..., : d - num_known] & ~held[:, None, None]


def dependence_remark(
    dependent: Tensor,
    data: Data,
    *,
    num_known: int = 0,
    names: Sequence[str] | None = None,
    is_fixed: bool = True,
    is_held: tuple[bool, bool] = (False, False),
) -> str:
    """What to say of those that :func:`dependent_columns` found, or of constant ones that a penalty holds; "" of none.

    ``names (d,)`` stand for columns. Some objectives fix dependent coefficients at zero (``is_fixed``), others let them
    end anywhere.
    """
    remark = _collinearity_remark(dependent, is_fixed=is_fixed)
    if not remark and any(is_held):
        remark = _constant_remark(data, num_known)
    return with_names(remark, names) if names else remark


def _collinearity_remark(dependent: Tensor, *, is_fixed: bool) -> str:
    is_whole = dependent.ndim == 1
    columns = (dependent if is_whole else dependent.flatten(0, 1).any(0)).nonzero().squeeze(-1).tolist()
    if not columns:
        return ""
    if not is_whole:
        has_own = {"gate": bool(dependent[0].any()), "experts": bool(dependent[1:].any())}
        parts = [name for name, is_dependent in has_own.items() if is_dependent]
        end = "some of their coefficients are fixed at 0" if is_fixed else "the data do not determine all coefficients"
        readers = "gate reads" if parts == ["gate"] else f"{' and the '.join(parts)} read"
        return f"columns {columns} of x are constant or linear combinations of others that the {readers}; {end}"
    end = "their coefficients are fixed at 0" if is_fixed else "the data do not determine their coefficients"
    return f"columns {columns} of x are constant or linear combinations of others; {end}"


def _constant_remark(data: Data, num_known: int) -> str:
    x = data.x[..., : data.x.shape[-1] - num_known]
    columns = is_constant(x.std(1, correction=0), x).any(0).nonzero().squeeze(-1).tolist()
    return f"columns {columns} of x are constant; the penalty alone determines their coefficients" if columns else ""


def _reads_nothing(model: MixtureOfExperts) -> bool:
    """Whether neither gate nor experts have coefficients of covariates."""
    has_constant_experts = has_form(getattr(model.experts, "predictor", None), ConstantPredictor)
    return (
        has_constant_experts and has_form(model.gate.score, ConstantScore) and not model.gate.temperature.depends_on_x
    )


def _dependent(x: Tensor) -> Tensor:
    mean, _, constant, factor = spread(x)
    upper = triangle(x, mean, factor)
    diagonal = torch.zeros(x.shape[-1], dtype=x.dtype, device=x.device)
    diagonal[: len(upper)] = upper.diagonal().abs()
    return constant | (diagonal <= COLLINEAR * len(x) ** 0.5)
