"""Trees: the exact joint law under every node rule, and the path."""

import itertools

import pytest
import torch

from samplers import (
    BlockVerification,
    KSequential,
    OptimalVerifier,
    RecursiveRejection,
    SamplerMatch,
    TreeVerifier,
    WeightedVerifier,
)
from samplers.exactness import Laws, enumerate_law, random_laws, target_law

TREES = {
    "two children": [-1, -1],
    "three children": [-1, -1, -1],
    "chain": [-1, 0, 1],
    "two and two": [-1, -1, 0, 0],
    "uneven": [-1, -1, -1, 0, 1],
}
RULES = [SamplerMatch(), RecursiveRejection(), KSequential(), OptimalVerifier(), WeightedVerifier(levels=8, steps=2)]


def depth_of(parents):
    depths = []
    for parent in parents:
        depths.append(1 if parent < 0 else depths[parent] + 1)
    return depths


def trees_of(laws, parents, with_replacement=True):
    """Every labeling of a tree: case, tokens, probability, and the prefix of the root and of each node."""
    _, v, _, _ = laws.sizes
    case, labels, weights, prefixes = [], [], [], []
    for c in range(laws.sizes[0]):
        for tokens in itertools.product(range(v), repeat=len(parents)):
            prefix, depth, weight = [0], [0], 1.0
            for i, (token, parent) in enumerate(zip(tokens, parents, strict=True)):
                law = laws.drafts[depth[parent + 1]][c, 0, prefix[parent + 1]]
                earlier = [tokens[k] for k in range(i) if parents[k] == parent]
                if with_replacement:
                    weight *= float(law[token])
                elif token in earlier:
                    weight = 0.0
                else:
                    weight *= float(law[token] / (1 - law[earlier].sum()))
                prefix.append(prefix[parent + 1] * v + token)
                depth.append(depth[parent + 1] + 1)
            if weight > 0:
                case.append(c), labels.append(tokens), weights.append(weight), prefixes.append(prefix)
    return torch.tensor(case), torch.tensor(labels), torch.tensor(weights, dtype=torch.float64), torch.tensor(prefixes)


def law_of_tree(verifier, laws, parents, *, with_replacement=True, with_law=True):
    case, tokens, weight, prefix = trees_of(laws, parents, with_replacement)
    depth = [0, *depth_of(parents)]
    deepest = max(depth)
    target = torch.stack([laws.target[d][case, prefix[:, i]] for i, d in enumerate(depth)], 1).log()
    draft = torch.stack(
        [
            laws.drafts[min(d, deepest - 1)][case, 0, prefix[:, i] % laws.drafts[min(d, deepest - 1)].shape[2]]
            for i, d in enumerate(depth)
        ],
        1,
    ).log()

    def run(rows, source):
        laws_of_draft = draft[rows] if with_law else None
        return verifier.verify(target[rows], laws_of_draft, tokens[rows], torch.tensor(parents), generator=source)

    return enumerate_law(run, laws, case, weight)


@pytest.mark.parametrize("parents", TREES.values(), ids=TREES.keys())
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_joint_law_of_a_tree_is_the_targets(rule, parents, generator):
    v = 3 if len(parents) < 4 else 2
    laws = random_laws(3, v, 1, max(depth_of(parents)), identical=True, generator=generator)
    found = law_of_tree(TreeVerifier(rule), laws, parents)
    torch.testing.assert_close(found.law, target_law(laws), rtol=0, atol=1e-12)


@pytest.mark.parametrize("parents", [[-1, -1], [-1, -1, 0, 0]])
def test_joint_law_of_a_tree_without_replacement(parents, generator):
    laws = random_laws(4, 3, 1, max(depth_of(parents)), identical=True, generator=generator)
    laws = Laws(laws.target, tuple(0.8 * level + 0.2 / 3 for level in laws.drafts))
    verifier = TreeVerifier(RecursiveRejection(with_replacement=False))
    found = law_of_tree(verifier, laws, parents, with_replacement=False)
    torch.testing.assert_close(found.law, target_law(laws), rtol=0, atol=1e-12)


def test_joint_law_of_a_tree_without_a_law(generator):
    laws = random_laws(3, 3, 1, 2, identical=True, generator=generator)
    found = law_of_tree(TreeVerifier(RecursiveRejection()), laws, [-1, -1, 0], with_law=False)
    torch.testing.assert_close(found.law, target_law(laws), rtol=0, atol=1e-12)


def test_a_wrong_law_shows(generator):
    laws = random_laws(6, 3, 1, 1, identical=True, generator=generator)
    wrong = Laws(laws.target, tuple(level.flip(-1) for level in laws.drafts))
    case, tokens, weight, _ = trees_of(laws, [-1, -1])
    keep = (wrong.drafts[0][case[:, None], 0, 0, tokens] > 0).all(-1)
    case, tokens, weight = case[keep], tokens[keep], weight[keep]

    def run(rows, source):
        target = torch.cat(
            [laws.target[0][case[rows]], *[laws.target[1][case[rows], tokens[rows, i], None] for i in (0, 1)]], 1
        )
        draft = wrong.drafts[0][case[rows], 0].expand_as(target)
        return TreeVerifier(RecursiveRejection()).verify(
            target.log(), draft.log(), tokens[rows], torch.tensor([-1, -1]), generator=source
        )

    found = enumerate_law(run, laws, case, weight)
    assert float((found.law - found.mass[:, None] * target_law(laws)).abs().max()) > 1e-2


