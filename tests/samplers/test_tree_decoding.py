"""Token trees in the decoding loop: the exact law of the output, and what fits together."""

import pytest
import torch

from samplers import (
    BlockVerification,
    KSequential,
    OptimalVerifier,
    RecursiveRejection,
    SampledTree,
    SamplerMatch,
    SpeculativeDecoder,
    SpeculativeSampling,
    TreeVerifier,
)
from samplers.decoding import CallableScorer, Scorer
from samplers.processors import Temperature, TopK

from .test_decoding import Table, V, exact_law

RULES = [SamplerMatch(), RecursiveRejection(), KSequential(), OptimalVerifier()]


def tree_decoder(rule, branching, processors=None, draft_processors=None):
    tree = SampledTree(Table(1), branching, draft_processors)
    return SpeculativeDecoder(Table(0), tree, TreeVerifier(rule), processors=processors)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("branching", [(2,), (1, 1), (2, 1)])
def test_law_is_exactly_the_target(rule, branching):
    found = exact_law(tree_decoder(rule, branching), [1, 0], 3)
    torch.testing.assert_close(found, Table(0).law([1, 0], 3), rtol=0, atol=1e-12)


def test_law_is_exactly_the_processed_target():
    decoder = tree_decoder(OptimalVerifier(), (2, 1), Temperature(0.7), TopK(2))
    found = exact_law(decoder, [2], 3)
    torch.testing.assert_close(found, Table(0).law([2], 3, Temperature(0.7).process), rtol=0, atol=1e-12)


def test_a_chain_is_a_tree():
    """One child a node: the statistics of speculative sampling, in law; here of a perfect draft."""
    decoder = SpeculativeDecoder(Table(0), SampledTree(Table(0), (1, 1, 1)), TreeVerifier(SpeculativeSampling()))
    out = decoder.decode([[0], [1, 2]], max_new_tokens=9, generator=torch.Generator().manual_seed(0))
    assert out.statistics.block_efficiency == 4.0
    assert out.statistics.target_calls.tolist() == [2, 2]


def test_a_row_does_not_depend_on_the_batch():
    decoder, prompts = tree_decoder(RecursiveRejection(), (2, 2)), [[0], [1, 2, 0], [2, 2]]
    together = decoder.decode(
        prompts, max_new_tokens=7, generator=[torch.Generator().manual_seed(row) for row in range(3)]
    )
    for row, prompt in enumerate(prompts):
        alone = decoder.decode([prompt], max_new_tokens=7, generator=[torch.Generator().manual_seed(row)])
        assert torch.equal(alone.sequences[0], together.sequences[row])


class Noisy(Scorer):
    """A scorer whose logits depend a little on the place of a row in the batch, as those of half precision do."""

    def __init__(self, model):
        self.plain = CallableScorer(model)

    def scores(self, ids, lengths, count):
        places = torch.arange(len(ids), dtype=torch.float64) % 7
        return self.plain.scores(ids, lengths, count) + 0.05 * torch.sin(places[:, None, None] + torch.arange(V))


def test_nodes_of_one_prefix_have_one_law_although_their_rows_differ():
    tree = SampledTree(Noisy(Table(1)), (3, 2, 2))
    decoder = SpeculativeDecoder(Noisy(Table(0)), tree, TreeVerifier(RecursiveRejection()))
    out = decoder.decode([[0], [1, 2]] * 10, max_new_tokens=12, generator=list(range(20)))
    assert out.lengths.tolist() == [12] * 20  # siblings of one token abound: three symbols, three children


def test_a_wider_tree_is_accepted_further(generator):
    """1000 rows each; the difference is far beyond their standard errors of about 0.02."""
    efficiency = [
        tree_decoder(OptimalVerifier(), branching)
        .decode([[0]] * 1000, max_new_tokens=9, generator=generator)
        .statistics.block_efficiency
        for branching in [(1, 1), (4, 2)]
    ]
    assert efficiency[1] > efficiency[0] + 0.1


def test_a_tree_never_outruns_the_length_limit(generator):
    lengths = []

    def target(ids):
        lengths.append(ids.shape[1])
        return torch.zeros(*ids.shape, V)

    tree = SampledTree(target, (2, 2, 2))
    SpeculativeDecoder(target, tree, TreeVerifier(SamplerMatch())).decode([[0]], max_new_tokens=5, generator=generator)
    assert max(lengths) <= 5


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: SampledTree(Table(0), ()), "branching must have at least one level"),
        (lambda: SampledTree(Table(0), (2, 0)), "branching must be at least 1, got 0"),
        (lambda: SpeculativeDecoder(Table(0), Table(1), TreeVerifier(SamplerMatch())), "must go together"),
        (lambda: SpeculativeDecoder(Table(0), SampledTree(Table(1)), BlockVerification()), "must go together"),
        (lambda: tree_decoder(SpeculativeSampling(), (2,)), "branching must be at most 1"),
        (lambda: tree_decoder(RecursiveRejection(with_replacement=False), (2,)), "without replacement"),
    ],
)
def test_what_does_not_fit_is_refused(make, match):
    with pytest.raises(ValueError, match=match):
        make()
