"""L-BFGS, for objectives without a Hessian."""

from collections.abc import Callable

import numpy as np
import scipy.optimize
import torch
from torch import Tensor

__all__ = ["maximize"]


_REFUSED = 1e300  # the negative log-likelihood L-BFGS sees where there is none


def maximize(function: Callable[[Tensor], Tensor], start: Tensor, lower: Tensor, max_iter: int) -> Tensor:
    """SciPy's L-BFGS-B from ``start (P,)``, with gradients by autograd; never ends below the start."""

    def negative(values: np.ndarray) -> tuple[float, np.ndarray]:
        leaf = torch.as_tensor(values, dtype=start.dtype, device=start.device).requires_grad_()
        try:
            value = function(leaf)
        except ValueError:  # the gate refuses scores that overflow: a step too long
            return _REFUSED, np.zeros_like(values)
        (gradient,) = torch.autograd.grad(value, leaf)
        if not bool(torch.isfinite(value)):
            return _REFUSED, np.zeros_like(values)
        return -float(value.detach()), -gradient.cpu().numpy().astype(float)

    first = start.detach().cpu().numpy().astype(float)
    bounds = None if bool(torch.isinf(lower).all()) else [(b if np.isfinite(b) else None, None) for b in lower.tolist()]
    result = scipy.optimize.minimize(
        negative, first, jac=True, method="L-BFGS-B", bounds=bounds,
        options={"maxiter": max_iter, "maxfun": 3 * max_iter, "ftol": 0.0, "gtol": 1e-10},
    )  # fmt: skip
    better = result.fun <= negative(first)[0]
    return torch.as_tensor(result.x if better else first, dtype=start.dtype, device=start.device)
