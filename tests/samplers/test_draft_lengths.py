"""Draft lengths chosen for each row and round: exact as long as they look at the past alone."""

from dataclasses import replace

import pytest
import torch

from samplers import (
    BlockVerification,
    DraftLength,
    ExpectedGain,
    OptimalVerifier,
    RecursiveRejection,
    SampledDrafts,
    SampledTree,
    SpeculativeDecoder,
    SpeculativeSampling,
    TreeVerifier,
)
from samplers.decoding import CallableScorer

from .test_decoding import Table, V, exact_law


class FromThePast(DraftLength):
    """One more than was accepted in all rounds so far, modulo 3: depends on everything it may depend on."""

    def choose(self, statistics, rows):
        return (statistics.accepted[rows].sum(-1) + statistics.target_calls[rows]) % 3


@pytest.mark.parametrize(
    ("verifier", "num_drafts"), [(SpeculativeSampling(), 1), (BlockVerification(), 1), (OptimalVerifier(), 2)], ids=repr
)
def test_law_is_exactly_the_target(verifier, num_drafts):
    decoder = SpeculativeDecoder(
        Table(0), Table(1), verifier, num_drafts=num_drafts, draft_length=2, draft_lengths=FromThePast()
    )
    torch.testing.assert_close(exact_law(decoder, [0, 2], 4), Table(0).law([0, 2], 4), rtol=0, atol=1e-12)


def test_law_with_a_tree_is_exactly_the_target():
    tree = SampledTree(Table(1), (2, 1))
    decoder = SpeculativeDecoder(Table(0), tree, TreeVerifier(RecursiveRejection()), draft_lengths=FromThePast())
    torch.testing.assert_close(exact_law(decoder, [1], 3), Table(0).law([1], 3), rtol=0, atol=1e-12)


class Peeking(SampledDrafts):
    """The trap: drafts cut before the first token that the target of this very round finds unlikely."""

    def propose(self, histories, limits, vocab_size, source):
        drafts = super().propose(histories, limits, vocab_size, source)
        rows = histories.with_room(1, 2).append(drafts.tokens[:, 0], drafts.lengths[:, 0])
        law = CallableScorer(Table(0)).scores(rows.trimmed(), rows.lengths, 1 + int(drafts.lengths.max()))
        held = law.softmax(-1)[:, :-1].gather(-1, drafts.tokens[:, 0, : law.shape[1] - 1, None])[..., 0]
        kept = (held > 0.3).long().cumprod(-1).sum(-1)
        return replace(drafts, lengths=torch.minimum(drafts.lengths[:, 0], kept)[:, None])


def test_a_length_that_looks_at_the_target_is_lossy():
    """Enumeration shows it; so a `DraftLength` is given counts of earlier rounds and nothing else."""
    decoder = SpeculativeDecoder(Table(0), Peeking(Table(1), draft_length=2))
    assert (exact_law(decoder, [0, 2], 3) - Table(0).law([0, 2], 3)).abs().max() > 1e-2


def test_a_choice_sees_copies_of_the_past_alone(generator):
    seen = []

    class Spoiler(DraftLength):
        def choose(self, statistics, rows):
            seen.append((statistics.target_calls.clone(), statistics.accepted.clone()))
            statistics.accepted.fill_(99)
            return torch.full_like(rows, 2)

    out = SpeculativeDecoder(Table(0), Table(1), draft_lengths=Spoiler()).decode(
        [[0]] * 4, max_new_tokens=12, generator=generator
    )
    assert int(out.statistics.accepted.max()) < 99
    assert seen[0][0].tolist() == [0] * 4
    assert out.statistics.offered[:, 2:].sum() == 0


def test_expected_gain_by_hand():
    gain = ExpectedGain(cost=0.2, longest=6)
    for acceptance in (0.01, 0.15, 0.4, 0.7, 0.9, 0.99):
        ratio = [sum(acceptance**i for i in range(t + 1)) / (1 + 0.2 * t) for t in range(7)]
        assert int(gain.best(torch.tensor(acceptance, dtype=torch.float64))) == ratio.index(max(ratio))


def test_good_drafts_grow_and_bad_ones_are_given_up(generator):
    class Wrong(Table):
        """Draws what the target never does."""

        def __call__(self, ids):
            return torch.tensor([0.0, -40.0, -40.0]).expand(*ids.shape, V)

    def target(ids):
        return torch.tensor([-40.0, 0.0, 0.0]).expand(*ids.shape, V)

    settings = {"draft_length": 8, "draft_lengths": ExpectedGain(cost=0.1, longest=8, retry=10)}
    good = SpeculativeDecoder(target, target, **settings).decode([[0]], max_new_tokens=200, generator=generator)
    bad = SpeculativeDecoder(target, Wrong(0), **settings).decode([[0]], max_new_tokens=200, generator=generator)
    assert good.statistics.block_efficiency > 7
    assert int(good.statistics.offered[0, 7]) > 10
    assert int(bad.statistics.accepted.sum()) == 0
    rounds = int(bad.statistics.target_calls)
    assert int(bad.statistics.offered[0, 0]) <= 24 + rounds / 10 + 1  # 2.8 / (4 + 24) is the cost; a try in ten


@pytest.mark.parametrize(
    ("lengths", "error", "match"),
    [
        (torch.tensor([-1]), ValueError, "of at least 0 for each of 1 rows"),
        (torch.tensor([1, 2]), ValueError, "of at least 0 for each of 1 rows"),
        (torch.tensor([0.5]), TypeError, "integer tensor"),
        (3, TypeError, "integer tensor, got int"),
    ],
)
def test_bad_choices_are_refused(lengths, error, match):
    class Bad(DraftLength):
        def choose(self, statistics, rows):
            return lengths

    with pytest.raises(error, match=match):
        SpeculativeDecoder(Table(0), Table(1), draft_lengths=Bad()).decode([[0]], max_new_tokens=5, generator=0)


def test_bad_settings_are_refused():
    with pytest.raises(TypeError, match="draft_lengths must be a DraftLength or None, got int"):
        SpeculativeDecoder(Table(0), Table(1), draft_lengths=3)
    with pytest.raises(ValueError, match="prior_acceptance"):
        ExpectedGain(0.1, prior_acceptance=1.0)
    with pytest.raises(ValueError, match="cost"):
        ExpectedGain(0.0)
