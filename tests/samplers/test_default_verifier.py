"""The verifier that the loop takes where none is given, and what decoding by whole drafts follows."""

import pytest
import torch

from samplers import (
    BlockVerification,
    MultiBlockVerifier,
    RecursiveRejection,
    SampledDrafts,
    SampledTree,
    SpeculativeDecoder,
    TopTree,
    TreeVerifier,
    WeightedVerifier,
)
from samplers.decoding.defaults import default_verifier
from samplers.exactness import chi_square

LOGITS = torch.tensor([[0.2, 1.0, -0.5], [1.5, 0.0, 0.3], [-1.0, 0.4, 0.9]], dtype=torch.float64)


def target(ids):
    return LOGITS[ids]


def draft(ids):
    return 0.5 * LOGITS.flip(0)[ids]


@pytest.mark.parametrize(
    ("drafts", "num_drafts", "processors", "kind"),
    [
        (draft, None, None, BlockVerification),
        (draft, 4, None, MultiBlockVerifier),
        ([draft, target], None, None, WeightedVerifier),
        (draft, 2, [None, None], WeightedVerifier),
        (SampledTree(draft, (2, 1)), None, None, TreeVerifier),
        (TopTree(draft, [-1, -1, 0]), None, None, TreeVerifier),
        (SampledDrafts(draft, 3, with_replacement=False), None, None, RecursiveRejection),
    ],
)
def test_the_default_suits_the_drafts(drafts, num_drafts, processors, kind):
    verifier = default_verifier(drafts, num_drafts, processors)
    assert isinstance(verifier, kind)
    decoder = SpeculativeDecoder(target, drafts, num_drafts=num_drafts, draft_processors=processors)
    assert repr(decoder.verifier) == repr(verifier)


@pytest.mark.parametrize("form", ["optimal", "k-seq", "priority", "tree"])
def test_decoding_by_whole_drafts_follows_the_target(form):
    """Three tokens of 800 rows, by chi-square at a false alarm of 1e-6."""
    if form == "tree":
        decoder = SpeculativeDecoder(target, SampledTree(draft, (2, 2)), TreeVerifier(MultiBlockVerifier()))
    else:
        models = [draft, target] if form == "priority" else draft
        verifier = MultiBlockVerifier(budgets=form)
        count = None if form == "priority" else 3
        decoder = SpeculativeDecoder(target, models, verifier, num_drafts=count, draft_length=2)
    out = decoder.decode([[0]] * 800, max_new_tokens=3, generator=torch.Generator().manual_seed(1))
    probs = LOGITS.softmax(-1)
    law = (probs[0][:, None, None] * probs[:, :, None] * probs[None]).flatten()
    found = out.tokens[:, 0] * 9 + out.tokens[:, 1] * 3 + out.tokens[:, 2]
    assert chi_square(torch.bincount(found, minlength=27)[None], law[None], false_alarm=1e-6).passed
