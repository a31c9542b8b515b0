"""Which experts a model may exchange, and models with their experts in another order."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .collect import module_records
from .patterned import Patterned
from .record import Axis

__all__ = ["alike_experts", "distinct_orders", "patterned_parts", "reorder_experts"]


def patterned_parts(model: nn.Module) -> list[tuple[str, Patterned]]:
    """The parts of a model with a pattern of coefficients, with their names in it."""
    return [(n, part) for n, part in model.named_modules() if isinstance(part, Patterned) and part.pattern is not None]


def alike_experts(model: nn.Module, num_experts: int) -> Tensor:
    """Pairs of experts whose exchange leaves the patterns of all parts as they are, ``(k, k)`` bool.

    Experts fall into classes of such; without patterns all are alike. A part with fewer experts, a family among others,
    counts where it has them all.

    Example:
        >>> from mixkit.experts.predictors import LinearPredictor
        >>> from mixkit.parameters import CoefficientPattern
        >>> pattern = CoefficientPattern.of(3, 1, absent={2: [0]})
        >>> alike_experts(LinearPredictor(1, 3, pattern=pattern), 3)
        tensor([[ True,  True, False],
                [ True,  True, False],
                [False, False,  True]])
    """
    alike = torch.ones((num_experts, num_experts), dtype=torch.bool)
    patterns = [part.pattern for _, part in patterned_parts(model)]
    for pattern in patterns:
        if pattern is None or pattern.num_experts != num_experts:
            continue
        for i, j in itertools.combinations(range(num_experts), 2):
            order = list(range(num_experts))
            order[i], order[j] = j, i
            if not pattern.is_same_in(order):
                alike[i, j] = alike[j, i] = False
    return alike


def distinct_orders(model: nn.Module, num_experts: int) -> list[list[int]]:
    """Orders of the experts of which no two are the same but for experts that are alike, the present one first.

    One where all experts are alike. All orders are listed, so this is for few experts.

    Example:
        >>> from mixkit.experts.predictors import LinearPredictor
        >>> from mixkit.parameters import CoefficientPattern
        >>> pattern = CoefficientPattern.of(3, 1, absent={2: [0]})
        >>> distinct_orders(LinearPredictor(1, 3, pattern=pattern), 3)
        [[0, 1, 2], [0, 2, 1], [1, 2, 0]]
    """
    alike = alike_experts(model, num_experts)
    if bool(alike.all()):
        return [list(range(num_experts))]
    label = alike.to(torch.int8).argmax(-1).tolist()  # of each place its class, by the first expert in it
    found: dict[tuple[tuple[int, ...], ...], list[int]] = {}
    for order in itertools.permutations(range(num_experts)):
        members = tuple(tuple(sorted(e for e, c in zip(order, label, strict=True) if c == own)) for own in set(label))
        found.setdefault(members, list(order))
    return list(found.values())


@torch.no_grad()
def reorder_experts(model: nn.Module, order: Sequence[int]) -> None:
    """Put the experts of an unbatched model in another order, in place; what has no dimension of experts stays.

    A parameter counts experts if its first dimension has as many, and its record says that this counts experts or says
    nothing of it. Where a pattern does not allow the order, the model is another one afterwards.
    """
    rows = torch.as_tensor(order)
    parts = patterned_parts(model)
    names = {f"{prefix}.free_{name}".lstrip(".") for prefix, part in parts for name in part.coefficient_names}
    for _, part in parts:
        for name in part.coefficient_names:
            free = getattr(part, f"free_{name}")
            if part.pattern is not None and part.pattern.num_experts == len(rows):
                full = getattr(part, name)
                free.copy_(part.read_coefficients(name, full[rows.to(full.device)]))
    axes = {record.name: record.axes for record in module_records(model)}
    for name, parameter in model.named_parameters():
        may_count_experts = axes[name][:1] in ((), (Axis.EXPERT,))
        if name not in names and may_count_experts and parameter.ndim and len(parameter) == len(rows):
            parameter.copy_(parameter[rows.to(parameter.device)].clone())
