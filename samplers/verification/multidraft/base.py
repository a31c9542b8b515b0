"""What multi-draft rules share: the two-step canonical form, and the check that drafts are identical."""

from abc import abstractmethod
from typing import Protocol

import torch
from torch import Tensor

from ..node import Decision, Node
from ..shared_prefix import check_shared_rows
from ..sources import RandomSource
from ..speculative import common_mass, offer
from ..verifier import NodeVerifier


class Selection(Protocol):
    """Step one of the canonical form: a way to select one of the drafts whose distribution is known exactly."""

    @property
    def marginal(self) -> Tensor:
        """Distribution of the selected token ``(r, v)``."""

    def select(self, tokens: Tensor, active: Tensor, source: RandomSource) -> Tensor:
        """Select one active draft ``(r,)``, given the drafted tokens ``(r, m)``."""


class CanonicalVerifier(NodeVerifier):
    r"""Select one draft, then offer it to the target by speculative sampling against its distribution.

    Any selection is lossless as long as its marginal :math:`x` is exact; acceptance is :math:`\sum_y \min(x(y), q(y))`.

    Source: Khisti et al. (2024), arXiv 2410.18234, theorem 1.
    """

    @abstractmethod
    def selection(self, node: Node) -> Selection:
        """Plan the selection of a node from its distributions alone, before the tokens are looked at."""

    def node(self, node: Node, source: RandomSource) -> Decision:
        """Select a draft and offer it to the target; where one draft is left there is nothing to select."""
        alone = node.num_active == 1
        if not alone.any():
            return offer_selected(node, self.selection(node), source)
        if alone.all():
            return offer(node.target, node.draft, node.tokens.gather(-1, node.first[:, None])[:, 0], source)
        token, probability = torch.empty_like(node.first), torch.empty_like(node.target[:, 0])
        for some in (alone.nonzero()[:, 0], (~alone).nonzero()[:, 0]):
            found = self.node(node.take(some), source.rows(some))
            token[some], probability[some] = found.token, found.probability.to(probability)
        return Decision(token, probability)

    def acceptance(self, target: Tensor, drafts: Tensor) -> Tensor:
        r"""Probability :math:`\sum_y \min(x(y), q(y))` that the selected draft is accepted at one node.

        A draw from the residual may still hit one of the other drafts; that comes on top, except at the optimum.

        Args:
            target: Target probabilities ``(r, v)``.
            drafts: Draft probabilities ``(r, m, v)``.

        Returns:
            Acceptance ``(r,)``.
        """
        node = node_of(target, drafts)
        if node.num_drafts == 1:
            return common_mass(node.target, node.draft)
        return common_mass(node.target, self.selection(node).marginal)


def offer_selected(node: Node, plan: Selection, source: RandomSource) -> Decision:
    """Select a draft by a plan and offer its token to the target."""
    chosen = plan.select(node.tokens, node.active, source)
    token = node.tokens.gather(-1, chosen[:, None])[:, 0]
    return offer(node.target, plan.marginal, token, source)


def node_of(target: Tensor, drafts: Tensor) -> Node:
    """Return a node with all drafts active from probabilities ``(r, v)`` and ``(r, m, v)``; its tokens mean nothing."""
    tokens = drafts.argmax(-1)
    return Node(target.log(), drafts.log(), tokens, torch.ones_like(tokens, dtype=torch.bool))


def check_identical(node: Node) -> None:
    """Refuse a node whose active drafts have different laws; see `check_shared_rows` for what is rounding."""
    check_shared_rows(
        "draft_logits",
        node.draft_logits,
        node.active,
        "the same law for all drafts that share a prefix, for a verifier of identical drafts (take WeightedVerifier or "
        "ImportanceWeighted where laws differ)",
    )
