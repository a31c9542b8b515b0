"""Columns that others determine."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from mixkit.experts.predictors import ConstantPredictor
from mixkit.gates.scores import ConstantScore
from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import has_form

from .columns import with_names
from .dataset import Data
from .dependent_coefficients import dependent_coefficients, families_of, has_pattern
from .triangle import triangle

__all__ = ["CollinearityWarning", "collinearity_remark", "constant_remark", "dependent_columns"]

_LEAST_SPREAD = 1e-150
_COLLINEAR = 1e-9  # a standardized column whose part outside the others' span is smaller than this is dropped


class CollinearityWarning(UserWarning):
    """A covariate is constant, or a linear combination of others; the data do not determine its coefficients."""


def collinearity_remark(dependent: Tensor, *, is_fixed: bool = True) -> str:
    """What to say of covariates ``(d,)`` that :func:`dependent_columns` found; empty if there are none.

    Some objectives fix their coefficients at zero (``is_fixed``), others let them end anywhere.
    """
    is_whole = dependent.ndim == 1
    columns = (dependent if is_whole else dependent.flatten(0, 1).any(0)).nonzero().squeeze(-1).tolist()
    if not columns:
        return ""
    if not is_whole:
        has_own = {"gate": bool(dependent[0].any()), "experts": bool(dependent[1:].any())}
        parts = [name for name, is_dependent in has_own.items() if is_dependent]
        end = "some of their coefficients are fixed at 0" if is_fixed else "the data do not determine all coefficients"
        readers = " and the ".join(parts)
        return f"columns {columns} of x are constant or linear combinations of others that the {readers} read; {end}"
    end = "their coefficients are fixed at 0" if is_fixed else "the data do not determine their coefficients"
    return f"columns {columns} of x are constant or linear combinations of others; {end}"


def constant_remark(data: Data, num_known: int) -> str:
    """What to say of constant columns whose coefficients a penalty holds; empty if there are none."""
    x = data.x[..., : data.x.shape[-1] - num_known]
    columns = _is_constant(x.std(1, correction=0), x).any(0).nonzero().squeeze(-1).tolist()
    return f"columns {columns} of x are constant; the penalty alone determines their coefficients" if columns else ""


def _is_constant(std: Tensor, x: Tensor) -> Tensor:
    """Which columns of ``x (..., n, d)``, of standard deviations ``std (..., d)``, vary by rounding alone or not."""
    return std <= 1e-13 * torch.maximum(x.amax(-2), -x.amin(-2))


def dependent_columns(
    data: Data,
    *,
    model: MixtureOfExperts | None = None,
    num_known: int = 0,
    warn: bool = True,
    names: Sequence[str] | None = None,
    is_fixed: bool = True,
    is_held: tuple[bool, bool] = (False, False),
    stacklevel: int = 3,
) -> Tensor:
    """Covariates ``(d,)`` that are constant or a linear combination of earlier ones, in any data set; warns of them.

    The last ``num_known`` columns, an offset for example, have no coefficients and count as none of them. ``names
    (d,)`` and ``is_fixed`` are for the warning (see :func:`collinearity_remark`), whose place is ``stacklevel`` up.
    Of a ``model`` with a pattern of coefficients these are coefficients ``(1 + f, k, d)``, those of the gate and of
    each family of experts among the columns that it reads; so they are if ``is_held`` says that a penalty holds the
    slopes of the gate or of the experts, which are then no dependent ones.
    """
    d = data.x.shape[-1]
    dependent = torch.zeros(d, dtype=torch.bool, device=data.x.device)
    if model is not None and _reads_nothing(model):
        return dependent
    for index in range(len(data.x)):
        dependent[: d - num_known] |= _dependent(data.x[index, :, : d - num_known])
    if model is not None and has_pattern(model):
        dependent = dependent_coefficients(model, data.x[..., : d - num_known])
    if model is not None and any(is_held):
        count = len(families_of(model))
        parts = dependent.expand(1 + count, model.num_experts, -1) if dependent.ndim == 1 else dependent
        parts = parts[..., : d - num_known]
        held = torch.tensor([is_held[0], *[is_held[1]] * count], device=parts.device)
        dependent = parts & ~held[:, None, None]
    remark = collinearity_remark(dependent, is_fixed=is_fixed)
    if not remark and any(is_held):
        remark = constant_remark(data, num_known)
    if warn and remark:
        warnings.warn(with_names(remark, names) if names else remark, CollinearityWarning, stacklevel=stacklevel)
    return dependent


def _reads_nothing(model: MixtureOfExperts) -> bool:
    """Whether neither gate nor experts have coefficients of covariates."""
    is_constant = has_form(getattr(model.experts, "predictor", None), ConstantPredictor)
    return is_constant and has_form(model.gate.score, ConstantScore) and not model.gate.temperature.depends_on_x


def _dependent(x: Tensor) -> Tensor:
    std, mean = torch.std_mean(x, 0, correction=0)
    if not bool(torch.isfinite(std).all()):
        columns = (~torch.isfinite(std)).nonzero().squeeze(-1).tolist()
        raise ValueError(f"x must have squares that do not overflow, got columns {columns} too large; rescale them")
    lost = (std < _LEAST_SPREAD) & (x.amax(0) > x.amin(0))
    if bool(lost.any()):
        columns = lost.nonzero().squeeze(-1).tolist()
        raise ValueError(f"x must have squares that do not underflow, got columns {columns} too small; rescale them")
    constant = _is_constant(std, x)
    upper = triangle(x, mean, torch.where(constant, 0.0, 1.0 / torch.where(constant, 1.0, std)))
    diagonal = torch.zeros(x.shape[-1], dtype=x.dtype, device=x.device)
    diagonal[: len(upper)] = upper.diagonal().abs()
    return constant | (diagonal <= _COLLINEAR * len(x) ** 0.5)
