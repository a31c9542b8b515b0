"""Settings of each row, and what is returned of each token."""

import pytest
import torch
from transformers.generation import logits_process as hf

from samplers import (
    KSequential,
    OptimalVerifier,
    PerRow,
    RecursiveRejection,
    SampledTree,
    SpeculativeDecoder,
    SpeculativeSampling,
    TreeVerifier,
)
from samplers.exactness.branches import Branches
from samplers.processors import Chain, MinP, Processor, Temperature, TopK, TopP

from .test_decoding import Table, V

SETTINGS = [Temperature(0.5), None, Chain(Temperature(1.5), TopK(2)), MinP(0.4), Temperature(0)]
PROMPTS = [[0], [1, 2, 0], [2, 2], [1], [0, 1]]
DECODERS = {
    "one": lambda **settings: SpeculativeDecoder(Table(0), Table(1), draft_length=3, **settings),
    "three": lambda **settings: SpeculativeDecoder(
        Table(0), Table(1), OptimalVerifier(), num_drafts=3, draft_length=2, **settings
    ),
    "tree": lambda **settings: SpeculativeDecoder(
        Table(0), SampledTree(Table(1), (2, 2)), TreeVerifier(RecursiveRejection()), **settings
    ),
}


@pytest.mark.parametrize("make", DECODERS.values(), ids=DECODERS)
def test_rows_with_settings_of_their_own_are_decoded_as_alone(make):
    together = make(processors=PerRow(SETTINGS)).decode(PROMPTS, max_new_tokens=9, generator=[0, 1, 2, 3, 4])
    for row, (prompt, one) in enumerate(zip(PROMPTS, SETTINGS, strict=True)):
        alone = make(processors=PerRow([one])).decode([prompt], max_new_tokens=9, generator=[row])
        assert torch.equal(alone.sequences[0], together.sequences[row])
        if one is None or not (isinstance(one, Temperature) and one.temperature == 0):
            same = make(processors=one).decode([prompt], max_new_tokens=9, generator=[row])
            assert torch.equal(alone.sequences[0], same.sequences[0])


@pytest.mark.parametrize("verifier", [SpeculativeSampling(), KSequential()])
def test_the_law_of_each_row_is_exactly_its_own(verifier):
    """Every branch is a row of one batch, and has a processor of its own."""
    settings = [Temperature(0.6), TopK(2)]
    num_drafts = 1 if verifier.max_drafts == 1 else 2
    decoder = SpeculativeDecoder(Table(0), Table(1), verifier, num_drafts=num_drafts, draft_length=1)
    for row, one in enumerate(settings):
        found = torch.zeros(V**2, dtype=torch.float64)
        forced = torch.zeros(1, 0, dtype=torch.long)
        while len(forced) > 0:
            source = Branches(forced, torch.ones(len(forced), dtype=torch.float64))
            per_row = PerRow([settings[row]] * len(forced))
            decoder = SpeculativeDecoder(
                Table(0), Table(1), verifier, num_drafts=num_drafts, draft_length=1, processors=per_row
            )
            out = decoder.decode([[1]] * len(forced), max_new_tokens=2, generator=source)
            found.index_add_(0, (out.tokens * torch.tensor([V, 1])).sum(-1), source.weight)
            _, forced = source.unexplored()
        torch.testing.assert_close(found, Table(0).law([1], 2, one.process), rtol=0, atol=1e-12)


def test_a_row_whose_processor_reads_the_history():
    penalty = hf.RepetitionPenaltyLogitsProcessor(2.0)
    settings = [Chain(penalty, TopP(0.9)), None]
    target, draft = Table(0, dtype=torch.float32), Table(1, dtype=torch.float32)
    together = SpeculativeDecoder(target, draft, processors=PerRow(settings)).decode(
        [[0], [1, 2, 0]], max_new_tokens=9, generator=[5, 6]
    )
    alone = SpeculativeDecoder(target, draft, processors=settings[0]).decode([[0]], max_new_tokens=9, generator=[5])
    assert torch.equal(alone.sequences[0], together.sequences[0])


def test_every_row_needs_a_processor():
    with pytest.raises(ValueError, match="processors must have an entry for each row, got 1 and row 1"):
        DECODERS["one"](processors=PerRow([None])).decode([[0], [1]], max_new_tokens=3, generator=0)
    with pytest.raises(ValueError, match="got none"):
        PerRow([])
    with pytest.raises(TypeError, match="callables"):
        PerRow([3])
    with pytest.raises(TypeError, match="processors must be a sequence"):
        PerRow(Temperature(1))
    with pytest.raises(ValueError, match="scores must have a row for each of the 2 processors, got 3"):
        PerRow([None, None])(None, torch.zeros(3, 4))


@pytest.mark.parametrize("processor", [None, Temperature(0.6), Chain(TopK(2), Temperature(0))])
@pytest.mark.parametrize("make", DECODERS.values(), ids=DECODERS)
def test_log_probabilities_are_those_of_the_target(make, processor):
    decoder = make(processors=processor, eos_token_id=2)
    out = decoder.decode(PROMPTS, max_new_tokens=11, generator=7, return_logits=True)
    assert decoder.decode([[0]], max_new_tokens=3, generator=0).log_probs is None
    only = decoder.decode(PROMPTS, max_new_tokens=11, generator=7, return_log_probs=True)
    assert torch.equal(only.log_probs, out.log_probs)
    assert only.logits is None
    before = Chain() if processor is None else processor
    if isinstance(processor, Chain):  # greedy: the distribution before the largest is taken
        before = TopK(2)
    for row, sequence in enumerate(out.sequences):
        length = int(out.lengths[row])
        raw = Table(0)(sequence[None])[0, -length - 1 : -1]
        expected = before.process(raw).log_softmax(-1)
        torch.testing.assert_close(out.logits[row].log_softmax(-1), expected)
        held = expected.gather(-1, sequence[-length:, None])[:, 0]
        torch.testing.assert_close(out.log_probs[row, :length], held)
        assert (out.log_probs[row, length:] == 0).all()


class Ban(Processor):
    """Bans a token: as a mask, of which a long one's representation shows nothing, or by an unshown setting."""

    def __init__(self, token, size, as_mask):
        self.mask = torch.arange(size) == token if as_mask else None
        self._token = token

    def transform(self, scores):
        mask = torch.arange(scores.shape[-1]) == self._token if self.mask is None else self.mask
        return scores.masked_fill(mask, -torch.inf)


@pytest.mark.parametrize("as_mask", [True, False])
def test_processors_of_one_representation_are_told_apart(as_mask):
    bans = [Ban(2000, 5000, as_mask), Ban(3000, 5000, as_mask)]
    assert repr(bans[0]) == repr(bans[1])
    banned = PerRow([*bans, bans[0], Chain(bans[1])])(None, torch.zeros(4, 5000)) == -torch.inf
    assert banned.nonzero()[:, 1].tolist() == [2000, 3000, 2000, 3000]


def test_rows_of_equal_settings_are_processed_together():
    settings = [Temperature(0.5), Chain(TopK(2), Temperature(2)), Temperature(0.5), Chain(TopK(2), Temperature(2.0))]
    groups = PerRow(settings).groups(torch.arange(4))
    assert [rows.tolist() for _, rows in groups] == [[0, 2], [1, 3]]
