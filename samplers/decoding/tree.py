"""Token trees sampled from a draft model."""

from abc import abstractmethod
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from mixkit._validation import check_integer

from ..processors import LogitsFunction
from ..verification.paths import node_leaders
from ..verification.sources import RandomSource
from .drafting import is_readable
from .histories import Histories
from .proposer import LogitsRoom, Proposer
from .scoring import (
    Model,
    Scorer,
    as_chain,
    as_scorer,
    at_least_float32,
    best_tokens,
    fit_vocabulary,
    model_name,
    process,
    reads_no_history,
    sampling_probs,
    split_greedy,
)


@dataclass(frozen=True)
class TreeDrafts:
    """Trees of ``n`` drafted tokens, all of one shape, their nodes in order of depth.

    Attributes:
        tokens: Token of each node ``(R, n)``; 0 in the padding.
        logits: Logits that the children of the root and of each node were drawn from ``(R, n+1, v)``; None for
            nodes that were not drawn, and where they are not asked for (`TreeDrafter.without_laws`).
        lengths: Number of nodes ``(R,)``: those that the row has room for.
    """

    tokens: Tensor
    logits: Tensor | None
    lengths: Tensor


class TreeDrafter(Proposer):
    """Proposes a tree of tokens of one shape for every history.

    Attributes:
        parents: Parent of each node ``(n,)``: -1 for the root, else an earlier node; nodes in order of depth.
        num_siblings: Most children of a node, all drawn independently from its distribution; None for nodes that were
            not drawn, which suit any rule.
    """

    parents: Tensor
    num_siblings: int | None = None

    @abstractmethod
    def propose(self, histories: Histories, limits: Tensor, vocab_size: int, source: RandomSource) -> TreeDrafts:
        """Propose a tree for every row, as deep as its limit ``(R,)`` in ``0..t`` allows."""


