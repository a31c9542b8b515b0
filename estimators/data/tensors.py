"""Numbers in any container as tensors."""

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixkit._validation import check_finite

__all__ = ["check_not_masked", "numeric_tensor", "shared_tensor"]


def numeric_tensor(name: str, value: Any) -> Tensor:
    """A float64 tensor of what ``np.asarray`` takes, on the device of a tensor.

    Raises:
        TypeError: if ``value`` holds no numbers, is masked, or is a tensor that is sparse or without data.
        ValueError: unless it is finite and real.
    """
    array = value if isinstance(value, Tensor) else _array(name, value)
    tensor = _dense(name, array) if isinstance(array, Tensor) else shared_tensor(array)
    if tensor.is_complex():
        raise ValueError(f"{name} must be real, got {tensor.dtype}")
    tensor = tensor.detach().to(torch.float64).contiguous()  # sums in one order, whatever the container's
    if not bool(torch.isfinite(tensor.sum())):  # one pass without a copy; the sum may overflow, so look again
        check_finite(name, tensor)
    return tensor


def _array(name: str, value: Any) -> np.ndarray:
    """What ``np.asarray`` makes of a value, checked to be numbers; a frame of numbers and truth values as float64."""
    check_not_masked(name, value)
    if not hasattr(value, "dtypes") or not hasattr(value, "columns"):
        return _numbers(name, value)
    other = [str(column) for column, kind in value.dtypes.items() if getattr(kind, "kind", "O") not in "biuf"]
    if other:
        raise TypeError(f"{name} must be numeric, got columns {other} of other kinds; encode or drop them")
    return np.asarray(value.to_numpy(dtype=np.float64))


def check_not_masked(name: str, value: Any) -> None:
    """Raise ``TypeError`` for a masked array, whose mask no conversion would keep."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(
            f"{name} must have no mask, got a masked array with {np.ma.count_masked(value)} masked entries; drop their "
            "rows, and give its data"
        )


def _numbers(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
        if array.dtype.kind == "O":
            array = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} must be numeric, got {_described(value)}: {error}") from error
    is_encoded = getattr(getattr(value, "dtype", None), "kind", array.dtype.kind) == "O"  # categories, for example
    if array.dtype.kind not in "biufc" or (is_encoded and not isinstance(value, np.ndarray)):
        raise TypeError(f"{name} must be numeric, got {_described(value)}")
    return array


def _described(value: Any) -> str:
    dtype = getattr(value, "dtype", None)
    return type(value).__name__ if dtype is None else f"{type(value).__name__} of dtype {dtype}"


def _dense(name: str, tensor: Tensor) -> Tensor:
    if tensor.layout is not torch.strided or tensor.is_meta:
        kind = "the meta device" if tensor.is_meta else f"layout {tensor.layout}"
        raise TypeError(f"{name} must be a dense tensor with data, got one of {kind}")
    return tensor


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
