"""What estimators accept as data: checked, float64, with leading data sets."""

import re
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mixkit._validation import check_finite
from mixkit.mixture import MixtureOfExperts

__all__ = [
    "CollinearityWarning",
    "Data",
    "as_data",
    "collinearity_remark",
    "column_names",
    "dependent_columns",
    "numeric_tensor",
    "ordered_covariates",
    "renamed",
    "shared_tensor",
    "with_names",
]

_ROWS_AT_ONCE = 2**16
_COLLINEAR = 1e-9  # a standardised column whose part outside the others' span is smaller than this is dropped


class CollinearityWarning(UserWarning):
    """A covariate is constant, or a linear combination of others; the data do not determine its coefficients."""


class Data(NamedTuple):
    """Observations of ``r`` data sets: ``x (r, n, d)``, ``y (r, n)`` or ``(r, n, p)``, ``weight (r, n)`` or None."""

    x: Tensor
    y: Tensor
    weight: Tensor | None

    def take(self, rows: Tensor) -> "Data":
        """The same rows of every data set."""
        weight = None if self.weight is None else self.weight[:, rows]
        return Data(self.x[:, rows], self.y[:, rows], weight)

    def positive_rows(self) -> Tensor | None:
        """Positions of the rows whose weight is positive in some data set; None if that is all of them."""
        is_positive = None if self.weight is None else (self.weight > 0).any(0)
        return None if is_positive is None or bool(is_positive.all()) else is_positive.nonzero().squeeze(-1)


def numeric_tensor(name: str, value: Any) -> Tensor:
    """A float64 tensor of what ``np.asarray`` takes; ``TypeError`` or ``ValueError`` unless finite and real."""
    array = value if isinstance(value, Tensor) else _array(name, value)
    try:
        tensor = array if isinstance(array, Tensor) else shared_tensor(array)
    except TypeError as error:
        raise TypeError(f"{name} must be numeric, got {type(value).__name__}") from error
    if tensor.is_complex():
        raise ValueError(f"{name} must be real, got {tensor.dtype}")
    tensor = tensor.detach().to(torch.float64)
    if not bool(torch.isfinite(tensor.sum())):  # one pass without a copy; the sum may overflow, so look again
        check_finite(name, tensor)
    return tensor


def _array(name: str, value: Any) -> np.ndarray:
    """What ``np.asarray`` makes of a value; a frame of numbers and truth values as float64."""
    if not hasattr(value, "dtypes") or not hasattr(value, "columns"):
        return np.asarray(value)
    other = [str(column) for column, kind in value.dtypes.items() if getattr(kind, "kind", "O") not in "biuf"]
    if other:
        raise TypeError(f"{name} must be numeric, got columns {other} of other kinds; encode or drop them")
    return np.asarray(value.to_numpy(dtype=np.float64))


def shared_tensor(array: np.ndarray) -> Tensor:
    """A tensor on the memory of an array, which may be a file that is only read; estimators never write to data.

    Arrays that torch cannot share are copied: reversed ones, parts of records, other byte orders.

    Raises:
        TypeError: if the array holds no numbers.

    Example:
        >>> import numpy as np
        >>> shared_tensor(np.arange(3.0)[::-1])
        tensor([2., 1., 0.], dtype=torch.float64)
    """
    size = max(array.dtype.itemsize, 1)
    if not array.dtype.isnative or any(stride < 0 or stride % size for stride in array.strides):
        array = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return torch.as_tensor(array)


def as_data(model: MixtureOfExperts, x: Any, y: Any, sample_weight: Any, *, is_batch: bool) -> Data:
    """Check data against each other and the model.

    Raises:
        TypeError: if an argument is not numeric.
        ValueError: if shapes disagree, an entry is NaN or infinite, there are fewer observations (of positive weight)
            than experts, a weight is negative or none is positive, or y is no response of the model's family.
    """
    x, y = numeric_tensor("x", x), numeric_tensor("y", y)
    if not is_batch:
        x, y = x.unsqueeze(0), y.unsqueeze(0)
    if x.ndim != 3:
        raise ValueError(
            f"x must have shape {'(r, n, d)' if is_batch else '(n, d)'}, got {tuple(x.shape[1 - is_batch :])}"
        )
    if y.shape[:2] != x.shape[:2]:
        raise ValueError(f"y must have one row for each of the {x.shape[1]} rows of x, got shape {tuple(y.shape[1:])}")
    if x.shape[1] < model.num_experts:
        raise ValueError(f"x must have at least as many rows as experts, {model.num_experts}, got {x.shape[1]}")
    if x.shape[2] == 0:
        raise ValueError("x must have at least one covariate, got none")
    _check_model(model, x.shape[2])
    model.experts.check_response(y)
    if y.ndim > 2 and len(model.experts(x[:, :1].to(_dtype(model))).event_shape) == 0:
        raise ValueError(f"y must have shape (n,) for experts of a scalar response, got {tuple(y.shape[1:])}")
    return Data(x, y, _weights(sample_weight, x, is_batch, model.num_experts))


def _check_model(model: MixtureOfExperts, d: int) -> None:
    bias = model.gate.score.bias
    if bias is not None and bias.ndim > 1:
        raise ValueError(
            f"model must be a single one, got a batch of shape {tuple(bias.shape[:-1])}; build it without batch_shape"
        )
    for part in (model.gate.score, getattr(model.experts, "predictor", None)):
        expected = getattr(part, "num_features", None)
        if expected is not None and model.has_offset:
            expected += 1  # the offset, last
        if expected is not None and expected != d:
            raise ValueError(
                f"x must have the {expected} covariates of the model's {type(part).__name__}, got {d} columns"
            )


