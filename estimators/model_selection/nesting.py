"""A fit of k - 1 experts as a point of the model with k: one expert appears twice, its weight halved."""

import copy
import math

import torch
from torch import Tensor

from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import Patterned, patterned_parts

__all__ = ["duplicate_expert"]


@torch.no_grad()
def duplicate_expert(smaller: MixtureOfExperts, larger: MixtureOfExperts, expert: int) -> MixtureOfExperts | None:
    r"""A copy of ``larger`` with the distribution of ``smaller``: expert ``j`` stands twice, last and in its place.

    For a dense gate with softmax the distribution is the same: both halves get the bias
    :math:`\beta_{0j} - \tau \log 2`. For other gates it is near. Tensors of the two models are matched by name; where
    their shapes differ, the dimension that grew by one is the experts'.

    Args:
        smaller: a fitted mixture of k - 1 experts.
        larger: a mixture of k experts of the same form; not changed.
        expert: which expert to duplicate, from 0 to k - 2.

    Returns:
        The copy, in float64, or None where the tensors of the two models do not match, patterns of coefficients have no
        room for the expert twice, or the gate has no bias.

    Example:
        >>> import torch
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> def build(k):
        ...     settings = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(k)}
        ...     return MixtureOfExperts(softmax_gate(1, k, **settings), linear_gaussian_experts(1, k, **settings))
        >>> small, x, y = build(2), torch.zeros(1, 1).double(), torch.zeros(1).double()
        >>> bool(torch.isclose(duplicate_expert(small, build(3), 0).log_prob(x, y), small.log_prob(x, y)))
        True
    """
    nested = copy.deepcopy(larger).to(torch.float64)
    source = {**dict(smaller.named_parameters()), **dict(smaller.named_buffers())}
    inside = tuple(f"{name}." for name, _ in patterned_parts(nested))
    for name, target in [*nested.named_parameters(), *nested.named_buffers()]:
        grown = None if name.startswith(inside) else _grown(source.get(name), target, expert)
        if grown is None and not name.startswith(inside):
            return None
        if grown is not None:
            target.copy_(grown)
    follows = all(_grow_patterned(smaller, name, part, expert) for name, part in patterned_parts(nested))
    return nested if follows and _halve(nested, expert) else None


def _grow_patterned(smaller: MixtureOfExperts, name: str, part: Patterned, expert: int) -> bool:
    """Set the free coefficients of a part of the larger model, if its pattern has room for the expert twice."""
    source = smaller.get_submodule(name)
    for own in part.coefficient_names:
        grown = _grown(getattr(source, own, None), getattr(part, own), expert)
        if grown is None or not part.set_coefficients(own, grown):
            return False
    return True


def _grown(source: Tensor | None, target: Tensor, expert: int) -> Tensor | None:
    """The source with its entry ``expert`` repeated at the end of the one dimension in which the target is longer."""
    if source is None or source.ndim != target.ndim:
        return None
    longer = [dim for dim in range(target.ndim) if target.shape[dim] == source.shape[dim] + 1]
    if len(longer) == 1:
        source = torch.cat([source, source.narrow(longer[0], expert, 1)], longer[0])
    return source if source.shape == target.shape else None


def _halve(model: MixtureOfExperts, expert: int) -> bool:
    """Halve the weights of an expert and of the last one, where the score has a bias and the temperature is one."""
    bias, temperature = model.gate.score.bias, model.gate.temperature
    if bias is None or temperature.depends_on_x:
        return False
    half = math.log(2.0) * float(temperature(bias.new_zeros(1, 1)).squeeze())
    if isinstance(model.gate.score, Patterned) and model.gate.score.pattern is not None:
        halved = bias.clone()
        halved[..., [expert, -1]] -= half
        return model.gate.score.set_coefficients("bias", halved)
    bias[..., [expert, -1]] -= half
    return True
