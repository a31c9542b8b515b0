"""The walk along a block of drafts: a rule at every position, and the drafts that still agree."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from .._validation import check_logits, check_tokens
from .kept_tokens import new_ids, restrict
from .node import Decision, Node, compute_dtype, first_true
from .results import Info, Verification
from .shared_prefix import check_shared_rows
from .sources import RandomSource


@dataclass(frozen=True)
class DraftBlock:
    """A request whose shapes fit together.

    Attributes:
        target: Target logits ``(B, m, t+1, v)``.
        draft: Draft logits ``(B, m, t, v)``, or None for drafts without a law.
        tokens: Drafted tokens ``(B, m, t)``.
        ragged_lengths: Draft lengths ``(B, m)``, or None where all have the full length.
    """

    target: Tensor
    draft: Tensor | None
    tokens: Tensor
    ragged_lengths: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Batch, drafts and draft length ``(B, m, t)``."""
        batch, num_drafts, size = self.tokens.shape
        return batch, num_drafts, size

    @cached_property
    def lengths(self) -> Tensor:
        """Draft lengths ``(B, m)``."""
        if self.ragged_lengths is not None:
            return self.ragged_lengths
        return torch.full(self.tokens.shape[:-1], self.tokens.shape[-1], device=self.tokens.device)

    def restricted(self, kept: Tensor) -> "DraftBlock":
        """The rows of the block over the tokens ``kept (k,)`` alone; drafted tokens stay as they are."""
        draft = None if self.draft is None else restrict(self.draft, kept)
        return replace(self, target=restrict(self.target, kept), draft=draft)

    def target_logits(self, rows: Tensor, draft: Tensor, position: int) -> Tensor:
        """Target logits ``(r, v)`` after the first ``position`` tokens of the given drafts ``(r,)``."""
        return self.target[rows, draft, position]

    def check_shared_target(self, rows: Tensor, sharing: Tensor, position: int) -> None:
        """Refuse target rows that differ among the drafts ``sharing (r, m)`` the prefix of ``position`` tokens."""
        if self.target.shape[1] == 1 or self.target.stride(1) == 0:
            return
        laws = self.target[:, :, position]
        check_shared_rows(
            "target_logits",
            laws if rows.numel() == laws.shape[0] else laws[rows],
            sharing,
            "the same law for all drafts that share a prefix",
        )

    def node(self, rows: Tensor, active: Tensor, position: int, *, precise: bool) -> Node:
        """Return the node of ``rows (r,)`` at ``position``; drafts ``active (r, m)`` compete there."""
        if self.draft is None:
            raise ValueError("draft_logits must be given to make a node, got None")
        laws, tokens = self.draft[:, :, position], self.tokens[:, :, position]
        if laws.stride(1) == 0:  # one distribution expanded over the drafts
            laws = laws[:, :1]
        if rows.numel() < self.tokens.shape[0]:
            laws, tokens = laws[rows], tokens[rows]
        return Node(self.target_logits(rows, first_true(active), position), laws, tokens, active, precise=precise)


def check_block(block: DraftBlock, kept: Tensor | None = None) -> DraftBlock:
    """Return a block whose laws and tokens are lawful, with tokens 0 in the padding; what is padding is not read.

    Args:
        block: A block whose shapes fit.
        kept: Tokens ``(k,)`` that the block is to be restricted to, those that some row can hold; None for all.
    """
    inside = reached = None
    if block.ragged_lengths is not None:
        reached = torch.arange(block.shape[2] + 1, device=block.tokens.device) <= block.ragged_lengths[..., None]
        inside = reached[..., 1:]
    rows = block if kept is None else block.restricted(kept)  # its rows are lawful if and only if the block's are
    check_logits("target_logits", rows.target, reached)
    if rows.draft is not None:
        check_logits("draft_logits", rows.draft, inside)
    tokens = check_tokens(block.tokens, block.draft, block.target.shape[-1], inside)
    return replace(rows, tokens=tokens if kept is None else new_ids(tokens, kept))


Rule = Callable[[Node, RandomSource], Decision]


def verify_drafts(block: DraftBlock, source: RandomSource, rule: Rule | None, *, precise: bool) -> Verification:
    """Apply a rule at every position until a token agrees with no draft, or the drafts end.

    With no rule, tokens are drawn from the target alone: the rule for drafts without a distribution, optimal there.
    """
    state = _State(block)
    rows = torch.arange(block.shape[0], device=block.tokens.device)
    for position in range(block.shape[2] + 1):
        active = state.active(rows, position)
        block.check_shared_target(rows, state.agreeing[rows], position)
        going = active.any(-1)
        if not going.all():
            _bonus(block, state, source, rows[~going], position)
            rows, active = rows[going], active[going]
        if rows.numel() == 0:
            break
        node_source = source if rows.numel() == block.shape[0] else source.rows(rows)
        decision, candidates = _decide(block, rule, node_source, rows, active, position, precise)
        rows = state.record(rows, active & (candidates == decision.token[:, None]), active, decision, position)
    return state.result()


def _bonus(block: DraftBlock, state: "_State", source: RandomSource, rows: Tensor, position: int) -> None:
    """Draw one token from the target for rows whose agreeing drafts have ended."""
    logits = block.target_logits(rows, first_true(state.agreeing[rows]), position)
    probs = logits.softmax(-1, dtype=compute_dtype(logits, precise=False))
    state.tokens[rows, position] = source.rows(rows).choose(probs)


def _decide(
    block: DraftBlock,
    rule: Rule | None,
    source: RandomSource,
    rows: Tensor,
    active: Tensor,
    position: int,
    precise: bool,
) -> tuple[Decision, Tensor]:
    if rule is None:
        logits = block.target_logits(rows, first_true(active), position)
        probs = logits.softmax(-1, dtype=compute_dtype(logits, precise=False))
        chosen = source.choose(probs)
        return Decision(chosen, probs.gather(-1, chosen[:, None])[:, 0]), block.tokens[rows, :, position]
    node = block.node(rows, active, position, precise=precise)
    return rule(node, source), node.tokens


class _State:
    """What the walk has written so far."""

    def __init__(self, block: DraftBlock):
        batch, num_drafts, size = block.shape
        device = block.tokens.device
        self.lengths = block.lengths
        self.tokens = torch.full((batch, size + 1), -1, dtype=torch.long, device=device)
        self.num_accepted = torch.zeros(batch, dtype=torch.long, device=device)
        self.agreeing = torch.ones(batch, num_drafts, dtype=torch.bool, device=device)
        self.probability = torch.zeros(batch, size, dtype=torch.float64, device=device)
        self.num_active = torch.zeros(batch, size, dtype=torch.long, device=device)

    def active(self, rows: Tensor, position: int) -> Tensor:
        return self.agreeing[rows] & (self.lengths[rows] > position)

    def record(self, rows: Tensor, matches: Tensor, active: Tensor, decision: Decision, position: int) -> Tensor:
        """Write a position; return the rows that go on."""
        self.tokens[rows, position] = decision.token
        self.probability[rows, position] = decision.probability.double()
        self.num_active[rows, position] = active.sum(-1)
        accepted = matches.any(-1)
        if not accepted.all():
            rows, matches = rows[accepted], matches[accepted]
        self.agreeing[rows] = matches
        self.num_accepted[rows] += 1
        return rows

    def result(self) -> Verification:
        winner = torch.where(self.num_accepted > 0, first_true(self.agreeing), -1)
        return Verification(self.tokens, self.num_accepted, winner, Info(self.probability, self.num_active))