def _dtype(model: MixtureOfExperts) -> torch.dtype:
    return next(model.parameters()).dtype


def _weights(sample_weight: Any, x: Tensor, is_batch: bool, least: int) -> Tensor | None:
    if sample_weight is None:
        return None
    weight = numeric_tensor("sample_weight", sample_weight)
    weight = weight if is_batch else weight.unsqueeze(0)
    if weight.shape != x.shape[:2]:
        raise ValueError(
            f"sample_weight must have one entry a row of x, {x.shape[1]}, got shape {tuple(weight.shape[1:])}"
        )
    if not bool((weight >= 0).all()) or not bool((weight.sum(-1) > 0).all()):
        lowest, total = float(weight.min()), float(weight.sum(-1).min())
        raise ValueError(
            f"sample_weight must be non-negative with a positive sum, got a least of {lowest:g} and a sum of {total:g}"
        )
    positive = int((weight > 0).sum(-1).min())
    if positive < least:
        raise ValueError(f"sample_weight must be positive for as many rows as experts, {least}, got {positive}")
    return weight


def column_names(x: Any) -> list[str] | None:
    """Names of a frame's columns, if they are strings; None for arrays."""
    names = list(getattr(x, "columns", []))
    return names if names and all(isinstance(name, str) for name in names) else None


def ordered_covariates(x: Any, names: Sequence[str] | None) -> Tensor:
    """``x`` as a tensor, the columns of a frame in the order of ``names (d,)``, those of the fit; others as they are.

    Raises:
        TypeError: if ``x`` is not numeric.
        ValueError: if it is not finite, or a frame of columns of other names.
    """
    own = column_names(x)
    if own is None or names is None or own == list(names):
        return numeric_tensor("x", x)
    missing, unknown = sorted(set(names) - set(own)), sorted(set(own) - set(names))
    if missing or unknown or len(own) != len(names):
        received = f"got none of {missing}, and {unknown} beside"
        raise ValueError(f"x must have the columns of the fit, {list(names)}, {received}")
    return numeric_tensor("x", x)[:, [own.index(name) for name in names]]


def renamed(text: str, old: Sequence[str], new: Sequence[str]) -> str:
    """``text`` on parameters with ``new (d,)`` names of covariates in place of the ``old (d,)`` ones."""
    name_of = dict(zip(old, new, strict=True))
    either = "|".join(re.escape(name) for name in sorted(old, key=len, reverse=True))
    return re.sub(rf",({either})\]", lambda match: f",{name_of[match[1]]}]", text)


def with_names(text: str, names: Sequence[str]) -> str:
    """``text`` on parameters or columns with ``names`` in place of x0, x1, ... and of the columns' numbers."""
    text = re.sub(r",x(\d+)\]", lambda match: f",{names[int(match[1])]}]", text)
    return re.sub(
        r"^columns \[(\d[\d, ]*)\]", lambda match: f"columns {[str(names[int(i)]) for i in match[1].split(',')]}", text
    )


def collinearity_remark(dependent: Tensor, *, is_fixed: bool = True) -> str:
    """What to say of covariates ``(d,)`` that :func:`dependent_columns` found; empty if there are none.

    Some objectives fix their coefficients at zero (``is_fixed``), others let them end anywhere.
    """
    columns = dependent.nonzero().squeeze(-1).tolist()
    if not columns:
        return ""
    end = "their coefficients are fixed at 0" if is_fixed else "the data do not determine their coefficients"
    return f"columns {columns} of x are constant or linear combinations of others; {end}"


def dependent_columns(
    data: Data,
    *,
    has_offset: bool = False,
    warn: bool = True,
    names: Sequence[str] | None = None,
    is_fixed: bool = True,
) -> Tensor:
    """Covariates ``(d,)`` that are constant or a linear combination of earlier ones, in any data set; warns of them.

    An offset, the last column, has no coefficient and counts as none of them. ``names (d,)`` and ``is_fixed`` are
    for the warning (see :func:`collinearity_remark`).
    """
    d = data.x.shape[-1]
    dependent = torch.zeros(d, dtype=torch.bool, device=data.x.device)
    for index in range(len(data.x)):
        dependent[: d - has_offset] |= _dependent(data.x[index, :, : d - has_offset])
    if warn and bool(dependent.any()):
        remark = collinearity_remark(dependent, is_fixed=is_fixed)
        warnings.warn(with_names(remark, names) if names else remark, CollinearityWarning, stacklevel=3)
    return dependent


def _dependent(x: Tensor) -> Tensor:
    std, mean = torch.std_mean(x, 0, correction=0)
    if not bool(torch.isfinite(std).all()):
        columns = (~torch.isfinite(std)).nonzero().squeeze(-1).tolist()
        raise ValueError(f"x must have squares that do not overflow, got columns {columns} too large; rescale them")
    constant = std <= 1e-13 * torch.maximum(x.amax(0), -x.amin(0))
    upper = _triangle(x, mean, torch.where(constant, 0.0, 1.0 / torch.where(constant, 1.0, std)))
    diagonal = torch.zeros(x.shape[-1], dtype=x.dtype, device=x.device)
    diagonal[: len(upper)] = upper.diagonal().abs()
    return constant | (diagonal <= _COLLINEAR * len(x) ** 0.5)


def _triangle(x: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """The triangular factor of ``(x - mean) * factor``, by QR of one block of rows after another."""
    upper = x[:0]
    for rows in x.split(_ROWS_AT_ONCE):
        _, upper = torch.linalg.qr(torch.cat([upper, (rows - mean) * factor]), mode="r")
    return upper