def test_path_and_tokens_agree_and_padding_is_not_read(generator):
    parents = torch.tensor([[-1, -1, 0, 0, 2, 1], [-1, 0, 0, 1, 1, -9]])
    target = torch.randn(2, 7, 4, generator=generator)
    tokens = torch.tensor([[0, 1, 2, 3, 1, 1], [2, 0, 1, 3, 2, -5]])
    draft = torch.zeros(2, 7, 4)
    spoilt = target.clone()
    spoilt[1, 6] = torch.nan
    lengths = torch.tensor([6, 5])
    for seed in range(20):
        out = TreeVerifier(RecursiveRejection()).verify(
            spoilt, draft, tokens, parents, lengths=lengths, generator=torch.Generator().manual_seed(seed)
        )
        for row, n in enumerate(out.num_accepted.tolist()):
            path = out.path[row, :n].tolist()
            assert [int(tokens[row, i]) for i in path] == out.tokens[row, :n].tolist()
            assert all(int(parents[row, i]) == before for i, before in zip(path, [-1, *path], strict=False))
            assert (out.tokens[row, n + 1 :] == -1).all()
            assert (out.path[row, n:] == -1).all()


TWINS = {"tokens": torch.tensor([[1, 1, 2]]), "parents": torch.tensor([-1, -1, 1])}  # node 1 alone goes on


def twins(generator):
    """Laws of a tree whose first two nodes hold the same token: those of the second are those of the first."""
    laws = [torch.randn(1, 4, 3, generator=generator) for _ in range(2)]
    for law in laws:
        law[:, 2] = law[:, 1]
    return laws


def test_siblings_with_the_same_token_go_on_under_one_law(generator):
    target, draft = twins(generator)
    draft[:, 1] = torch.nan  # the first has no children
    target[..., 1] += 20.0
    target[:, 2:, 2] += 40.0
    target[:, 1] = target[:, 2]
    out = TreeVerifier(RecursiveRejection()).verify(target, draft, **TWINS, generator=generator)
    assert out.tokens[:, :2].tolist() == [[1, 2]]
    assert out.path.tolist() == [[1, 2, -1]]


def test_siblings_with_the_same_token_under_two_laws_are_refused(generator):
    target, draft = twins(generator)
    target[..., 1] += 20.0
    target[:, 1] = target[:, 2] + torch.tensor([0.0, 0.1, 0.0])
    with pytest.raises(ValueError, match="target_logits must be the same law at siblings that hold the same token"):
        TreeVerifier(RecursiveRejection()).verify(target, draft, **TWINS, generator=generator)
    target[:, 1] = target[:, 2]
    more = {"tokens": torch.tensor([[1, 1, 2, 0]]), "parents": torch.tensor([-1, -1, 1, 0])}
    target, draft = (torch.cat([law, law[:, -1:]], 1) for law in (target, draft))
    draft[:, 1, 0] += 0.1
    with pytest.raises(ValueError, match="draft_logits must be the same law at siblings that hold the same token"):
        TreeVerifier(RecursiveRejection()).verify(target, draft, **more, generator=generator)


def test_greedy_tree_follows_the_argmax(generator):
    target = torch.nn.functional.one_hot(torch.tensor([[1, 2, 0, 3]]), 4).log()
    out = TreeVerifier(SamplerMatch()).verify(
        target, None, torch.tensor([[1, 0, 2]]), torch.tensor([-1, -1, 0]), generator=generator
    )
    assert out.tokens.tolist() == [[1, 2, 3, -1]]
    assert out.path.tolist() == [[0, 2, -1]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parents": torch.tensor([0, -1])}, "parents must be -1 or the index of an earlier node"),
        ({"parents": torch.tensor([-1])}, "parents must have shape"),
        ({"tokens": torch.tensor([[0, 7]])}, "draft_tokens must lie in 0..2"),
        ({"target_logits": torch.full((1, 3, 3), torch.nan)}, "target_logits must hold no NaN"),
        ({"draft_logits": torch.zeros(1, 3, 4)}, "share one vocabulary"),
        ({"draft_logits": torch.tensor([0.0, 0.0, -torch.inf]).expand(1, 3, 3)}, "positive draft probability"),
    ],
)
def test_wrong_trees_are_refused(change, message, generator):
    given = {
        "target_logits": torch.zeros(1, 3, 3),
        "draft_logits": torch.zeros(1, 3, 3),
        "tokens": torch.tensor([[0, 2]]),
        "parents": torch.tensor([-1, -1]),
    }
    with pytest.raises(ValueError, match=message):
        TreeVerifier(RecursiveRejection()).verify(**(given | change), generator=generator)


def test_tree_verifier_refuses_rules_of_whole_drafts():
    with pytest.raises(TypeError, match=r"rule must be a rule for trees, as a NodeVerifier .* got BlockVerification"):
        TreeVerifier(BlockVerification())
