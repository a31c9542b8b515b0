"""Covariances of estimates, honest about what the data do not determine."""

import warnings

import torch
from torch import Tensor

__all__ = [
    "SingularInformationWarning",
    "clustered",
    "inverse_information",
    "propagate",
    "propagate_variances",
    "sandwich",
    "warn_undetermined",
]

_SINGULAR = 1e-10  # eigenvalues of the unit-diagonal information below this are taken as zero
_NEGLIGIBLE = 1e-12  # a derivative smaller than this share of a function's largest one is taken as zero
_INVOLVED = 1e-2  # a parameter with more than this of a null direction in it has no standard error


class SingularInformationWarning(UserWarning):
    """The observed information is singular: some parameters have no standard error."""


def inverse_information(hessian: Tensor, at_bound: Tensor) -> Tensor:
    """The inverse of the observed information ``-hessian``, NaN where a parameter is not determined.

    Args:
        hessian: of the log-likelihood at its maximum, ``(P, P)``.
        at_bound: parameters held at a bound, ``(P,)`` bool; they have no standard error either.

    Returns:
        ``(P, P)``; the rows and columns of held parameters, and of those in a direction in which the likelihood is flat
        (or still rises), are NaN.

    Example:
        >>> import torch
        >>> inverse_information(torch.tensor([[-4.0, 0.0], [0.0, 0.0]]), torch.tensor([False, False]))
        tensor([[0.2500,    nan],
                [   nan,    nan]])
    """
    inverse, undetermined = _regular_inverse(-hessian, at_bound)
    return _masked(inverse, undetermined)


def sandwich(hessian: Tensor, at_bound: Tensor, scores: Tensor) -> Tensor:
    r"""The covariance :math:`H^{-1} (\sum_i s_i s_i^\top) H^{-1}`, right under misspecification too.

    Args:
        hessian: H of the log-likelihood at its maximum, ``(P, P)``.
        at_bound: parameters held at a bound, ``(P,)`` bool.
        scores: gradient of each observation's log-likelihood times its weight, ``(n, P)``.

    Returns:
        ``(P, P)``; NaN where :func:`inverse_information` is.

    Source: Huber (1967), Proc. 5th Berkeley Symposium 1, 221-233; White (1982), Econometrica 50, 1-25, theorem 3.2.

    Example:
        >>> import torch
        >>> y = torch.tensor([0.0, 1.0, 5.0])  # its mean by normal likelihood of variance one
        >>> scores = (y - y.mean()).unsqueeze(-1)
        >>> sandwich(torch.tensor([[-3.0]]), torch.tensor([False]), scores)  # sum of squares over n squared
        tensor([[1.5556]])
    """
    inverse, undetermined = _regular_inverse(-hessian, at_bound)
    rows = scores @ inverse
    return _masked(rows.mT @ rows, undetermined)


def clustered(hessian: Tensor, at_bound: Tensor, scores: Tensor, clusters: Tensor) -> Tensor:
    r"""The sandwich of G clusters, :math:`\frac{G}{G - 1} H^{-1} (\sum_c s_c s_c^\top) H^{-1}`, s_c sums of scores.

    Right where clusters are independent and many, however the observations in one depend.

    Args:
        hessian: H of the log-likelihood at its maximum, ``(P, P)``.
        at_bound: parameters held at a bound, ``(P,)`` bool.
        scores: gradient of each observation's log-likelihood times its weight, ``(n, P)``.
        clusters: the cluster of each observation, ``(n,)``, from 0 to G - 1.

    Returns:
        ``(P, P)``; NaN where :func:`inverse_information` is.

    Raises:
        ValueError: if there is one cluster alone.

    Source: Liang and Zeger (1986), Biometrika 73, 13-22; the factor is that of Cameron and Miller (2015), Journal of
    Human Resources 50, 317-372, section II.B, without the one for the number of regressors.

    Example:
        >>> import torch
        >>> y = torch.tensor([0.0, 1.0, 5.0, 6.0])  # its mean by normal likelihood of variance one
        >>> scores, pairs = (y - y.mean()).unsqueeze(-1), torch.tensor([0, 0, 1, 1])
        >>> clustered(torch.tensor([[-4.0]]), torch.tensor([False]), scores, pairs)  # as of two means, 0.5 and 5.5
        tensor([[6.2500]])
    """
    count = int(clusters.max()) + 1
    if count < 2:
        raise ValueError("groups must be two or more, got one")
    sums = scores.new_zeros((count, scores.shape[1])).index_add(0, clusters, scores)
    return count / (count - 1) * sandwich(hessian, at_bound, sums)


