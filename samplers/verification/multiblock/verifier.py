"""The multi-block verifier: blocks of many identical drafts, verified as a whole."""

import torch
from torch import Tensor

from ..results import Verification, accepted_tokens
from ..sources import RandomSource, one_by_one
from ..token_tree import TokenTree, TreeVerification
from ..verifier import TreeRule
from ..verify_drafts import DraftBlock
from .by_row import descend_block, descend_tree
from .checks import check_drafts, check_nodes
from .distinct_plans import DistinctPlans
from .kseq_plans import SequentialPlans
from .levels import TreeShape, merge, merged_leaders
from .outcome import Outcome
from .plans import LevelPlans
from .priority_plans import PriorityPlans
from .rows import BlockRows, Rows, TreeRows, block_shape, following_weights, tree_shape
from .score_plans import ScorePlans
from .two_phase import two_phase

BUDGETS: dict[str, type[LevelPlans]] = {"optimal": ScorePlans, "k-seq": SequentialPlans, "priority": PriorityPlans}


class MultiBlockVerifier(TreeRule):
    r"""The two-phase rule for whole blocks of independent drafts.

    At each drafted prefix the distinct tokens drafted after it get budgets, the exact probabilities at which a rule of
    one node selects and accepts them; whole subtrees are tried before the path stops at a token (`two_phase`). With one
    draft this is `BlockVerification`, with drafts of one token the rule of the budgets. All that happens is two draws a
    block: where the accepted path ends, and the token after it.

    Args:
        budgets: ``"optimal"`` for the budgets of `OptimalVerifier` (a sort for each prefix that several drafts share),
            ``"k-seq"`` for those of `KSequential` (no sort). ``"priority"`` is for drafts of different distributions:
            at each node a mixture of up to 24 orders of the tokens, of which the first drafted one is selected (a sort
            for each order).
        with_replacement: Whether siblings are drawn independently. Without replacement, each is drawn from its
            distribution without the tokens of the siblings before it; budgets are then those by priority.

    Source: derived for this package (``docs/verification.md``), on block verification, Sun et al. (2024), arXiv
    2403.10444, and the optimum at a node, Khisti et al. (2024), arXiv 2410.18234.

    Example:
        >>> import torch
        >>> laws = torch.full((1, 2, 4, 5), 0.2).log()  # drafts agree with the target: one of them is kept
        >>> drafts = torch.tensor([[[1, 2, 3], [1, 4, 0]]])
        >>> MultiBlockVerifier().verify(laws, laws[:, :, :3], drafts, generator=0).num_accepted
        tensor([3])
    """

    def __init__(self, *, budgets: str = "optimal", with_replacement: bool = True):
        if budgets not in BUDGETS:
            raise ValueError(f"budgets must be one of {sorted(BUDGETS)}, got {budgets!r}")
        if not with_replacement and budgets != "priority":
            raise ValueError(f"budgets must be 'priority' for siblings without replacement, got {budgets!r}")
        self.budgets = budgets
        self.with_replacement = with_replacement
        self.identical_drafts = self._plans.identical_drafts

    def __repr__(self) -> str:
        without = "" if self.with_replacement else ", with_replacement=False"
        return f"MultiBlockVerifier(budgets={self.budgets!r}{without})"

    def rule(self, block: DraftBlock, source: RandomSource) -> Verification:
        """Plan the whole tree of drafts, then draw the end of the path and the token after it."""
        check_drafts(block, self)
        if one_by_one(block.target, block.shape[0], source):
            return descend_block(block, self._plans, source)
        batch, _, size = block.shape
        shape = block_shape(block)
        rows = BlockRows(block, self._plans.precise)
        outcome = self._verify_shape(shape, merged_leaders(shape), rows, source)
        end, length = outcome.end, outcome.length
        winner = torch.where(end > 0, (end - 1) // max(size, 1), -1)
        held = block.tokens[torch.arange(batch, device=end.device), winner.clamp_min(0)]
        return Verification(accepted_tokens(held, length, outcome.following), length, winner, outcome.info(size))

    def tree(self, tree: TokenTree, source: RandomSource) -> TreeVerification:
        """Plan the whole tree, then draw the end of the path and the token after it."""
        shape = tree_shape(tree)
        leader = merged_leaders(shape)
        check_nodes(tree, shape, leader, self)
        if one_by_one(tree.target, tree.tokens.shape[0], source):
            return descend_tree(tree, self._plans, source)
        outcome = self._verify_shape(shape, leader, TreeRows(tree, self._plans.precise), source)
        held = tree.tokens.gather(1, outcome.path.clamp_min(0))
        tokens = accepted_tokens(held, outcome.length, outcome.following)
        return TreeVerification(tokens, outcome.length, outcome.path, outcome.info(tree.tokens.shape[1]))

    @property
    def _plans(self) -> type[LevelPlans]:
        return BUDGETS[self.budgets] if self.with_replacement else DistinctPlans

    def _verify_shape(self, shape: TreeShape, leader: Tensor, rows: Rows, source: RandomSource) -> Outcome:
        plans, merged = self._plans, merge(shape, leader)
        stops = two_phase(
            merged.levels, lambda level: plans(rows.level(level, identical_drafts=plans.identical_drafts)), shape
        )
        end = stops.draw(source)
        return Outcome(shape, merged, stops, end, source.choose(following_weights(rows, stops, shape.depths, end)))
