"""Trees of a shape of one's own, of a draft's most likely tokens."""

import pytest
import torch

from samplers import (
    Chain,
    OptimalVerifier,
    RecursiveRejection,
    SpeculativeDecoder,
    SpeculativeSampling,
    Temperature,
    TopTree,
    TreeVerifier,
)
from samplers.adapters.huggingface import KeyValueScorer
from samplers.decoding import CallableScorer, Histories

from .test_decoding import Table, V, exact_law
from .test_huggingface import gpt2, mistral

SHAPES = [[-1], [-1, -1, 0], [-1, 0, 1], [-1, -1, 0, 0, 1], [-1, -1, -1, -1, 0]]


@pytest.mark.parametrize("rule", [RecursiveRejection(), OptimalVerifier(), SpeculativeSampling()], ids=repr)
@pytest.mark.parametrize("parents", SHAPES)
def test_law_is_exactly_the_target(rule, parents):
    """The last shape has more children than there are tokens."""
    decoder = SpeculativeDecoder(Table(0), TopTree(Table(1), parents), TreeVerifier(rule))
    torch.testing.assert_close(exact_law(decoder, [1, 0], 3), Table(0).law([1, 0], 3), rtol=0, atol=1e-12)


def test_law_is_exactly_the_processed_target_with_ends():
    decoder = SpeculativeDecoder(
        Table(0), TopTree(Table(1), SHAPES[3]), TreeVerifier(RecursiveRejection()), processors=Temperature(0.7)
    )
    expected = Table(0).law([2], 3, Temperature(0.7).process)
    torch.testing.assert_close(exact_law(decoder, [2], 3), expected, rtol=0, atol=1e-12)


def test_children_are_the_most_likely_tokens():
    tree, model = TopTree(Table(1), [-1, -1, 0, 0, 1, 3]), Table(1)
    rows = Histories.of([[0], [1, 2]])
    tokens = tree.propose(rows, torch.tensor([3, 2]), V, None).tokens
    for row, history in enumerate(([0], [1, 2])):
        for node, (parent, rank) in enumerate(zip([-1, -1, 0, 0, 1, 3], [0, 1, 0, 1, 0, 0], strict=True)):
            path, above = list(history), parent
            nodes = []
            while above >= 0:
                nodes.append(above)
                above = int(tree.parents[above])
            path += [int(tokens[row, one]) for one in reversed(nodes)]
            if row == 0 or node < 5:  # the second row has no room for the last level
                ordered = model(torch.tensor([path]))[0, -1].argsort(descending=True)
                assert int(tokens[row, node]) == int(ordered[rank])


@pytest.mark.parametrize("processors", [Temperature(0), Chain(Temperature(0.5), Temperature(0))], ids=repr)
def test_a_greedy_target_leaves_the_ranks_of_the_children(processors):
    """Its processors leave the largest logit alone: what comes second is read before that."""
    parents = [-1, -1, 0, 0]
    decoder = SpeculativeDecoder(Table(0), TopTree(Table(1), parents), processors=processors)
    rows, limits = Histories.of([[0], [1, 2]]), torch.tensor([2, 2])
    found = decoder.drafter.propose(rows, limits, V, None).tokens
    assert torch.equal(found, TopTree(Table(1), parents).propose(rows, limits, V, None).tokens)


@pytest.mark.parametrize("make", [gpt2, mistral])
def test_with_and_without_a_cache(make):
    def run(wrap, **settings):
        tree = TopTree(wrap(make(5)), SHAPES[3])
        decoder = SpeculativeDecoder(wrap(make(4)), tree, TreeVerifier(RecursiveRejection()), **settings)
        return decoder.decode([[3, 1, 4], [1, 5, 9, 2, 6], [5]], max_new_tokens=15, generator=[0, 1, 2]).tokens

    assert torch.equal(run(KeyValueScorer), run(CallableScorer))
    plain = make(4).generate(torch.tensor([[3, 1, 4]]), max_new_tokens=15, do_sample=False)[0, 3:]
    assert torch.equal(run(KeyValueScorer, processors=Temperature(0))[0], plain)


@pytest.mark.parametrize(
    ("parents", "match"),
    [
        ([], "n at least 1"),
        ([0], "-1 or the index of an earlier node"),
        ([-1, -2], "-1 or the index of an earlier node"),
        ([-1, 0, -1], r"nodes in order of depth, got depths \[1, 2, 1\]"),
    ],
)
def test_bad_shapes_are_refused(parents, match):
    with pytest.raises(ValueError, match=match):
        TopTree(Table(1), parents)
