"""Which expert is which: the posterior is the same under every permutation, so each draw needs names for them."""

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from mixkit.parameters import alike_experts

from .model import BayesianMixtureOfExperts

__all__ = [
    "Labeling",
    "NearestLabels",
    "SortedLabels",
    "Unlabeled",
    "folding",
    "in_order",
    "is_exchangeable",
    "labeling",
    "permute",
]

_TOL = 1e-9
_MOST_LISTED = 5  # with more experts the nearest permutation is found draw by draw, not among all k!

Draws = Mapping[str, Tensor]


def permute(bayes: BayesianMixtureOfExperts, draws: Draws, order: Tensor) -> dict[str, Tensor]:
    """Experts of each draw in a new order.

    Args:
        bayes: whose parameters have a first dimension of experts, unless they are shared.
        draws: parameters by name, ``(s, *shape)``.
        order: for each draw which expert comes first, second, ...: ``(s, k)``.
    """
    k = bayes.model.num_experts
    rows = torch.arange(len(order), device=order.device).unsqueeze(-1)
    found = {}
    for name, value in draws.items():
        block = bayes.records[name].pattern
        if block is not None and block.num_experts == k:
            found[name] = block.permuted(value, order)
        else:
            found[name] = value[rows, order] if bayes.shapes[name][:1] == (k,) and block is None else value
    return found


