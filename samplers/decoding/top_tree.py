"""Token trees of any shape, made of a draft model's most likely tokens."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..processors import LogitsFunction
from ..verification.paths import paths
from ..verification.sources import RandomSource
from .drafting import is_readable
from .histories import Histories
from .scoring import Model, Scorer, as_chain, as_scorer, model_name, split_greedy
from .tree import Nodes, TreeDrafter, TreeDrafts, tree_law

__all__ = ["TopTree"]


class TopTree(TreeDrafter):
    """Trees of a shape of your own: the children of every node are the draft's most likely tokens after it.

    Nothing is drawn, so the nodes have no distribution: any rule of a `TreeVerifier` then draws the token from the
    target and accepts it if a child holds it. The shape is fixed, and does not depend on the tokens (Medusa, Cai et al.
    2024, arXiv 2401.10774, section 2.1.2).

    Args:
        model: A scorer or causal model ``ids (R, L) -> logits (R, L, v)``.
        parents: Parent of each node: -1 for the root, else an earlier node; nodes in order of depth. The first child of
            a node holds the most likely token, the second the next, and so on.
        processors: A processor ``(input_ids, scores) -> scores`` of the draft's logits; None for that of the target.

    Raises:
        ValueError: If there is no node, a parent does not come before its child, or nodes are not in order of depth.

    Example:
        >>> import torch
        >>> from samplers import RecursiveRejection, SpeculativeDecoder, TreeVerifier
        >>> bigram = torch.tensor([[0.1, 0.9, 0.0], [0.0, 0.1, 0.9], [0.9, 0.0, 0.1]]).log()
        >>> tree = TopTree(lambda ids: bigram[ids], parents=[-1, -1, 0])  # two tokens, and one after the first
        >>> decoder = SpeculativeDecoder(lambda ids: bigram[ids], tree, TreeVerifier(RecursiveRejection()))
        >>> decoder.decode([[0]], max_new_tokens=9, generator=0).tokens.shape
        torch.Size([1, 9])
    """

    def __init__(
        self, model: Scorer | Model, parents: Sequence[int] | Tensor, processors: LogitsFunction | None = None
    ) -> None:
        self.parents = torch.as_tensor(parents).long()
        check_parents(self.parents)
        self._depth = paths(self.parents)[1][1:]
        if bool((self._depth.diff() < 0).any()):
            raise ValueError(f"parents must list nodes in order of depth, got depths {self._depth.tolist()}")
        self.scorer, self.processors = as_scorer(model), as_chain(processors)
        self.inherits_processors = processors is None
        self.draft_length = int(self._depth[-1])
        self._rank = torch.tensor(
            [int((self.parents[:node] == parent).sum()) for node, parent in enumerate(self.parents)]
        )
        self._sizes = torch.bincount(self._depth).cumsum(0)  # nodes down to each depth, none at the root's

    def __repr__(self) -> str:
        return f"TopTree({model_name(self.scorer)}, parents={self.parents.tolist()})"

    def reset(self) -> None:
        """Reset the scorer."""
        self.scorer.reset()

    def propose(self, histories: Histories, limits: Tensor, vocab_size: int, source: RandomSource) -> TreeDrafts:
        """Grow a tree for every row, as deep as its limit ``(R,)`` allows."""
        tokens = limits.new_zeros(len(histories), self.parents.numel())
        limits = limits.where(is_readable(histories, [self.scorer]), 0)
        processors = split_greedy(self.processors)[0]  # where the largest alone is left, the others still rank
        sizes = self._sizes.tolist()
        for depth in range(int(limits.max())):
            begin, end = sizes[depth], sizes[depth + 1]
            rows = (limits > depth).nonzero()[:, 0]
            width = 1 if depth == 0 else begin - sizes[depth - 1]
            nodes = Nodes(tokens[rows, :begin], self.parents[:begin], torch.full_like(limits[rows], begin))
            law = tree_law(self.scorer, processors, histories.rows(rows), nodes, width, vocab_size)
            rank = self._rank[begin:end].to(law.device)
            above = (self.parents[begin:end] - (begin - width)).to(law.device) if depth > 0 else torch.zeros_like(rank)
            best = law.topk(min(int(rank.max()) + 1, law.shape[-1]), dim=-1).indices
            children = best[:, above, rank.clamp(max=best.shape[-1] - 1)]
            tokens[rows, begin:end] = children
        return TreeDrafts(tokens, None, self._sizes.to(limits.device)[limits])


def check_parents(parents: Tensor) -> None:
    """Refuse parents that are not -1 or the index of an earlier node."""
    if parents.ndim != 1 or parents.numel() == 0:
        raise ValueError(f"parents must have shape (n,), n at least 1, got {tuple(parents.shape)}")
    if bool(((parents < -1) | (parents >= torch.arange(len(parents)))).any()):
        raise ValueError(f"parents must be -1 or the index of an earlier node, got {parents.tolist()}")
