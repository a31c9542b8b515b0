"""Trees of drafted tokens, verified by any rule for trees."""

from dataclasses import replace

import torch
from torch import Tensor

from .kept_tokens import kept_tokens, old_ids
from .sources import Randomness, as_source
from .token_tree import TreeVerification, check_tree
from .verifier import TreeRule
from .verify_tree import walk_tree

__all__ = ["TreeVerification", "TreeVerifier"]


class TreeVerifier:
    r"""Verifies a token tree by a rule for trees, node by node or as a whole.

    Children sampled from the node's draft distribution, independently, suit any rule; sampled without replacement they
    suit rules whose ``with_replacement`` is false; chosen in any other way (top-k, n-grams), they have no distribution:
    pass no draft logits, and the token is drawn from the target and accepted if a child holds it.

    A tree of sampled nodes must be grown level by level: how many children a node gets may depend on all tokens of
    earlier levels, never on tokens of the children's own level or of deeper ones, and a sampled child must not be
    dropped for its token. The rule cannot see how a tree was grown: with another shape the output does not follow the
    target, and no error is raised.

    Args:
        rule: A `NodeVerifier`, `MultiBlockVerifier` or `TraversalVerification`.

    Source: Miao et al. (2023), SpecInfer, arXiv 2305.09781 (trees); the rules name their own sources.

    Example:
        >>> import torch
        >>> from samplers import RecursiveRejection
        >>> laws = torch.tensor([0.1, 0.2, 0.7]).log().expand(1, 4, 3)
        >>> tokens, parents = torch.tensor([[2, 0, 2]]), torch.tensor([-1, -1, 0])
        >>> TreeVerifier(RecursiveRejection()).verify(laws, laws, tokens, parents).path
        tensor([[ 0,  2, -1]])
    """

    def __init__(self, rule: TreeRule):
        if not isinstance(rule, TreeRule):
            raise TypeError(
                f"rule must be a rule for trees, as a NodeVerifier or a MultiBlockVerifier, got {type(rule).__name__}"
            )
        self.rule = rule

    def __repr__(self) -> str:
        return f"TreeVerifier({self.rule!r})"

    @torch.no_grad()
    def verify(
        self,
        target_logits: Tensor,
        draft_logits: Tensor | None,
        tokens: Tensor,
        parents: Tensor,
        *,
        lengths: Tensor | None = None,
        generator: Randomness = None,
    ) -> TreeVerification:
        """Verify a tree of ``n`` nodes.

        Args:
            target_logits: Target distribution after the root and after each node ``(B, n+1, v)``, the root first.
            draft_logits: Distribution that the children of the root and of each node were drawn from ``(B, n+1, v)``;
                rows of nodes without children are not read. None for children without a distribution.
            tokens: Token of each node ``(B, n)``.
            parents: Parent of each node ``(n,)`` or ``(B, n)``: -1 for the root, else the index of an earlier node.
            lengths: Number of nodes ``(B,)``; what lies beyond is padding.
            generator: As in `Verifier.verify`.

        Raises:
            TypeError: If an argument has the wrong type or dtype.
            ValueError: If shapes do not fit, a parent does not come before its child, siblings that hold the same
                token go on under different distributions, or logits and tokens are refused as in `Verifier.verify`.
        """
        tree = check_tree(target_logits, draft_logits, tokens, parents, lengths)
        source = as_source(generator, tree.tokens.shape[0], tree.tokens.device)
        if tree.draft is None:
            return walk_tree(tree, None, source, precise=False)
        kept = kept_tokens(tree.target, tree.draft) if self.rule.uses_kept_tokens else None
        if kept is None:
            return self.rule.tree(tree, source)
        found = self.rule.tree(tree.restricted(kept), source)
        return replace(found, tokens=old_ids(found.tokens, kept))
