"""How many tokens of whole drafts can be accepted: the joint optimum on small alphabets, in two ways."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import coo_array
from torch import Tensor

from ..exactness.small_models import Laws, draft_tuples

Prefix = tuple[int, ...]
_MOST_VARIABLES = 2_000_000
_MOST_NODES = 20_000
_CLOSE = 1e-9
_OPTIONS = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}


def joint_optimum(laws: Laws, *, with_replacement: bool = True) -> Tensor:
    r"""Largest expected number of accepted tokens of any lossless rule for whole drafts, by a linear program.

    A rule sends the mass of each set of drafted prefixes down its tree. It is lossless if and only if no prefix passes
    on more than the target does: :math:`a(uy) \le p(y|u) \, a(u)`, where :math:`a(u)` is the probability that the
    accepted tokens begin with :math:`u`. The expected number of accepted tokens is :math:`\sum_u a(u)`.

    Args:
        laws: Test cases of small alphabets and short drafts; drafts may differ.
        with_replacement: As in `Verifier`: whether drafts are drawn independently.

    Returns:
        Expected accepted tokens ``(c,)``, float64, about 1e-8 accurate.

    Raises:
        ValueError: If a program has too many variables.
        RuntimeError: If HiGHS does not solve a program.

    Source: for one token, Khisti et al. (2024), arXiv 2410.18234, equation 4; for one draft the optimum is block
    verification, Sun et al. (2024), arXiv 2403.10444, theorem 2; the program of many whole drafts was derived here.

    Example:
        >>> from samplers.exactness import random_laws
        >>> laws = random_laws(1, 2, 1, 1, identical=True, generator=0)
        >>> accepted = torch.minimum(laws.target[0], laws.drafts[0][:, 0]).sum()
        >>> torch.testing.assert_close(joint_optimum(laws)[0], accepted, rtol=0, atol=1e-8)
    """
    cases, tokens, probs = draft_tuples(laws, with_replacement=with_replacement)
    found = []
    for case in range(laws.sizes[0]):
        here = cases == case
        found.append(_solve_tuples(_mass_of_sets(tokens[here], probs[here]), _conditional(laws, case)))
    return torch.tensor(found, dtype=torch.float64)


def antichain_optimum(laws: Laws) -> Tensor:
    r"""`joint_optimum` of identical independent drafts, from the condition by antichains; any number of drafts.

    Accepted mass :math:`a(u)` is reachable if and only if, for every antichain :math:`C` of prefixes (none begins
    another), :math:`\sum_{u \in C} a(u) \le 1 - (1 - q(C))^m`: no more than the probability that some draft passes
    through it. The program maximizes :math:`\sum_u a(u)`; violated antichains are found by dynamic programming and
    added until there is none.

    Args:
        laws: Test cases with identical drafts.

    Returns:
        Expected accepted tokens ``(c,)``, float64, about 1e-8 accurate.

    Raises:
        ValueError: If drafts differ or have no distribution, or if there are too many prefixes.
        RuntimeError: If HiGHS does not solve a program.

    Source: derived for this package; see ``docs/verification.md``.

    Example:
        >>> from samplers.exactness import random_laws
        >>> laws = random_laws(2, 3, 2, 2, identical=True, generator=0)
        >>> torch.testing.assert_close(antichain_optimum(laws), joint_optimum(laws), rtol=0, atol=1e-7)
    """
    count, v, m, t = laws.sizes
    if laws.drafts is None or any((level != level[:, :1]).any() for level in laws.drafts):
        raise ValueError("laws must hold identical drafts: joint_optimum takes drafts that differ")
    if sum(v ** (j + 1) for j in range(t)) > _MOST_NODES:
        raise ValueError(f"laws must have at most {_MOST_NODES} prefixes, got {v} tokens and drafts of {t}")
    return torch.tensor([_Antichains(laws, case, m).solve() for case in range(count)], dtype=torch.float64)


def _conditional(laws: Laws, case: int) -> list[NDArray[np.float64]]:
    """Target probabilities of the next token after each prefix, flat by level: ``(v^(j+1),)``."""
    return [level[case].flatten().numpy() for level in laws.target[:-1]]


def _mass_of_sets(tokens: Tensor, probs: Tensor) -> dict[frozenset[Prefix], float]:
    """Probability of each set of drafted prefixes."""
    masses: dict[frozenset[Prefix], float] = defaultdict(float)
    for drafts, mass in zip(tokens.tolist(), probs.tolist(), strict=True):
        masses[frozenset(tuple(path[: n + 1]) for path in drafts for n in range(len(path)))] += mass
    return masses


def _solve_tuples(masses: dict[frozenset[Prefix], float], conditional: list[NDArray[np.float64]]) -> float:
    """Variables: the mass that each set of prefixes sends through each of its prefixes."""
    flows = {(i, u): n for n, (i, u) in enumerate((i, u) for i, held in enumerate(masses) for u in sorted(held))}
    if len(flows) > _MOST_VARIABLES:
        raise ValueError(f"laws must need at most {_MOST_VARIABLES} variables, got {len(flows)}: take fewer drafts")
    entries: list[tuple[int, int, float]] = []
    bounds: list[float] = []
    place: dict[object, int] = {}

    def limit(name: object, bound: float) -> int:
        if name not in place:
            place[name] = len(bounds)
            bounds.append(bound)
        return place[name]

    v = conditional[0].size
    mass = list(masses.values())
    for (i, u), n in flows.items():
        entries.append((limit((i, u[:-1]), 0.0 if len(u) > 1 else mass[i]), n, 1.0))
        prob = conditional[len(u) - 1][_index(u, v)]
        entries.append((limit(u, 0.0 if len(u) > 1 else prob), n, 1.0))
        if len(u) < len(conditional):
            entries.append((limit((i, u), 0.0), n, -1.0))
            for y in range(v):
                following = conditional[len(u)][_index((*u, y), v)]
                entries.append((limit((*u, y), 0.0), n, -following))
    return _maximize(entries, bounds, len(flows))[0]


def _index(prefix: Prefix, v: int) -> int:
    place = 0
    for token in prefix:
        place = place * v + token
    return place


def _maximize(
    entries: list[tuple[int, int, float]], bounds: list[float], size: int
) -> tuple[float, NDArray[np.float64]]:
    """Maximize the sum of ``size`` variables in [0, 1] under rows of limits; return it and the variables."""
    rows, columns, values = zip(*entries, strict=True)
    matrix = coo_array((values, (rows, columns)), shape=(len(bounds), size)).tocsr()
    found = linprog(-np.ones(size), A_ub=matrix, b_ub=bounds, bounds=(0, 1), method="highs", options=_OPTIONS)
    if found.status != 0:
        raise RuntimeError(f"HiGHS did not solve the linear program: {found.message}")
    return float(-found.fun), found.x


class _Antichains:
    """The program over accepted masses, to which violated antichains are added."""

    def __init__(self, laws: Laws, case: int, num_drafts: int):
        _, self.v, _, self.t = laws.sizes
        self.m = num_drafts
        self.conditional = _conditional(laws, case)
        self.reach: list[NDArray[np.float64]] = []
        for level in laws.drafts or ():
            rows = level[case, 0].numpy()
            self.reach.append((rows if not self.reach else self.reach[-1][:, None] * rows).ravel())
        self.nodes = [u for n in range(1, self.t + 1) for u in product(range(self.v), repeat=n)]
        self.start = np.cumsum([0, *(self.v**n for n in range(1, self.t + 1))])

    def solve(self) -> float:
        """Add violated antichains until there is none."""
        entries, bounds = self._tree_limits()
        for _ in range(1000):
            total, found = _maximize(entries, bounds, len(self.nodes))
            levels = [found[a:b] for a, b in zip(self.start, self.start[1:], strict=False)]
            worst = 0.0
            for members, drafted, accepted in self._candidates(levels):
                excess = accepted - 1 + (1 - min(drafted, 1.0)) ** self.m
                worst = max(worst, excess)
                if excess > _CLOSE / 2:
                    entries += [(len(bounds), n, 1.0) for n in members]
                    bounds.append(1 - (1 - min(drafted, 1.0)) ** self.m)
            if worst <= _CLOSE:
                return total
        raise RuntimeError(f"violated antichains must run out, got one of {worst} after 1000 rounds")

    def _tree_limits(self) -> tuple[list[tuple[int, int, float]], list[float]]:
        entries, bounds = [], []
        for n, u in enumerate(self.nodes):
            prob = float(self.conditional[len(u) - 1][_index(u, self.v)])
            entries.append((n, n, 1.0))
            bounds.append(prob if len(u) == 1 else 0.0)
            if len(u) > 1:
                entries.append((n, int(self.start[len(u) - 2]) + _index(u[:-1], self.v), -prob))
        return entries, bounds

    def _candidates(self, accepted: list[NDArray[np.float64]]) -> Iterator[tuple[list[int], float, float]]:
        """Antichains at the corners of the hull of (drafted, accepted) mass: violation is convex in both."""
        open_slopes = [(0.0, float(self.m))]
        ends = {slope: self._best(accepted, slope) for slope in (0.0, float(self.m))}
        yield from ends.values()
        while open_slopes:
            low, high = open_slopes.pop()
            (_, more, upper), (_, less, lower) = ends[low], ends[high]
            if more - less < 1e-12:
                continue
            middle = (upper - lower) / (more - less)
            if not low < middle < high or middle in ends:
                continue
            ends[middle] = self._best(accepted, middle)
            _, drafted, mass = ends[middle]
            if mass - middle * drafted > upper - middle * more + 1e-11:
                yield ends[middle]
                open_slopes += [(low, middle), (middle, high)]

    def _best(self, accepted: list[NDArray[np.float64]], slope: float) -> tuple[list[int], float, float]:
        """The antichain of largest accepted less ``slope`` times drafted mass: nodes, drafted and accepted mass."""
        value = [a - slope * q for a, q in zip(accepted, self.reach, strict=True)]
        best = np.maximum(value[-1], 0.0)
        taken = [value[-1] > 0]
        for level in value[-2::-1]:
            below = best.reshape(-1, self.v).sum(1)
            taken.append(level > below)
            best = np.maximum(level, below)
        members, drafted, mass = [], 0.0, 0.0
        free = np.ones(self.v, dtype=bool)
        for n, here in enumerate(taken[::-1]):
            chosen = here & free
            members += [int(self.start[n]) + int(k) for k in chosen.nonzero()[0]]
            drafted, mass = drafted + self.reach[n][chosen].sum(), mass + accepted[n][chosen].sum()
            free = np.repeat(free & ~chosen, self.v)
        return members, float(drafted), float(mass)
