r"""Residuals of any mixture with a scalar response: probability integral transforms and quantile residuals."""

import torch
from torch import Tensor

from ._validation import check_tensor
from .mixture import MixtureOfExperts

__all__ = ["probability_integral_transform", "quantile_residuals"]

_SMALLEST = 1e-16  # a probability nearer to 0 or 1 counts as this far: residuals stay within 8.3


@torch.no_grad()
def probability_integral_transform(
    model: MixtureOfExperts, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None
) -> Tensor:
    r"""Where each response stands in its distribution, :math:`u_i = F(y_i \mid x_i)`; uniform if the model is true.

    Where the distribution has an atom, as on counts, :math:`u_i` is drawn uniformly from :math:`[F(y_i-), F(y_i)]`,
    which makes it uniform again. Distributions say where they have atoms (:func:`mixkit.distributions.has_atom`).

    Args:
        model: a model of a scalar response.
        x: covariates ``(n, d)``.
        y: responses ``(n,)``, as the experts take them.
        generator: source of the draws, on the CPU; needed only for distributions with atoms.

    Returns:
        Float64, ``(n,)``, in [0, 1].

    Raises:
        TypeError: if ``y`` is no tensor of numbers.
        ValueError: if the response is a vector, ``y`` has another shape, is not finite or no response of the family, or
            there are atoms and no generator.

    Source: Dawid (1984), JRSS A 147, 278-292; with draws on atoms, Smith (1985), J. Forecasting 4, 283-291.

    Example:
        >>> import torch
        >>> from mixkit import MixtureOfExperts, constant_gate, linear_gaussian_experts
        >>> experts = linear_gaussian_experts(1, 1, generator=torch.Generator().manual_seed(0))
        >>> model = MixtureOfExperts(constant_gate(1), experts)
        >>> x = torch.ones(1, 1)
        >>> probability_integral_transform(model, x, model(x).mean)
        tensor([0.5000], dtype=torch.float64)
    """
    law = model(x)
    if law.event_shape:
        raise ValueError(f"model must have a scalar response, got event shape {tuple(law.event_shape)}")
    check_tensor("y", y, floating=False)
    if y.shape != law.batch_shape:
        raise ValueError(f"y must have shape {tuple(law.batch_shape)}, got {tuple(y.shape)}")
    y = model.experts.check_rows(x, y if y.is_floating_point() else y.to(torch.float64))
    upper, atoms = law.cdf(y).double(), law.has_atom(y)
    if not bool(atoms.any()):
        return upper
    if generator is None:
        raise ValueError("generator must be given for a distribution with atoms (counts), got None")
    lower = law.cdf(_just_below(y)).double()
    uniform = torch.rand(upper.shape, dtype=torch.float64, generator=generator).to(upper.device)
    return torch.where(atoms, lower + uniform * (upper - lower), upper)


def _just_below(y: Tensor) -> Tensor:
    return torch.nextafter(y, torch.full_like(y, -torch.inf))


def quantile_residuals(
    model: MixtureOfExperts, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None
) -> Tensor:
    r"""Residuals :math:`\Phi^{-1}(F(y_i \mid x_i))`, standard normal if the model is true, whatever its family.

    Arguments and errors are those of :func:`probability_integral_transform`; residuals are at most 8.3 in size.

    Source: Dunn and Smyth (1996), J. Computational and Graphical Statistics 5, 236-244.

    Example:
        >>> import torch
        >>> from mixkit import MixtureOfExperts, constant_gate, linear_gaussian_experts
        >>> experts = linear_gaussian_experts(1, 1, generator=torch.Generator().manual_seed(0))
        >>> model = MixtureOfExperts(constant_gate(1), experts)
        >>> x = torch.ones(1, 1)
        >>> quantile_residuals(model, x, model(x).mean + 2 * model(x).variance.sqrt())
        tensor([2.0000], dtype=torch.float64)
    """
    level = probability_integral_transform(model, x, y, generator=generator)
    return torch.special.ndtri(level.clamp(_SMALLEST, 1.0 - _SMALLEST))
