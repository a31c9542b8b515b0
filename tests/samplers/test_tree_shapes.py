"""Which shapes of grown trees leave a verification lossless, and which do not: every tree is enumerated."""

import pytest
import torch

from samplers import MultiBlockVerifier, OptimalVerifier, TreeVerifier
from samplers.exactness import enumerate_law, random_laws, target_law

RULES = [OptimalVerifier(), MultiBlockVerifier(), MultiBlockVerifier(budgets="k-seq")]


def prefix_of(nodes, place, v):
    """Depth and index of the prefix at a row of the tree; row 0 is the root."""
    if place == 0:
        return 0, 0
    token, parent = nodes[place - 1]
    depth, index = prefix_of(nodes, parent, v)
    return depth + 1, index * v + token


def all_trees(laws, case, grow):
    """Every tree that ``grow(nodes) -> row of the next node's parent`` makes, with its probability."""
    _, v, _, _ = laws.sizes
    done, going = [], [([], 1.0)]
    while going:
        nodes, weight = going.pop()
        parent = grow(nodes)
        if parent is None:
            done.append((nodes, weight))
            continue
        depth, index = prefix_of(nodes, parent, v)
        for token, prob in enumerate(laws.drafts[depth][case, 0, index].tolist()):
            if prob > 0:
                going.append(([*nodes, (token, parent)], weight * prob))
    return done


def error(rule, laws, grow, keep=lambda nodes: nodes):
    """Largest error of the joint distribution over trees that grow and are then pruned."""
    count, v, _, t = laws.sizes
    trees = [(c, keep(nodes), w) for c in range(count) for nodes, w in all_trees(laws, c, grow)]
    size = max(len(nodes) for _, nodes, _ in trees)
    case = torch.tensor([c for c, _, _ in trees])
    lengths = torch.tensor([len(nodes) for _, nodes, _ in trees])
    padded = [nodes + [(0, 0)] * (size - len(nodes)) for _, nodes, _ in trees]
    tokens = torch.tensor([[token for token, _ in nodes] for nodes in padded]).view(-1, size)
    parents = torch.tensor([[parent - 1 for _, parent in nodes] for nodes in padded]).view(-1, size)
    target, draft = torch.zeros(len(trees), size + 1, v), torch.zeros(len(trees), size + 1, v)
    target, draft = target.double(), draft.double()
    for i, (c, nodes, _) in enumerate(trees):
        for row in range(len(nodes) + 1):
            depth, index = prefix_of(nodes, row, v)
            target[i, row] = laws.target[depth][c, index].log()
            draft[i, row] = laws.drafts[min(depth, t - 1)][c, 0, index if depth < t else 0].log()

    def run(rows, source):
        parts = target[rows], draft[rows], tokens[rows], parents[rows]
        return TreeVerifier(rule).verify(*parts, lengths=lengths[rows], generator=source)

    found = enumerate_law(run, laws, case, torch.tensor([w for _, _, w in trees], dtype=torch.float64))
    return float((found.law - target_law(laws)).abs().max())


@pytest.fixture
def laws():
    return random_laws(5, 3, 1, 2, identical=True, generator=2)


def static(nodes):
    """Two children of the root, the first of which has two children and the second one."""
    return [0, 0, 1, 1, 2, None][len(nodes)]


def by_earlier_levels(nodes):
    """Two children of the root; the larger token gets both nodes of the next level, as a beam would give them."""
    if len(nodes) < 2:
        return 0
    return (1 if nodes[0][0] >= nodes[1][0] else 2) if len(nodes) < 4 else None


def by_a_sibling(nodes):
    """A second child of the root is drawn only if the first holds token 0."""
    if len(nodes) == 0 or (len(nodes) == 1 and nodes[0][0] == 0):
        return 0
    return None


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("grow", [static, by_earlier_levels], ids=["static", "by earlier levels"])
def test_trees_grown_level_by_level_are_lossless(rule, grow, laws):
    assert error(rule, laws, grow) < 1e-12


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_children_counted_by_a_siblings_token_are_not(rule, laws):
    assert error(rule, laws, by_a_sibling) > 1e-3


@pytest.mark.parametrize("rule", RULES, ids=repr)
def test_sampled_children_dropped_by_their_own_token_are_not(rule, laws):
    def two(nodes):
        return 0 if len(nodes) < 2 else None

    def large_tokens(nodes):
        return [node for node in nodes if node[0] > 0]

    assert error(rule, laws, two, large_tokens) > 1e-3


def test_depth_by_a_deeper_token_is_not_lossless_for_the_rule_of_whole_trees():
    """The first child goes on only if the second child's own child holds token 0: a token of its children's level."""
    laws = random_laws(5, 2, 1, 3, identical=True, generator=4)

    def grow(nodes):
        steps = [0, 0, 2, 1]
        if len(nodes) < 3:
            return steps[len(nodes)]
        return 1 if len(nodes) == 3 and nodes[2][0] == 0 else None

    assert error(MultiBlockVerifier(), laws, grow) > 1e-5


def test_whole_trees_keep_more_than_nodes(laws):
    """Expected accepted tokens on a static tree: never fewer, and more in all."""
    two = laws.cases(torch.tensor([0, 1]))
    gain = expected(MultiBlockVerifier(), two) - expected(OptimalVerifier(), two)
    assert (gain > -1e-12).all()
    assert gain.sum() > 0.001


def expected(rule, laws):
    """Expected accepted tokens ``(c,)`` on the static tree, by enumeration."""
    _, v, _, _ = laws.sizes
    trees = [(c, nodes, weight) for c in range(laws.sizes[0]) for nodes, weight in all_trees(laws, c, static)]
    case = torch.tensor([c for c, _, _ in trees])
    tokens = torch.tensor([[token for token, _ in nodes] for _, nodes, _ in trees])
    places = [(c, [prefix_of(nodes, row, v) for row in range(6)]) for c, nodes, _ in trees]
    target = torch.stack([torch.stack([laws.target[d][c, i] for d, i in rows]) for c, rows in places])
    levels = [level[:, 0] for level in laws.drafts]
    draft = torch.stack([torch.stack([levels[min(d, 1)][c, i * (d < 2)] for d, i in rows]) for c, rows in places])
    parents = torch.tensor([-1, -1, 0, 0, 1])

    def run(rows, source):
        parts = target[rows].log(), draft[rows].log(), tokens[rows], parents
        return TreeVerifier(rule).verify(*parts, generator=source)

    weight = torch.tensor([w for _, _, w in trees], dtype=torch.float64)
    return enumerate_law(run, laws, case, weight).mean_accepted
