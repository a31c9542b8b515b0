"""The interface of every verifier: drafts and two distributions in, tokens that follow the target out."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

from torch import Tensor

from .._validation import check_block_shapes, check_lengths
from .kept_tokens import kept_tokens, old_ids
from .node import Decision, Node
from .results import Verification
from .sources import Randomness, RandomSource, as_source
from .token_tree import TokenTree, TreeVerification
from .verify_drafts import DraftBlock, check_block, verify_drafts
from .verify_tree import walk_tree


class Verifier(ABC):
    r"""Maps drafts to tokens that follow the target distribution exactly. Holds settings, no state.

    A verifier is lossless: if draft ``i`` was drawn from ``draft_logits`` (each draft on its own, unless the verifier
    says otherwise), then the output, continued from the target, has the target's joint distribution, whatever the
    draft distributions are.

    Attributes:
        with_replacement: Whether drafts are drawn independently; else drafts that share a prefix are drawn without
            replacement, in the order of their indices.
        max_drafts: The most drafts that the rule takes, None for any number.
        identical_drafts: Whether drafts that share a prefix must have one distribution.
        uses_kept_tokens: Whether truncated distributions are verified over the tokens that they keep. It costs a pass
            over all rows, which a rule that reads few of them does not win back.
    """

    with_replacement: bool = True
    max_drafts: int | None = None
    identical_drafts: bool = False
    uses_kept_tokens: bool = True

    @abstractmethod
    def rule(self, block: DraftBlock, source: RandomSource) -> Verification:
        """Verify a checked block of drafts that have distributions; all randomness comes from ``source``."""

    def verify(
        self,
        target_logits: Tensor,
        draft_logits: Tensor | None,
        draft_tokens: Tensor,
        *,
        lengths: Tensor | None = None,
        generator: Randomness = None,
    ) -> Verification:
        """Verify drafted tokens.

        Logits are log-probabilities up to a constant a row, so probabilities go in as ``probs.log()``; a probability of
        zero is -inf. Rows are normalized in float32 at least, in float64 for float64 logits.

        Args:
            target_logits: Target distribution after each prefix of each draft ``(B, [m,] t+1, v)``.
            draft_logits: Distribution that each draft token was drawn from ``(B, [m,] t, v)``; None for drafts without
                one (n-grams, argmax, retrieved text). There the token is drawn from the target and accepted if a
                draft holds it, the optimal lossless rule for deterministic drafts.
            draft_tokens: Drafted token ids ``(B, [m,] t)``, of any integer dtype.
            lengths: Draft lengths ``(B,)`` or ``(B, m)`` in ``0..t``; what lies beyond is padding and never read.
            generator: One generator or seed, a sequence of one for each row (then a row's tokens do not depend on the
                rest of the batch), or None for torch's default generator. A `RandomSource` is taken too: it decides
                what is otherwise random.

        Returns:
            A `Verification`.

        Raises:
            TypeError: If an argument has the wrong type or dtype.
            ValueError: If shapes or vocabularies do not fit together, if a row of logits holds NaN or +inf or is all
                -inf, if a token is out of range, or if a drafted token has draft probability 0.
        """
        block = self._block(target_logits, draft_logits, draft_tokens, lengths)
        return self._verify(block, as_source(generator, block.shape[0], block.target.device))

    def _block(self, target: Any, draft: Any, tokens: Any, lengths: Any) -> DraftBlock:
        """Return a block whose shapes fit; what it holds is not checked yet."""
        tokens = check_block_shapes(target, draft, tokens)
        target = target.detach()  # tokens have no derivative, and nothing below needs a graph
        draft = None if draft is None else draft.detach()
        if tokens.ndim == 2:
            target, tokens = target[:, None], tokens[:, None]
            draft = None if draft is None else draft[:, None]
        batch, num_drafts, size = tokens.shape
        if self.max_drafts is not None and num_drafts > self.max_drafts:
            raise ValueError(f"{type(self).__name__} takes at most {self.max_drafts} draft, got {num_drafts}")
        if lengths is not None:
            lengths = check_lengths(lengths, (batch, num_drafts, size))
        return DraftBlock(target, draft, tokens, lengths)

    def _verify(self, block: DraftBlock, source: RandomSource) -> Verification:
        """Check what the block holds and verify it."""
        if block.draft is None:
            return verify_drafts(check_block(block), source, None, precise=False)
        kept = kept_tokens(block.target, block.draft) if self.uses_kept_tokens else None
        found = self.rule(check_block(block, kept), source)
        return found if kept is None else replace(found, tokens=old_ids(found.tokens, kept))

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"


class TreeRule(Verifier):
    """A verifier of trees too; see `TreeVerifier`, which checks what it is given."""

    @abstractmethod
    def tree(self, tree: TokenTree, source: RandomSource) -> TreeVerification:
        """Verify a checked tree of children that have distributions; all randomness comes from ``source``."""


class NodeVerifier(TreeRule):
    """A verifier made of one rule, applied at every position to the drafts that still agree with the output.

    Drafts that agree so far are independent draws from their distributions at the next position, so a rule that is
    lossless at one node is lossless along the walk. After a full acceptance one bonus token comes from the target.

    Attributes:
        precise: Whether nodes are computed in float64 whatever the dtype of the logits.

    Example:
        >>> import torch
        >>> from samplers import Decision
        >>> class FromTarget(NodeVerifier):  # draws from the target, and accepts what a draft happens to hold
        ...     def node(self, node, source):
        ...         token = source.choose(node.target)
        ...         return Decision(token, node.target.gather(-1, token[:, None])[:, 0])
        >>> laws = torch.tensor([0.25, 0.75]).log().expand(1, 2, 2)
        >>> FromTarget().verify(laws, laws[:, :1], torch.tensor([[1]]), generator=0).tokens.shape
        torch.Size([1, 2])
    """

    precise: bool = True

    @abstractmethod
    def node(self, node: Node, source: RandomSource) -> Decision:
        """Return the output tokens of a node; all randomness comes from ``source``."""

    def rule(self, block: DraftBlock, source: RandomSource) -> Verification:
        """Walk along the block."""
        return verify_drafts(block, source, self.node, precise=self.precise)

    def tree(self, tree: TokenTree, source: RandomSource) -> TreeVerification:
        """Walk down the tree."""
        return walk_tree(tree, self.node, source, precise=self.precise)
