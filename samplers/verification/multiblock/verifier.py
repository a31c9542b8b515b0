"""The multi-block verifier: blocks of many identical drafts, verified as a whole."""

import torch
from torch import Tensor

from ..node import compute_dtype
from ..results import Info, Verification
from ..shared_prefix import check_led_rows, leaders
from ..sources import RandomSource
from ..verifier import Verifier
from ..verify_drafts import DraftBlock
from .kseq_plans import SequentialPlans
from .levels import Level, TreeShape, merge_levels
from .plans import Ceiling, LevelPlans, LevelRows
from .score_plans import ScorePlans
from .two_phase import Stops, two_phase

BUDGETS: dict[str, type[LevelPlans]] = {"optimal": ScorePlans, "k-seq": SequentialPlans}


class MultiBlockVerifier(Verifier):
    r"""The two-phase rule for whole blocks of identical independent drafts.

    At each drafted prefix the distinct tokens drafted after it get budgets, the exact probabilities at which a rule of
    one node selects and accepts them; whole subtrees are tried before the path stops at a token (`two_phase`). With one
    draft this is `BlockVerification`, with drafts of one token the rule of the budgets. All that happens is two draws a
    block: where the accepted path ends, and the token after it.

    Args:
        budgets: ``"optimal"`` for the budgets of `OptimalVerifier` (a sort for each prefix that several drafts share),
            ``"k-seq"`` for those of `KSequential` (no sort).

    Source: derived for this package (``docs/verification.md``), on block verification, Sun et al. (2024), arXiv
    2403.10444, and the optimum at a node, Khisti et al. (2024), arXiv 2410.18234.

    Example:
        >>> import torch
        >>> laws = torch.full((1, 2, 4, 5), 0.2).log()  # drafts agree with the target: one of them is kept
        >>> drafts = torch.tensor([[[1, 2, 3], [1, 4, 0]]])
        >>> MultiBlockVerifier().verify(laws, laws[:, :, :3], drafts, generator=0).num_accepted
        tensor([3])
    """

    identical_drafts = True

    def __init__(self, *, budgets: str = "optimal"):
        if budgets not in BUDGETS:
            raise ValueError(f"budgets must be one of {sorted(BUDGETS)}, got {budgets!r}")
        self.budgets = budgets

    def rule(self, block: DraftBlock, source: RandomSource) -> Verification:
        """Plan the whole tree of drafts, then draw the end of the path and the token after it."""
        check_shared_laws(block)
        plans = BUDGETS[self.budgets]
        rows = _BlockRows(block, plans.precise)
        batch, num_drafts, size = block.shape
        stops = two_phase(
            merge_levels(block_shape(block)), lambda level: plans(rows.level(level)), (batch, num_drafts * size + 1)
        )
        end = source.choose(stops.law)
        return _verification(block, stops, end, source.choose(_following(rows, stops, end)))


def block_shape(block: DraftBlock) -> TreeShape:
    """The drafts of a block as chains below one root: draft ``j``'s token ``i`` is row ``1 + j t + i``."""
    batch, num_drafts, size = block.shape
    device = block.tokens.device
    depths = torch.arange(size, device=device).repeat(num_drafts)
    rows = torch.arange(num_drafts * size, device=device)
    parents = torch.where(depths > 0, rows, 0).expand(batch, -1)
    real = torch.arange(size, device=device) < block.lengths[..., None]
    depths = torch.nn.functional.pad(depths + 1, (1, 0)).expand(batch, -1)
    return TreeShape(block.tokens.flatten(1), parents, real.flatten(1), depths, size)


def check_shared_laws(block: DraftBlock) -> None:
    """Refuse target rows, or draft rows, that differ among drafts that share a prefix."""
    _, num_drafts, size = block.shape
    if num_drafts == 1 or all(part is None or part.stride(1) == 0 for part in (block.target, block.draft)):
        return
    leader = leaders(block.tokens, block.lengths)
    own = torch.arange(num_drafts, device=leader.device)[:, None]
    for i in range(size + 1):
        for name, laws, last in (("target_logits", block.target, i), ("draft_logits", block.draft, i + 1)):
            if last <= size and laws is not None:
                reached = block.lengths >= last
                first = leader[..., i] if last == i else _leaders_going_on(leader[..., i], reached)
                first = torch.where(reached, first, own[:, 0])
                rule = "the same law for all drafts that share a prefix"
                hint = ", for a verifier of identical drafts" if last > i else ""
                check_led_rows(name, laws[:, :, i], first, rule + hint)


