"""Drafts that share a prefix share the laws after it."""

import pytest
import torch

from samplers import (
    GumbelListCoupling,
    ImportanceWeighted,
    KSequential,
    OptimalVerifier,
    RecursiveRejection,
    SamplerMatch,
    SpeculativeDecoder,
    WeightedVerifier,
)
from samplers.verification.shared_prefix import leaders

IDENTICAL = [KSequential(), OptimalVerifier(), OptimalVerifier(bins=8)]
OTHERS = [RecursiveRejection(), SamplerMatch(), WeightedVerifier(), ImportanceWeighted(), GumbelListCoupling()]


def verify(verifier, laws, *, target=None, token=0, dtype=torch.float64):
    """Verify two drafts of one token, the same one, of the given laws ``(2, v)``."""
    draft = torch.tensor(laws, dtype=dtype)[None, :, None]
    target = torch.zeros(1, 2, 2, draft.shape[-1], dtype=dtype) if target is None else target
    return verifier.verify(target, draft, torch.full((1, 2, 1), token), generator=0)


@pytest.mark.parametrize("verifier", IDENTICAL, ids=repr)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64], ids=str)
def test_whole_draft_rows_are_compared(verifier, dtype):
    """The drafts hold one token, 2, of nearly one probability: the tokens alone show nothing."""
    with pytest.raises(ValueError, match=r"same law for all drafts .*WeightedVerifier.* token 0 in drafts 0 and 1"):
        verify(verifier, [[0.0, 0.0, 0.0], [0.2, 0.0, 0.0]], token=2, dtype=dtype)
    with pytest.raises(ValueError, match="same law for all drafts"):
        verify(verifier, [[0.0, 0.0, 0.0], [0.0, -torch.inf, 0.0]], token=2, dtype=dtype)


@pytest.mark.parametrize("verifier", IDENTICAL, ids=repr)
@pytest.mark.parametrize(
    ("other", "dtype"),
    [
        ([8.0001, 1.0, -torch.inf, -1e9], torch.float32),  # noise of a matrix product
        ([8.0625, 1.0, -torch.inf, -1e9], torch.bfloat16),  # one unit in the last place, twice as much as rounding
        ([9.0, 2.0, -torch.inf, 1.0 - 1e9], torch.float64),  # logits are logs up to a constant
    ],
)
def test_rounding_is_no_difference(verifier, other, dtype):
    first = [8.0, 1.0, -torch.inf, -1e9]
    out, same = (verify(verifier, [first, row], dtype=dtype) for row in (other, first))
    assert torch.equal(out.tokens, same.tokens)


@pytest.mark.parametrize("verifier", [*IDENTICAL, *OTHERS], ids=repr)
@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("with_law", [True, False])
def test_different_targets_after_one_prefix_are_refused(verifier, position, with_law):
    target = torch.zeros(1, 2, 2, 3)
    target[..., 1:] = -20.0
    target[0, 1, position, 0] = 0.5
    draft = torch.zeros(1, 2, 1, 3) if with_law else None
    with pytest.raises(ValueError, match="target_logits must be the same law for all drafts that share a prefix"):
        verifier.verify(target, draft, torch.zeros(1, 2, 1, dtype=torch.long), generator=0)


def test_laws_may_differ_after_different_prefixes():
    target = torch.randn(1, 2, 2, 3, generator=torch.Generator().manual_seed(0))
    target[:, 1, 0] = target[:, 0, 0]
    out = OptimalVerifier().verify(target, torch.zeros(1, 2, 1, 3), torch.tensor([[[0], [1]]]), generator=0)
    assert out.tokens.shape == (1, 2)


class Noisy:
    """A bigram model whose rows depend on their places in the batch, as in half precision."""

    def __init__(self, seed):
        self.table = torch.randn(3, 3, generator=torch.Generator().manual_seed(seed))

    def __call__(self, ids):
        return self.table[ids] * (1 + 0.02 * torch.arange(len(ids)))[:, None, None]


@pytest.mark.parametrize("verifier", [KSequential(), OptimalVerifier(), RecursiveRejection()], ids=repr)
def test_the_decoder_takes_one_row_for_one_prefix(verifier):
    decoder = SpeculativeDecoder(Noisy(0), Noisy(1), verifier, num_drafts=4, draft_length=3)
    tokens = decoder.decode([[0], [1, 2]], max_new_tokens=20, generator=0).tokens
    assert tokens.shape == (2, 20)
    assert set(tokens.flatten().tolist()) == {0, 1, 2}


def test_a_draft_leads_no_further_than_it_goes():
    tokens = torch.tensor([[[5, 0], [5, 0], [5, 0]]])
    assert leaders(tokens, torch.tensor([[1, 2, 2]]))[0].tolist() == [[0, 0, 1], [0, 0, 1], [0, 0, 1]]
