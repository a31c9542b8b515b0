"""How much can be accepted: the optimum over all lossless verifiers, its bounds, and when it is one."""

import numpy as np
import torch
from scipy.optimize import linprog
from scipy.sparse import coo_array
from torch import Tensor

from mixkit._validation import check_integer

from .._validation import check_probs, check_same_vocabulary
from ..verification.multidraft.clipped import best_prefix, power, sort_by_ratio

_ENUMERATE = 16


def optimal_acceptance(target_probs: Tensor, draft_probs: Tensor, num_drafts: int | Tensor) -> Tensor:
    r"""Largest acceptance of any lossless verifier of identical independent drafts: :math:`\min_S q(S) + 1 - p(S)^m`.

    The minimum is over prefixes of the tokens sorted by :math:`q/p`: one sort and two cumulative sums, in float64.

    Args:
        target_probs: Target probabilities :math:`q` ``(..., v)``.
        draft_probs: Draft probabilities :math:`p` ``(..., v)``.
        num_drafts: Number of drafts :math:`m`, at least 1: an integer, or integers ``(...)``.

    Returns:
        Acceptance ``(...)``, float64.

    Raises:
        ValueError: If the rows are not probabilities, vocabularies differ, or a number of drafts is below 1.

    Source: Khisti et al. (2024), arXiv 2410.18234, theorem 3 (m = 2); the subset form is the dual of their program.

    Example:
        >>> import torch
        >>> optimal_acceptance(torch.tensor([0.5, 0.5]), torch.tensor([0.9, 0.1]), 2)
        tensor(0.6900, dtype=torch.float64)
    """
    target, draft = _laws(target_probs, draft_probs)
    shape = torch.broadcast_shapes(target.shape, draft.shape)
    count = _counts(num_drafts, shape[:-1], target.device)
    _, order = sort_by_ratio(*torch.broadcast_tensors(target, draft))
    q, p = (law.expand(shape).gather(-1, order).reshape(-1, shape[-1]) for law in (target, draft))
    below = (p.cumsum(-1) / p.sum(-1, keepdim=True)).clamp_max(1.0)
    return best_prefix(q.cumsum(-1), power(below, count.reshape(-1)))[0].clamp(0.0, 1.0).reshape(shape[:-1])


def optimal_acceptance_different(target_probs: Tensor, draft_probs: Tensor) -> Tensor:
    r"""Largest acceptance for independent drafts that differ, :math:`\min_S q(S) + 1 - \prod_i p_i(S)`, over all
    subsets S.

    Args:
        target_probs: Target probabilities ``(..., v)``, v at most 16.
        draft_probs: Draft probabilities ``(..., m, v)``.

    Returns:
        Acceptance ``(...)``, float64.

    Raises:
        ValueError: If v is above 16: `acceptance_bound` serves any vocabulary.

    Example:
        >>> import torch
        >>> optimal_acceptance_different(torch.tensor([0.5, 0.5]), torch.tensor([[0.9, 0.1], [0.2, 0.8]]))
        tensor(1., dtype=torch.float64)
    """
    target, drafts = _laws(target_probs, draft_probs)
    subsets = _subsets(target.shape[-1], target.device)
    slack = target @ subsets.mT + 1 - (drafts @ subsets.mT).prod(-2)
    return slack.amin(-1).clamp(0.0, 1.0)


def acceptance_bound(target_probs: Tensor, draft_probs: Tensor) -> Tensor:
    r"""Upper bound on the acceptance of drafts that differ, at any vocabulary.

    The minimum of :math:`q(S) + 1 - \prod_i p_i(S)` over prefixes of several orders: the tokens sorted by :math:`q/p_i`
    for each draft, by :math:`q/\sum_i p_i`, and by :math:`q/\sum_i s_i p_i` with :math:`s` taken from the best prefix
    found before. Tight where all drafts are identical.

    Args:
        target_probs: Target probabilities ``(..., v)``.
        draft_probs: Draft probabilities ``(..., m, v)``.

    Returns:
        Bound ``(...)``, float64.

    Example:
        >>> import torch
        >>> acceptance_bound(torch.tensor([0.5, 0.5]), torch.tensor([[0.9, 0.1], [0.9, 0.1]]))
        tensor(0.6900, dtype=torch.float64)
    """
    target, drafts = _laws(target_probs, draft_probs)
    best = torch.ones_like(target[..., 0])
    for law in drafts.unbind(-2):
        best = torch.minimum(best, _prefix_bound(target, drafts, law)[0])
    law = drafts.sum(-2)
    for _ in range(4):
        value, inside = _prefix_bound(target, drafts, law)
        best = torch.minimum(best, value)
        slope = 1 / inside.clamp_min(1e-12)
        law = (slope[..., None] * drafts).sum(-2)
    return best.clamp(0.0, 1.0)


def _prefix_bound(target: Tensor, drafts: Tensor, law: Tensor) -> tuple[Tensor, Tensor]:
    """Best prefix in the order of ``target / law``: its value ``(...)`` and the drafts' masses on it ``(..., m)``."""
    _, order = sort_by_ratio(target, law)
    masses = drafts.gather(-1, order[..., None, :].expand_as(drafts)).cumsum(-1).clamp_max(1.0)
    slack = target.gather(-1, order).cumsum(-1) + 1 - masses.prod(-2)
    value, where = slack.min(-1)
    index = where[..., None, None].expand(*masses.shape[:-1], 1)
    return value.clamp_max(1.0), masses.gather(-1, index)[..., 0]


