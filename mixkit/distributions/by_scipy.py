"""SciPy's functions of tensors, in float64, outside autograd's graph."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["by_scipy", "double_array"]


def by_scipy(function: Callable[..., Any], *arguments: Tensor) -> Tensor:
    """An elementwise function of arrays at tensors, in the widest of their dtypes on the device of the first.

    Example:
        >>> import scipy.special
        >>> by_scipy(scipy.special.gammainc, torch.tensor(1.0), torch.tensor(2.0))
        tensor(0.8647)
    """
    dtype = arguments[0].dtype
    for argument in arguments[1:]:
        dtype = torch.promote_types(dtype, argument.dtype)
    with np.errstate(all="ignore"):
        result = function(*(double_array(argument) for argument in arguments))
    return torch.as_tensor(result, dtype=dtype, device=arguments[0].device)


def double_array(value: Tensor) -> np.ndarray:
    """The numbers of a tensor in an array of float64, without its gradient.

    Example:
        >>> double_array(torch.tensor(0.5)).dtype
        dtype('float64')
    """
    return value.detach().cpu().double().numpy()
