"""Importance-weighted selection in pairs: the truncated linear program of Khisti et al., as a tournament."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mixkit._validation import check_integer

from ..node import Decision, Node
from ..sources import RandomSource
from ..speculative import common_mass
from .base import CanonicalVerifier, offer_selected
from .pairs import solve_pairs
from .recursive import RecursiveRejection, recursive_acceptance


class ImportanceWeighted(CanonicalVerifier):
    r"""Canonical two-step selection by a tournament of pairs whose weights solve a truncated linear program.

    The winner of the drafts so far, of distribution :math:`a`, meets the next draft, of distribution :math:`b`: from
    the pair :math:`\{i, j\}` token :math:`i` is selected with probability :math:`w_{ij}`. Tokens are ordered by
    :math:`q - (a + b)/2` descending. Among the first ``solved`` tokens the weights maximize acceptance, a linear
    program solved as a maximal flow (`solve_pairs`); beyond them the token earlier in the order is selected; among
    tokens past the first ``alphabet``, the winner so far. The distribution of the selected token is a sum, so it is
    exact.

    Args:
        solved: Tokens in the linear program (the paper's truncated LP).
        alphabet: Tokens that are ordered at all (the paper's truncated alphabet); None for the whole vocabulary.
        guard: Use `RecursiveRejection` at nodes where it accepts more; the choice reads the laws alone.

    Source: Khisti et al. (2024), arXiv 2410.18234, section 4; drafts may differ here; the guard is ours.

    Example:
        >>> import torch
        >>> target, draft = torch.tensor([[0.5, 0.5]]), torch.tensor([[[0.9, 0.1], [0.9, 0.1]]])
        >>> round(float(ImportanceWeighted().acceptance(target, draft)), 6)
        0.69
    """

    def __init__(self, *, solved: int = 5, alphabet: int | None = 4096, guard: bool = True):
        self.solved = check_integer("solved", solved, low=0, high=64)
        self.alphabet = None if alphabet is None else check_integer("alphabet", alphabet, low=1)
        self.guard = guard

    def selection(self, node: Node) -> "Tournament":
        """Plan the tournament of a node."""
        return tournament(node.target, node.drafts, node.active, self.solved, self.alphabet)

    def node(self, node: Node, source: RandomSource) -> Decision:
        """Run the tournament, or recursive rejection where it accepts more."""
        if node.num_drafts == 1:
            return super().node(node, source)
        plan = self.selection(node)
        if not self.guard:
            return offer_selected(node, plan, source)
        worse = common_mass(node.target, plan.marginal) < recursive_acceptance(node.target, node.drafts) - 1e-12
        token, probability = torch.empty_like(node.tokens[:, 0]), node.target.new_empty(node.num_rows)
        for mask in (worse, ~worse):
            rows = mask.nonzero()[:, 0]
            if rows.numel():
                some, draws = node.take(rows), source.rows(rows)
                decision = (
                    RecursiveRejection().node(some, draws)
                    if mask is worse
                    else offer_selected(some, plan.take(rows), draws)
                )
                token[rows], probability[rows] = decision.token, decision.probability
        return Decision(token, probability)

    def acceptance(self, target: Tensor, drafts: Tensor) -> Tensor:
        """Exact acceptance ``(r,)`` at one node, from probabilities ``(r, v)`` and ``(r, m, v)``."""
        found = super().acceptance(target, drafts)
        return torch.maximum(found, recursive_acceptance(target, drafts)) if self.guard else found


@dataclass(frozen=True)
class Round:
    """One pair of the tournament: the winner so far against the next draft.

    Attributes:
        rank: Place of each token in the order ``(r, v)``; ``v`` for tokens that are not ordered.
        weight: Probability of selecting the first of two solved tokens, by rank ``(r, s, s)``.
        marginal: Distribution of the winner ``(r, v)``.
    """

    rank: Tensor
    weight: Tensor
    marginal: Tensor

    def take(self, rows: Tensor) -> "Round":
        """Return the rows ``(s,)`` alone, in ascending order."""
        if rows.numel() == self.rank.shape[0]:
            return self
        return Round(self.rank[rows], self.weight[rows], self.marginal[rows])

    def keep_probability(self, winner: Tensor, challenger: Tensor) -> Tensor:
        """Probability ``(r,)`` that the winner's token stands against the challenger's."""
        pair = self.rank.gather(-1, torch.stack([winner, challenger], -1))
        first, second = pair.unbind(-1)
        size = self.weight.shape[-1]
        solved = (pair < size).all(-1) & (winner != challenger)
        keep = (first <= second).to(self.weight.dtype)
        if size == 0:
            return keep
        inside = pair.clamp_max(size - 1)
        rows = torch.arange(winner.numel(), device=winner.device)
        return torch.where(solved, self.weight[rows, inside[:, 0], inside[:, 1]], keep)


@dataclass(frozen=True)
class Tournament:
    """Rounds of a tournament, one for each draft after the first (drafts that are not active do not play)."""

    rounds: list[Round]

    @property
    def marginal(self) -> Tensor:
        """Law of the selected token ``(r, v)``."""
        return self.rounds[-1].marginal

    def take(self, rows: Tensor) -> "Tournament":
        """Return the rows ``(s,)`` alone, in ascending order."""
        return Tournament([play.take(rows) for play in self.rounds])

    def select(self, tokens: Tensor, active: Tensor, source: RandomSource) -> Tensor:
        """Play the rounds."""
        best = torch.zeros_like(tokens[:, 0])
        playing = active[:, 0].clone()
        for i, play in enumerate(self.rounds, start=1):
            rows = (playing & active[:, i]).nonzero()[:, 0]
            best = torch.where(active[:, i] & ~playing, i, best)
            if rows.numel():
                held = tokens[rows].gather(-1, best[rows, None])[:, 0]
                stands = source.rows(rows).accept(play.take(rows).keep_probability(held, tokens[rows, i]))
                best = best.index_put((rows,), torch.where(stands, best[rows], i))
            playing |= active[:, i]
        return best


def tournament(target: Tensor, drafts: Tensor, active: Tensor, solved: int, alphabet: int | None) -> Tournament:
    """Plan a tournament from probabilities ``(r, v)`` and ``(r, m, v)``, zero where not ``active (r, m)``."""
    law = drafts[:, 0]
    rounds = []
    for i in range(1, drafts.shape[1]):
        play = play_round(target, law, drafts[:, i], solved, alphabet)
        both = active[:, :i].any(-1) & active[:, i]
        if both.all():
            law = play.marginal
        else:
            law = torch.where(both[:, None], play.marginal, law + drafts[:, i] * ~active[:, :i].any(-1, keepdim=True))
        rounds.append(Round(play.rank, play.weight, law))
    return Tournament(rounds)


def play_round(target: Tensor, first: Tensor, second: Tensor, solved: int, alphabet: int | None) -> Round:
    """Order tokens, solve for the weights of the first few; the distribution of the winner, all ``(r, v)``."""
    v = target.shape[-1]
    size = v if alphabet is None else min(alphabet, v)
    order = (target - (first + second) / 2).topk(size, -1).indices
    rank = (
        torch.full_like(order[:, :1], v)
        .expand(-1, v)
        .scatter(-1, order, torch.arange(size, device=order.device).expand_as(order))
    )
    a, b, q = (law.gather(-1, order) for law in (first, second, target))
    solved = min(solved, size)
    later_a, later_b = 1 - a.cumsum(-1), 1 - b.cumsum(-1)
    later_a[:, :solved], later_b[:, :solved] = (1 - law[:, :solved].sum(-1, keepdim=True) for law in (a, b))
    won = a * b + a * later_b.clamp_min(0.0) + b * later_a.clamp_min(0.0)
    mass = a[:, :solved, None] * b[:, None, :solved] + b[:, :solved, None] * a[:, None, :solved]
    weight = solve_pairs(q[:, :solved], won[:, :solved], mass)
    won[:, :solved] += (mass * weight).sum(-1)
    rest = first * (1 - b.sum(-1, keepdim=True)).clamp_min(0.0)
    return Round(rank, weight, rest.scatter(-1, order, won))
