"""The verifier that suits what is drafted, where none is given."""

from collections.abc import Sequence
from typing import Any

from ..verification.block import BlockVerification
from ..verification.multiblock import MultiBlockVerifier
from ..verification.multidraft import RecursiveRejection, WeightedVerifier
from ..verification.tree import TreeVerifier
from ..verification.verifier import Verifier
from .drafting import Drafter
from .tree import TreeDrafter


def default_verifier(drafts: Any, num_drafts: int | None, draft_processors: Any) -> Verifier | TreeVerifier:
    """Return the rule of most tokens a call among those that cost no more than a few passes over the vocabulary.

    One draft: block verification. Several from one distribution, and trees: the two-phase rule with K-SEQ budgets.
    Several that differ: the weighted verifier. Without replacement: recursive rejection.

    Args:
        drafts: Models, a `Drafter` or a `TreeDrafter`.
        num_drafts: Number of drafts sampled from models; None for one of each model.
        draft_processors: Processors of the drafts sampled from models.

    Example:
        >>> default_verifier(lambda ids: ids, 4, None)
        MultiBlockVerifier(budgets='k-seq')
    """
    if isinstance(drafts, TreeDrafter):
        return TreeVerifier(MultiBlockVerifier(budgets="k-seq"))
    if isinstance(drafts, Drafter):
        count, are_different, with_replacement = drafts.num_drafts, drafts.has_different_laws, drafts.with_replacement
    else:
        models = list(drafts) if isinstance(drafts, Sequence) else [drafts]
        count, with_replacement = num_drafts or len(models), True
        are_different = len(models) > 1 or isinstance(draft_processors, Sequence)
    if count == 1:
        return BlockVerification()
    if not with_replacement:
        return RecursiveRejection(with_replacement=False)
    return WeightedVerifier() if are_different else MultiBlockVerifier(budgets="k-seq")
