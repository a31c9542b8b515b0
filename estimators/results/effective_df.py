"""How many parameters a penalized fit has in effect."""

from .maximum import Maximum

__all__ = ["effective_df"]


def effective_df(maximum: Maximum) -> float:
    r"""Effective degrees of freedom :math:`\mathrm{tr}((-H + Q)^{-1} (-H))`, to first order.

    H is the Hessian of the log-likelihood and Q that of the penalty, both at the estimate, over the coefficients that
    the lasso has not set to zero. Without a penalty it is the number P of free parameters; a ridge takes it down to
    the number of those that are not penalized as it grows; for the lasso, whose Q is zero, it is the number of
    coefficients left.

    Args:
        maximum: where the fit ended, with its data: ``result.maximum``.

    Returns:
        From 0 to P for penalties that are convex at the estimate; P where no Hessian was computed.

    Raises:
        DataRemovedError: after ``remove_data``.

    Source: Hastie, Tibshirani and Friedman (2009), The Elements of Statistical Learning, sections 3.4.1 and 7.6, for
    the ridge; Zou, Hastie and Tibshirani (2007), Annals of Statistics 35, 2173-2192, for the lasso.

    Example:
        >>> import torch
        >>> from estimators import EM
        >>> from estimators.penalties import Ridge
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> from mixkit.datasets import load_tone
        >>> g = torch.Generator().manual_seed(0)
        >>> model = MixtureOfExperts(softmax_gate(1, 2, generator=g), linear_gaussian_experts(1, 2, generator=g))
        >>> fits = [EM(random_state=0, penalty=penalty).fit(model, *load_tone()) for penalty in (None, Ridge(10.0))]
        >>> [round(effective_df(fit.maximum), 1) for fit in fits]
        [8.0, 7.8]
    """
    size = len(maximum.theta)
    theta, base = maximum.objective.unwrapped(maximum.theta[None, None])
    if base is maximum.objective or not maximum.hessian.numel():
        return float(size)
    penalty = base.evaluate(theta).hessian[0, 0] - maximum.hessian
    taken = (maximum.covariance("observed").nan_to_num(0.0) * penalty).sum()
    return size - int(maximum.objective.is_zeroed.sum()) - float(taken)