def _leaders_going_on(leader: Tensor, going: Tensor) -> Tensor:
    """First draft ``(B, m)`` of each draft's prefix among those that have a token after it."""
    same = (leader[:, :, None] == leader[:, None]) & going[:, None]
    return same.to(torch.uint8).argmax(-1)


class _BlockRows:
    """The rows of a block's distributions, by rows of the tree."""

    def __init__(self, block: DraftBlock, precise: bool):
        if block.draft is None:
            raise ValueError("draft_logits must be given to verify a block, got None")
        self.block, self.draft_logits = block, block.draft
        self.dtype = compute_dtype(block.target, precise=precise)

    def target(self, row: Tensor, node: Tensor) -> Tensor:
        """Target probabilities ``(r, v)`` after a row of the tree."""
        draft, position = self._split(node)
        return self.block.target[row, draft, position + 1].softmax(-1, dtype=self.dtype)

    def draft(self, row: Tensor, child: Tensor) -> Tensor:
        """Probabilities ``(r, v)`` that a drafted token was drawn from."""
        draft, position = self._split(child)
        return self.draft_logits[row, draft, position.clamp_min(0)].softmax(-1, dtype=self.dtype)

    def level(self, level: Level) -> LevelRows:
        """The distributions and the drafted tokens of a level."""
        tokens = torch.nn.functional.pad(self.block.tokens.flatten(1), (1, 0))
        return LevelRows(
            self.target(level.batch_row, level.node),
            self.draft(level.batch_row, level.child[:, 0]),
            tokens[level.batch_row[:, None], level.child],
            level.active,
            level.leads,
        )

    def _split(self, node: Tensor) -> tuple[Tensor, Tensor]:
        """Draft and position of a drafted token; position -1 of draft 0 for the root."""
        size = max(self.block.shape[2], 1)
        position = torch.where(node > 0, (node - 1) % size, -1)
        return torch.where(node > 0, (node - 1) // size, 0), position


def _following(rows: _BlockRows, stops: Stops, end: Tensor) -> Tensor:
    """Weights ``(B, v)`` of the token after the end of the path."""
    row = torch.arange(end.numel(), device=end.device)
    weights = rows.target(row, end)
    some = (stops.first_child[row, end] > 0).nonzero()[:, 0]
    if some.numel():
        at = some * stops.law.shape[1] + end[some]
        ceiling = stops.ceiling
        here = Ceiling(ceiling.weight[at], ceiling.of_target[at], ceiling.of_draft[at])
        draft = rows.draft(some, stops.first_child[some, end[some]])
        weights[some] = here.leftover(weights[some], draft)
    return weights


def _verification(block: DraftBlock, stops: Stops, end: Tensor, following: Tensor) -> Verification:
    batch, _, size = block.shape
    row = torch.arange(batch, device=end.device)
    winner = torch.where(end > 0, (end - 1) // max(size, 1), -1)
    accepted = torch.where(end > 0, (end - 1) % max(size, 1) + 1, 0)
    steps = torch.arange(size + 1, device=end.device)
    held = block.tokens[row, winner.clamp_min(0)]
    tokens = torch.where(steps < accepted[:, None], torch.nn.functional.pad(held, (0, 1)), -1)
    tokens.scatter_(1, accepted[:, None], following[:, None])
    return Verification(tokens, accepted, winner, _info(block, stops, winner.clamp_min(0), accepted))


def _info(block: DraftBlock, stops: Stops, winner: Tensor, accepted: Tensor) -> Info:
    """The probability of each step given the drafts, and who competed along the accepted path."""
    batch, num_drafts, size = block.shape
    by_depth = stops.law[:, 1:].view(batch, num_drafts, size).sum(1)
    beyond = torch.cat([by_depth.flip(-1).cumsum(-1).flip(-1), by_depth.new_zeros(batch, 1)], -1)
    before = torch.cat([beyond.new_ones(batch, 1), beyond[:, : max(size - 1, 0)]], -1)[:, :size]
    steps = torch.arange(size, device=accepted.device)
    leader = leaders(block.tokens, block.lengths)
    row = torch.arange(batch, device=accepted.device)[:, None]
    node = torch.where(steps > 0, 1 + leader[row, winner[:, None], steps] * size + steps - 1, 0)
    reached = steps <= accepted[:, None]
    num_active = torch.where(reached, stops.num_children.gather(1, node), 0)
    probability = torch.where(before > 0, beyond[:, :size] / before.clamp_min(1e-300), 0.0)
    return Info(torch.where(reached & (num_active > 0), probability.clamp_max(1.0), 0.0), num_active)
