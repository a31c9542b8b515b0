"""Numbers in any container as tensors."""

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixkit._validation import check_finite

__all__ = ["numeric_tensor", "shared_tensor"]


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
