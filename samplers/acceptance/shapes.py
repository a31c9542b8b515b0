"""Which number of drafts, draft length or tree to take: expected tokens of a rule, and tokens a second."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mixkit._validation import check_integer, check_non_negative, check_positive

from .._validation import check_rows, check_seed
from ..verification.paths import node_leaders, paths
from ..verification.sources import Seed, invert_cdf
from ..verification.tree import TreeVerifier
from ..verification.verifier import TreeRule

_ENTRIES = 1 << 24


@dataclass(frozen=True)
class ExpectedTokens:
    """Tokens of one target call, by simulation.

    Attributes:
        mean: Expected tokens: those accepted and the one after them.
        error: Standard error of the mean.
    """

    mean: float
    error: float


@dataclass(frozen=True)
class RoundCost:
    """Seconds of one round.

    Attributes:
        target: A call of the target on one token.
        target_token: What each further token in the call adds.
        draft: A call of the draft on one token; a round makes one call for each level of the tree.
        draft_token: What each further token in a call of the draft adds.
        verify: A verification.

    Example:
        >>> RoundCost(target=0.03, draft=0.002).seconds((4, 1, 1))
        0.036
    """

    target: float
    target_token: float = 0.0
    draft: float = 0.0
    draft_token: float = 0.0
    verify: float = 0.0

    def __post_init__(self) -> None:
        check_positive("target", self.target)
        for name in ("target_token", "draft", "draft_token", "verify"):
            check_non_negative(name, getattr(self, name))

    def seconds(self, branching: Sequence[int]) -> float:
        """Seconds of a round with a tree of so many children for each node of a depth."""
        total, width, seconds = 0, 1, 0.0
        for children in branching:
            seconds += self.draft + (width - 1) * self.draft_token
            width *= children
            total += width
        return seconds + self.target + total * self.target_token + (self.verify if total else 0.0)


@dataclass(frozen=True)
class ShapeSpeed:
    """What a shape yields.

    Attributes:
        branching: Children of each node, by depth.
        tokens: Tokens of a target call.
        tokens_per_second: Tokens over the seconds of a round.
    """

    branching: tuple[int, ...]
    tokens: ExpectedTokens
    tokens_per_second: float


def expected_tokens(
    rule: TreeRule,
    target: Tensor,
    draft: Tensor,
    branching: Sequence[int],
    *,
    num_samples: int = 1024,
    generator: Seed = 0,
) -> ExpectedTokens:
    r"""Expected tokens of one target call, :math:`1 + E[\text{accepted}]`, from rows of a target and a draft.

    Trees are drawn as a `SampledTree` draws them, siblings without replacement for rules of such siblings, each node
    with a pair of rows taken at random from the data, and verified. So rows at successive positions are taken for
    independent, as they nearly are a few positions apart; ``branching=(m, 1, 1, ...)`` stands for m drafts.

    Args:
        rule: Any rule for trees: a `NodeVerifier`, a `MultiBlockVerifier` or a `TraversalVerification`.
        target: Target probabilities ``(n, v)`` at contexts seen in use.
        draft: Draft probabilities ``(n, v)`` at the same contexts.
        branching: Children of each node, by depth; empty for no drafts.
        num_samples: Number of trees.
        generator: Generator or seed. With one seed, the first nodes of all shapes, counted level by level, get the same
            rows and the same uniforms.

    Raises:
        TypeError: If the rule is no rule for trees.
        ValueError: If rows are no probabilities, or do not match, a number of children is below 1, or siblings without
            replacement outnumber the tokens of a row of the draft.

    Example:
        >>> import torch
        >>> from samplers import MultiBlockVerifier
        >>> target, draft = torch.tensor([[0.6, 0.4]]), torch.tensor([[0.4, 0.6]])
        >>> found = expected_tokens(MultiBlockVerifier(), target, draft, (2, 1), num_samples=4096)
        >>> 2.9 < found.mean < 2.95
        True
    """
    branching = _check_branching(branching)
    check_rows(target=target, draft=draft)
    if target.shape != draft.shape or target.ndim != 2:
        raise ValueError(
            f"target and draft must have one shape (n, v), got {tuple(target.shape)} and {tuple(draft.shape)}"
        )
    check_integer("num_samples", num_samples, low=2)
    verifier, source = TreeVerifier(rule), check_seed(generator)
    parents = tree_parents(branching)
    if not branching:
        return ExpectedTokens(1.0, 0.0)
    if not rule.with_replacement:
        _check_support(draft, max(branching))
    log_target, log_draft = target.log(), draft.log()
    size = max(1, _ENTRIES // ((len(parents) + 1) * target.shape[1]))
    context, uniforms = _random_numbers(len(draft), len(parents), num_samples, source)
    accepted = []
    for at, drawn in zip(context.split(size), uniforms.split(size), strict=True):
        at, tokens = _draw_trees(draft, parents, at, drawn, with_replacement=rule.with_replacement)
        rows = log_target[at], log_draft[at]
        accepted.append(verifier.verify(*rows, tokens, parents, generator=source).num_accepted)
    found = torch.cat(accepted).double()
    return ExpectedTokens(1 + float(found.mean()), float(found.std()) / num_samples**0.5)


def rank_shapes(
    rule: TreeRule,
    target: Tensor,
    draft: Tensor,
    shapes: Iterable[Sequence[int]],
    cost: RoundCost,
    *,
    num_samples: int = 1024,
    generator: int = 0,
) -> list[ShapeSpeed]:
    """Shapes in the order of their tokens a second, the fastest first.

    Args:
        rule: As in `expected_tokens`, with the other arguments.
        target: Target probabilities ``(n, v)``.
        draft: Draft probabilities ``(n, v)``.
        shapes: Branchings to compare; ``()`` is plain decoding.
        cost: Seconds of a round.
        num_samples: Number of trees of each shape.
        generator: Seed, the same for all shapes.

    Example:
        >>> import torch
        >>> from samplers import MultiBlockVerifier
        >>> rows = torch.tensor([[0.6, 0.4]]), torch.tensor([[0.4, 0.6]])
        >>> cost = RoundCost(target=0.03, draft=0.028)
        >>> [speed.branching for speed in rank_shapes(MultiBlockVerifier(), *rows, [(), (2,), (2, 1, 1, 1)], cost)]
        [(2,), (), (2, 1, 1, 1)]
    """
    found = []
    for branching in shapes:
        tokens = expected_tokens(rule, target, draft, branching, num_samples=num_samples, generator=generator)
        found.append(ShapeSpeed(tuple(branching), tokens, tokens.mean / cost.seconds(branching)))
    return sorted(found, key=lambda speed: -speed.tokens_per_second)


def tree_parents(branching: Sequence[int]) -> Tensor:
    """Parents ``(n,)`` of a tree with so many children for each node of a depth, level by level.

    Example:
        >>> tree_parents((2, 1))
        tensor([-1, -1,  0,  1])
    """
    parents: list[int] = []
    level = [-1]
    for children in branching:
        begin = len(parents)
        parents += [node for node in level for _ in range(children)]
        level = list(range(begin, len(parents)))
    return torch.tensor(parents, dtype=torch.long)


def _check_branching(branching: Sequence[int]) -> tuple[int, ...]:
    return tuple(check_integer("branching", children, low=1) for children in branching)


def _check_support(draft: Tensor, siblings: int) -> None:
    """Refuse rows of fewer tokens than siblings that are drawn without replacement."""
    fewest = int((draft > 0).sum(-1).min())
    if fewest < siblings:
        raise ValueError(
            f"draft must hold at least {siblings} tokens in each row for as many siblings without replacement, got a "
            f"row of {fewest}"
        )


def _random_numbers(num_rows: int, num_nodes: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Contexts ``(s, n+1)`` of the root and the nodes, and uniforms ``(s, n)``, drawn node after node."""
    context, uniforms = [torch.randint(num_rows, (count,), generator=generator)], []
    for _ in range(num_nodes):
        uniforms.append(torch.rand(count, generator=generator, dtype=torch.float64))
        context.append(torch.randint(num_rows, (count,), generator=generator))
    return torch.stack(context, 1), torch.stack(uniforms, 1)


def _draw_trees(
    draft: Tensor, parents: Tensor, context: Tensor, uniforms: Tensor, *, with_replacement: bool
) -> tuple[Tensor, Tensor]:
    """Contexts ``(s, n+1)``, one for each prefix, and tokens ``(s, n)``."""
    context = context.clone()
    tokens = torch.zeros_like(context[:, 1:])
    depth = paths(parents)[1][1:]
    for level in range(1, int(depth.max()) + 1):
        nodes = (depth == level).nonzero()[:, 0]
        for node in nodes.tolist():
            weights = draft[context[:, parents[node] + 1]]
            if not with_replacement:
                earlier = (parents[:node] == parents[node]).nonzero()[:, 0]
                weights = weights.scatter(1, tokens[:, earlier], 0.0)
            tokens[:, node] = invert_cdf(weights, uniforms[:, node])
        leader = node_leaders(tokens, parents)[:, nodes + 1]
        context[:, nodes + 1] = context.gather(1, leader)
    return context, tokens