def _masked(covariance: Tensor, undetermined: Tensor) -> Tensor:
    return covariance.masked_fill(undetermined.unsqueeze(-1) | undetermined, torch.nan)


def _regular_inverse(information: Tensor, at_bound: Tensor) -> tuple[Tensor, Tensor]:
    """The inverse on the directions with information, zero on the others; and which parameters those others involve."""
    inverse, undetermined = torch.zeros_like(information), at_bound.clone()
    free = (~at_bound).nonzero().squeeze(-1)
    if not len(free):
        return inverse, undetermined
    matrix = information[free][:, free]
    size = matrix.diagonal().clamp(min=0.0)
    tiny = size <= 1e-12 * size.max().clamp(min=torch.finfo(matrix.dtype).tiny)
    scale = torch.where(tiny, size.max().clamp(min=1e-300), size).sqrt()
    values, vectors = torch.linalg.eigh(matrix / scale.unsqueeze(-1) / scale)
    null = values < _SINGULAR
    undetermined[free] = (vectors[:, null].abs() > _INVOLVED).any(-1) | tiny
    regular = vectors[:, ~null]
    inverse[free.unsqueeze(-1), free] = (regular / values[~null]) @ regular.mT / scale.unsqueeze(-1) / scale
    return inverse, undetermined


def propagate(jacobian: Tensor, covariance: Tensor) -> Tensor:
    """The delta method ``J C J'`` where C may be NaN: only what depends on an undetermined parameter becomes NaN.

    A derivative below 1e-12 of a function's largest one counts as none: where a gate has left a border far behind, its
    derivatives are not zero, but 1e-100.

    Args:
        jacobian: derivatives of m functions in P parameters, ``(m, P)``.
        covariance: of the parameters, ``(P, P)``.

    Returns:
        ``(m, m)``.

    Example:
        >>> import torch
        >>> covariance = torch.tensor([[4.0, torch.nan], [torch.nan, torch.nan]])
        >>> propagate(torch.tensor([[0.5, 0.0], [1.0, 1.0]]), covariance)
        tensor([[1., nan],
                [nan, nan]])
    """
    mapped = jacobian @ covariance.nan_to_num(0.0) @ jacobian.mT
    return _masked(mapped, _is_lost(jacobian, covariance))


def propagate_variances(jacobian: Tensor, covariance: Tensor) -> Tensor:
    """The diagonal of :func:`propagate`, without the rest."""
    variances = ((jacobian @ covariance.nan_to_num(0.0)) * jacobian).sum(-1)
    return variances.masked_fill(_is_lost(jacobian, covariance), torch.nan)


def _is_lost(jacobian: Tensor, covariance: Tensor) -> Tensor:
    """Which functions depend on a parameter without a variance, by more than rounding."""
    size = jacobian.abs()
    depends = size > _NEGLIGIBLE * size.amax(-1, keepdim=True)
    return (depends & covariance.diagonal().isnan()).any(-1)


def warn_undetermined(names: list[str]) -> None:
    """Say which parameters have no standard error."""
    if names:
        shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
        warnings.warn(
            f"the observed information is singular (or a variance is at its floor): no standard error for {shown}",
            SingularInformationWarning,
            stacklevel=4,
        )