def can_accept_always(target_probs: Tensor, draft_probs: Tensor, num_drafts: int | None = None) -> Tensor:
    r"""Whether some lossless verifier accepts with probability 1: :math:`q(S) \ge \prod_i p_i(S)` for every subset S.

    Args:
        target_probs: Target probabilities ``(..., v)``.
        draft_probs: Draft probabilities ``(..., v)`` of ``num_drafts`` identical drafts (any v), or ``(..., m, v)`` of
            drafts that may differ, if ``num_drafts`` is None (v at most 16).
        num_drafts: Number of identical drafts.

    Returns:
        Boolean ``(...)``; equality holds to 1e-12.

    Source: Khisti et al. (2024), arXiv 2410.18234, theorem 2 (for two identical drafts); here for any number.

    Example:
        >>> import torch
        >>> can_accept_always(torch.tensor([0.81, 0.19]), torch.tensor([0.9, 0.1]), 2)
        tensor(True)
    """
    if num_drafts is None:
        return optimal_acceptance_different(target_probs, draft_probs) >= 1 - 1e-12
    return optimal_acceptance(target_probs, draft_probs, num_drafts) >= 1 - 1e-12


def linear_program_acceptance(target_probs: Tensor, draft_probs: Tensor) -> float:
    r"""Optimal acceptance of one node by linear programming (HiGHS): the reference for small alphabets.

    Variables are the masses sent from each set of drafted tokens to each of its tokens: no set sends more than its
    probability, no token receives more than :math:`q`; the total is the acceptance.

    Args:
        target_probs: Target probabilities ``(v,)``.
        draft_probs: Draft probabilities ``(m, v)``.

    Returns:
        The optimum; about 1e-9 accurate.

    Raises:
        RuntimeError: If HiGHS does not solve the program.

    Source: Khisti et al. (2024), arXiv 2410.18234, equation 4.

    Example:
        >>> import torch
        >>> round(linear_program_acceptance(torch.tensor([0.5, 0.5]), torch.tensor([[0.9, 0.1], [0.9, 0.1]])), 6)
        0.69
    """
    target, drafts = _laws(target_probs, draft_probs)
    sets, masses = _set_masses(drafts)
    edges = [(row, token) for row, members in enumerate(sets) for token in members]
    rows = np.array([row for row, _ in edges] + [len(sets) + token for _, token in edges])
    columns = np.tile(np.arange(len(edges)), 2)
    limits = coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(sets) + target.numel(), len(edges)))
    bounds = np.concatenate([masses, target.cpu().numpy()])
    options = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    solution = linprog(-np.ones(len(edges)), A_ub=limits.tocsr(), b_ub=bounds, method="highs", options=options)
    if solution.status != 0:
        raise RuntimeError(f"HiGHS did not solve the linear program: {solution.message}")
    return float(-solution.fun)


def _set_masses(drafts: Tensor) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """Sets of tokens that the drafts can hold, and their probabilities."""
    masses: dict[frozenset[int], float] = {frozenset(): 1.0}
    for law in drafts.tolist():
        fresh: dict[frozenset[int], float] = {}
        for held, mass in masses.items():
            for token, prob in enumerate(law):
                if prob > 0:
                    key = held | {token}
                    fresh[key] = fresh.get(key, 0.0) + mass * prob
        masses = fresh
    return [tuple(sorted(held)) for held in masses], np.array(list(masses.values()))


def _subsets(v: int, device: torch.device) -> Tensor:
    """Indicators of all subsets ``(2^v, v)``."""
    if v > _ENUMERATE:
        raise ValueError(f"the vocabulary must have at most {_ENUMERATE} tokens to enumerate its subsets, got {v}")
    return (torch.arange(2**v, device=device)[:, None] >> torch.arange(v, device=device) & 1).double()


def _laws(target_probs: Tensor, draft_probs: Tensor) -> tuple[Tensor, Tensor]:
    target, draft = check_probs("target_probs", target_probs), check_probs("draft_probs", draft_probs)
    check_same_vocabulary(target, draft)
    if draft.ndim > 1 and 0 in draft.shape[-2:-1] and target.ndim < draft.ndim:
        raise ValueError(f"draft_probs must hold at least one draft, got shape {tuple(draft.shape)}")
    target, draft = target.double(), draft.double()
    return target / target.sum(-1, keepdim=True), draft / draft.sum(-1, keepdim=True)


def _counts(num_drafts: int | Tensor, shape: torch.Size, device: torch.device) -> Tensor:
    if not isinstance(num_drafts, Tensor):
        return torch.full(shape, check_integer("num_drafts", num_drafts, low=1), device=device)
    if num_drafts.is_floating_point() or (num_drafts < 1).any():
        raise ValueError(f"num_drafts must hold integers of at least 1, got {num_drafts}")
    return num_drafts.expand(shape)