class SampledTree(TreeDrafter):
    """Trees of tokens: every node has as many children as its depth says, drawn independently from the draft's law.

    A tree spends its nodes where chains of drafts soon part: ``(4, 2, 1)`` has 4 + 8 + 8 nodes. For
    `SpeculativeDecoder` with a `TreeVerifier`. A scorer that can score a tree in one pass does, such as
    `samplers.adapters.huggingface.KeyValueScorer`; others score every prefix as a row of its own.

    Args:
        model: A scorer or causal model ``ids (R, L) -> logits (R, L, v)``.
        branching: Children of the root, of each node below it, and so on; the depth is ``t``.
        processors: A processor ``(input_ids, scores) -> scores`` of the draft's logits; None for that of the target.

    Raises:
        ValueError: If ``branching`` is empty or holds a number below 1.

    Example:
        >>> import torch
        >>> from samplers import OptimalVerifier, SpeculativeDecoder, TreeVerifier
        >>> bigram = torch.tensor([[0.1, 0.9, 0.0], [0.0, 0.1, 0.9], [0.9, 0.0, 0.1]]).log()
        >>> tree = SampledTree(lambda ids: 0.5 * bigram[ids], branching=(2, 2))
        >>> decoder = SpeculativeDecoder(lambda ids: bigram[ids], tree, TreeVerifier(OptimalVerifier()))
        >>> decoder.decode([[0]], max_new_tokens=9, generator=torch.Generator().manual_seed(0)).tokens.shape
        torch.Size([1, 9])
    """

    def __init__(
        self,
        model: Scorer | Model,
        branching: Sequence[int] = (4, 2, 1),
        processors: LogitsFunction | None = None,
    ) -> None:
        self.branching = tuple(check_integer("branching", count, low=1) for count in branching)
        if not self.branching:
            raise ValueError("branching must have at least one level, got none")
        self.scorer, self.processors = as_scorer(model), as_chain(processors)
        self.inherits_processors = processors is None
        self.draft_length, self.num_siblings = len(self.branching), max(self.branching)
        self._keeps_laws = True
        self._room = LogitsRoom()
        widths = [1, *accumulate(self.branching, int.__mul__)]
        self._sizes = torch.tensor([0, *accumulate(widths[1:])])
        self._levels = [torch.arange(end - width, end) for end, width in zip(accumulate(widths), widths, strict=True)]
        self.parents = torch.cat(
            [level.repeat_interleave(count) for level, count in zip(self._levels, self.branching, strict=False)]
        ).sub_(1)

    def __repr__(self) -> str:
        return f"SampledTree({model_name(self.scorer)}, branching={self.branching})"

    def reset(self) -> None:
        """Reset the scorer, and let the room for logits go."""
        self._room.clear()
        self.scorer.reset()

    def without_laws(self) -> Self:
        """Return a tree that keeps no logits: the target is greedy, and tokens alone decide."""
        tree = copy(self)
        tree._keeps_laws = False
        return tree

    def propose(self, histories: Histories, limits: Tensor, vocab_size: int, source: RandomSource) -> TreeDrafts:
        """Sample a tree for every row, as deep as its limit ``(R,)`` in ``0..t`` allows."""
        count = self.parents.numel()
        tokens = limits.new_zeros(len(histories), count)
        limits = limits.where(is_readable(histories, [self.scorer]), 0)
        logits = None
        for depth in range(int(limits.max())):
            going = limits > depth
            rows: Any = slice(None)
            part, drawn, draws = histories, tokens, source
            if not bool(going.all()):
                rows = going.nonzero()[:, 0]
                part, drawn, draws = histories.rows(rows), tokens[rows], source.rows(rows)
            law = self._law(part, drawn, depth, vocab_size)
            level, children = self._levels[depth].tolist(), (self._levels[depth + 1] - 1).tolist()
            if self._is_greedy:
                tokens[rows, children[0] : children[-1] + 1] = best_tokens(law).repeat_interleave(
                    self.branching[depth], dim=1
                )
                continue
            if self._keeps_laws:
                logits = self._room.of((len(histories), count + 1, vocab_size), law) if logits is None else logits
                logits[rows, level[0] : level[-1] + 1] = law
            nodes = iter(children)
            for parent in sampling_probs(law).unbind(1):
                for _ in range(self.branching[depth]):
                    tokens[rows, next(nodes)] = draws.choose(parent)
        if self._keeps_laws and logits is None:
            logits = self._room.of((len(histories), count + 1, vocab_size), torch.empty(0, device=limits.device))
        return TreeDrafts(tokens, logits, self._sizes.to(limits.device)[limits])

    @property
    def _is_greedy(self) -> bool:
        """Whether tokens are the largest of their processed logits, and no logits need be returned."""
        return not self._keeps_laws and split_greedy(self.processors)[1]

    def _law(self, histories: Histories, tokens: Tensor, depth: int, vocab_size: int) -> Tensor:
        """Logits ``(R, k, v)`` after the ``k`` nodes of a depth; of greedy drafts before the largest is taken."""
        size, width = int(self._sizes[depth]), self._levels[depth].numel()
        nodes = Nodes(tokens[:, :size], self.parents[:size], torch.full_like(histories.lengths, size))
        processors = split_greedy(self.processors)[0] if self._is_greedy else self.processors
        return tree_law(self.scorer, processors, histories, nodes, width, vocab_size)


class Nodes(NamedTuple):
    """Nodes of trees of one shape: tokens ``(R, n)``, parents ``(n,)``, and how many of them each row has ``(R,)``."""

    tokens: Tensor
    parents: Tensor
    sizes: Tensor


def tree_law(
    scorer: Scorer,
    processors: LogitsFunction,
    histories: Histories,
    nodes: Nodes,
    count: int,
    vocab_size: int | None,
) -> Tensor:
    """Processed logits ``(R, c, v)`` after the last ``count`` of the root and the nodes of a tree, in float32 at least.

    Nodes of one prefix have one distribution, that of the first.
    """
    tokens, parents, sizes = nodes.tokens, nodes.parents.to(nodes.tokens.device), nodes.sizes
    first = parents.numel() + 1 - count
    raw = scorer.tree_scores(histories.trimmed(), histories.lengths, tokens, parents, sizes, count)
    is_real = torch.arange(first, parents.numel() + 1, device=raw.device) <= sizes[:, None]
    raw = raw if bool(is_real.all()) else torch.where(is_real[..., None], raw, 0.0)
    logits = at_least_float32(fit_vocabulary(raw, vocab_size))
    if reads_no_history(processors):
        law = process(processors, logits, histories, histories.lengths[:, None])
    else:
        rows = histories.along(tokens, parents, sizes, count)
        law = process(processors, logits.flatten(0, 1)[:, None], rows, rows.lengths[:, None])[:, 0]
        law = law.unflatten(0, (-1, count))
    leader = node_leaders(tokens, parents)[:, first:] - first
    row, node = (leader != torch.arange(count, device=leader.device)).nonzero(as_tuple=True)
    if row.numel():
        law[row, node] = law[row, leader[row, node]]
    return law