def is_exchangeable(
    bayes: BayesianMixtureOfExperts, vector: Tensor, orders: Sequence[Sequence[int]] | None = None
) -> bool:
    """Whether permuting the experts leaves prior and likelihood as they are: not where a prior or a network names them.

    Checked at one point near ``vector (P,)``, with some ``orders`` of the experts, by default two that generate all.
    """
    k = bayes.model.num_experts
    noise = torch.randn((2, len(vector)), generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(vector)
    draw = bayes.parameters(vector * (1.0 + 0.1 * noise[:1]) + 0.01 * noise[1:])
    cycle, swap = torch.arange(k).roll(1), torch.arange(k)
    swap[:2] = swap[:2].flip(0)
    here = _densities(bayes, draw)
    for order in (cycle, swap) if orders is None else torch.as_tensor(orders):
        there = _densities(bayes, permute(bayes, draw, order.unsqueeze(0).to(vector.device)))
        if not torch.allclose(here, there, rtol=_TOL, atol=_TOL):
            return False
    return True


def _densities(bayes: BayesianMixtureOfExperts, draw: Draws) -> Tensor:
    """Log prior, then the log-density of every observation."""
    parameters = {name: value[0] for name, value in draw.items()}
    terms = bayes.law(parameters, bayes.x).log_prob(bayes.y)
    return torch.cat([bayes.log_prior(parameters).reshape(1), terms])


class Labeling(ABC):
    """A rule that gives every draw one order of its experts."""

    num_copies: int = 1
    """How many copies of the posterior the rule folds into one, k! or 1."""

    @abstractmethod
    def order(self, draws: Draws) -> Tensor:
        """The order of the experts of each draw, ``(s, k)``."""

    def holds(self, draws: Draws) -> Tensor:
        """Whether each draw has its experts in order already, ``(s,)``."""
        order = self.order(draws)
        return (order == torch.arange(order.shape[-1], device=order.device)).all(-1)


class Unlabeled(Labeling):
    """Draws as they are."""

    def __init__(self, num_experts: int) -> None:
        self.num_experts = num_experts

    def order(self, draws: Draws) -> Tensor:
        """The identity."""
        first = next(iter(draws.values()))
        return torch.arange(self.num_experts, device=first.device).expand(len(first), -1)


class SortedLabels(Labeling):
    """Experts sorted by the first entry of one parameter.

    Args:
        name: the parameter.
        num_experts: k.
        classes: experts that may be exchanged, in increasing order, and are sorted among their places; None for all.
    """

    def __init__(self, name: str, num_experts: int, classes: Sequence[Sequence[int]] | None = None) -> None:
        self.name, self.classes = name, [range(num_experts)] if classes is None else classes
        classes = self.classes
        self.num_copies = math.prod(math.factorial(len(own)) for own in classes)

    def order(self, draws: Draws) -> Tensor:
        """Experts by increasing value."""
        rows = draws[self.name]
        values = rows.reshape(*rows.shape[:2], -1)[..., 0]
        if len(self.classes) == 1:
            return values.argsort(-1)
        order = torch.empty_like(values, dtype=torch.long)
        for own in self.classes:
            places = torch.tensor(own, device=values.device)
            order[:, places] = places[values[:, places].argsort(-1)]
        return order


class NearestLabels(Labeling):
    r"""Experts in the order in which the draw is nearest to the posterior mode, in standard deviations.

    Distances are squared and summed over the parameters of an expert; a gate that is determined up to a translation has
    mean zero over the experts first.

    Args:
        bayes: model and data.
        mode: the posterior mode, a real vector ``(P,)``.
        factor: L of the covariance :math:`L L^\top` there, ``(P, P)``.
        classes: experts that may be exchanged; None for all.
    """

    def __init__(
        self,
        bayes: BayesianMixtureOfExperts,
        mode: Tensor,
        factor: Tensor,
        classes: Sequence[Sequence[int]] | None = None,
    ) -> None:
        self.bayes, self.k = bayes, bayes.model.num_experts
        own = [range(self.k)] if classes is None else classes
        self.num_copies = math.prod(math.factorial(len(experts)) for experts in own)
        number = {expert: place for place, experts in enumerate(own) for expert in experts}
        self._class = torch.tensor([number[expert] for expert in range(self.k)], device=mode.device)
        self._center = self._features(bayes.parameters(mode.unsqueeze(0)))[0]
        spread = {n: v.unsqueeze(0) for n, v in _split(bayes, factor.square().sum(-1)).items()}
        variance = self._rows(spread)[0]
        self._variance = variance.mean(0, keepdim=True).clamp(min=torch.finfo(variance.dtype).tiny)

    def _rows(self, draws: Draws) -> Tensor:
        """All that belongs to an expert, side by side: ``(s, k, f)``."""
        own = []
        for name, value in draws.items():
            block = self.bayes.records[name].pattern
            if block is not None and block.num_experts == self.k:
                own.append(block.without_values().full(value).movedim(-2, 1))
            elif block is None and self.bayes.shapes[name][:1] == (self.k,):
                own.append(value)
        return torch.cat([value.reshape(len(value), self.k, -1) for value in own], -1)

    def _features(self, draws: Draws) -> Tensor:
        centered = dict(draws)
        for name in self.bayes.translated:
            pattern, value = self.bayes.records[name].pattern, centered[name]
            centered[name] = value - value.mean(1, keepdim=True) if pattern is None else pattern.centered(value)
        return self._rows(centered)

    def order(self, draws: Draws) -> Tensor:
        """The order of least total distance."""
        features = self._features(draws)
        difference = features.unsqueeze(1) - self._center.unsqueeze(1)  # (s, place, expert, f)
        cost = (difference.square() / self._variance).sum(-1)
        is_other = self._class.unsqueeze(-1) != self._class
        cost = torch.where(is_other, 1.0 + self.k * cost.amax((-1, -2), keepdim=True), cost)
        if self.k > _MOST_LISTED:
            matches = [linear_sum_assignment(rows)[1] for rows in cost.numpy(force=True)]
            return torch.as_tensor(np.array(matches), device=cost.device)
        orders = torch.tensor(list(itertools.permutations(range(self.k))), device=cost.device)
        totals = cost[:, torch.arange(self.k, device=cost.device), orders].sum(-1)
        return orders[totals.argmin(-1)]


def _split(bayes: BayesianMixtureOfExperts, vector: Tensor) -> dict[str, Tensor]:
    """The entries of a vector ``(P,)`` by the parameter they belong to."""
    sizes = [shape.numel() for shape in bayes.shapes.values()]
    parts = vector.split(sizes)
    return {name: part.reshape(shape) for (name, shape), part in zip(bayes.shapes.items(), parts, strict=True)}


def in_order(bayes: BayesianMixtureOfExperts, vector: Tensor) -> Tensor:
    """``vector (P,)`` with its experts sorted, where ``bayes.ordering`` names a parameter to sort by."""
    name, classes = bayes.ordering, _classes(bayes, vector)
    if name in (None, "nearest") or len(classes) == bayes.model.num_experts:
        return vector
    draw = bayes.parameters(vector.unsqueeze(0))
    ordered = permute(bayes, draw, SortedLabels(str(name), bayes.model.num_experts, classes).order(draw))
    return bayes.vector({n: value[0] for n, value in ordered.items()})


def labeling(bayes: BayesianMixtureOfExperts, mode: Tensor, factor: Tensor) -> Labeling:
    """The rule that ``bayes.ordering`` asks for, where the experts are exchangeable at the ``mode``."""
    return _labeling(bayes, bayes.ordering, mode, factor)


def folding(bayes: BayesianMixtureOfExperts, mode: Tensor, factor: Tensor) -> Labeling:
    """The rule by which one copy of the posterior stands for all: where none is asked for the nearest order's.

    An approximation at one of k! copies misses the others; its evidence counts all, whatever users call the experts.
    """
    return _labeling(bayes, bayes.ordering or "nearest", mode, factor)


def _labeling(bayes: BayesianMixtureOfExperts, ordering: str | None, mode: Tensor, factor: Tensor) -> Labeling:
    k, classes = bayes.model.num_experts, _classes(bayes, mode)
    if ordering is None or len(classes) == k:
        return Unlabeled(k)
    if ordering == "nearest":
        return NearestLabels(bayes, mode, factor, classes)
    return SortedLabels(ordering, k, classes)


def _classes(bayes: BayesianMixtureOfExperts, vector: Tensor) -> list[list[int]]:
    """Experts that can be exchanged with one another: all, those that a pattern leaves alike, or none."""
    k = bayes.model.num_experts
    alike = alike_experts(bayes.model, k)
    found: list[list[int]] = []
    for expert in range(k):
        own = next((experts for experts in found if bool(alike[experts[0], expert])), None)
        found.append([expert]) if own is None else own.append(expert)
    if k == 1 or len(found) == k:
        return found
    orders = None if len(found) == 1 else [_swapped(k, pair) for own in found for pair in itertools.pairwise(own)]
    return found if is_exchangeable(bayes, vector, orders) else [[expert] for expert in range(k)]


def _swapped(k: int, pair: Sequence[int]) -> list[int]:
    order = list(range(k))
    order[pair[0]], order[pair[1]] = pair[1], pair[0]
    return order
