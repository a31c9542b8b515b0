"""Verifiers behind the flat layout of vLLM, without vLLM."""

import pytest
import torch

from samplers import BlockVerification, SpeculativeSampling
from samplers.adapters.vllm import PLACEHOLDER, verify_flat
from samplers.exactness import chi_square

V = 11
LENGTHS = [3, 0, 1, 5, 2]


def batch(generator, lengths=LENGTHS):
    """A flat batch: target and bonus logits, draft probabilities, drafted tokens, running sum."""
    count = sum(lengths)
    target, bonus = (2 * torch.randn(n, V, generator=generator) for n in (count, len(lengths)))
    draft = (2 * torch.randn(count, V, generator=generator)).softmax(-1)
    ids = torch.multinomial(draft, 1, generator=generator)[:, 0] if count else torch.zeros(0, dtype=torch.long)
    return target, bonus, draft, ids, torch.tensor(lengths).cumsum(0)


def seeds(*rows):
    return {row: torch.Generator().manual_seed(row) for row in rows}


@pytest.mark.parametrize("verifier", [SpeculativeSampling(), BlockVerification()], ids=repr)
@pytest.mark.parametrize("has_law", [True, False])
def test_each_request_is_verified_as_alone(verifier, has_law, generator):
    target, bonus, draft, ids, ends = batch(generator)
    draft = draft if has_law else None
    out = verify_flat(target, bonus, draft, ids.int(), ends.int(), verifier=verifier, generators=seeds(*range(5)))
    assert out.shape == (5, 6)
    assert out.dtype == torch.int32
    for row, (start, length) in enumerate(zip([0, 3, 3, 4, 9], LENGTHS, strict=True)):
        part = slice(start, start + length)
        expected = torch.full((6,), PLACEHOLDER)
        if length == 0:
            alone = verify_flat(
                target[:0],
                bonus[row, None],
                None if draft is None else draft[:0],
                ids[:0],
                torch.tensor([0]),
                verifier=verifier,
                generators={0: torch.Generator().manual_seed(row)},
            )[0]
        else:
            alone = verifier.verify(
                torch.cat((target[part], bonus[row, None]))[None],
                None if draft is None else draft[part].log()[None],
                ids[part][None],
                generator=[row],
            ).tokens[0]
        expected[: len(alone)] = alone
        assert out[row].tolist() == expected.tolist()


def test_some_requests_have_a_generator_and_some_do_not(generator):
    arrays = batch(generator)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = (verify_flat(*arrays, generators=seeds(0, 3)) for _ in range(2))
        others = [verify_flat(*arrays, generators=seeds(0, 3))[[1, 2, 4]] for _ in range(20)]
    assert torch.equal(first[[0, 3]], second[[0, 3]])
    assert len({tuple(rows.flatten().tolist()) for rows in others}) > 1


@pytest.mark.parametrize("has_law", [True, False])
def test_the_first_two_tokens_follow_the_target(has_law):
    """30,000 requests at once, of drafts of length 0, 1 and 2, drawn anew. False-alarm rate 1e-6."""
    generator, count = torch.Generator().manual_seed(1), 30_000
    first, second = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([[0.1, 0.6, 0.3], [0.3, 0.3, 0.4], [0.8, 0.1, 0.1]])
    law = torch.tensor([0.2, 0.3, 0.5])
    lengths = torch.arange(count) % 3
    drafted = torch.multinomial(law, 2 * count, replacement=True, generator=generator).view(count, 2)
    inside = torch.arange(2) < lengths[:, None]
    target = torch.stack((first.expand(count, 3), second[drafted[:, 0]]), 1)[inside].log()
    after = torch.stack((first.expand(count, 3), second[drafted[:, 0]], first.expand(count, 3)), 1)
    bonus = after[torch.arange(count), lengths].log()
    ids = drafted[inside]
    out = verify_flat(
        target,
        bonus,
        law.expand(len(ids), 3) if has_law else None,
        ids,
        lengths.cumsum(0),
        generators=dict.fromkeys(range(count), generator),
    )
    for length in range(3):
        some = out[lengths == length]
        assert chi_square(torch.bincount(some[:, 0], minlength=3)[None], first.double()[None]).passed
        if length > 0:
            reached = some[some[:, 1] != PLACEHOLDER]
            for token in range(3):
                rows = reached[reached[:, 0] == token, 1]
                assert chi_square(torch.bincount(rows, minlength=3)[None], second[token].double()[None]).passed


@pytest.mark.parametrize(
    ("of_target", "of_bonus"), [(torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32)], ids=str
)
def test_logits_of_two_dtypes_are_taken_in_the_wider(of_target, of_bonus, generator):
    target, bonus, *rest = batch(generator)
    target, bonus = target.to(of_target), bonus.to(of_bonus)
    out = verify_flat(target, bonus, *rest, generators=seeds(*range(5)))
    assert torch.equal(out, verify_flat(target.float(), bonus.float(), *rest, generators=seeds(*range(5))))


def test_a_batch_without_drafts(generator):
    target, bonus, draft, ids, ends = batch(generator, [0, 0])
    out = verify_flat(target, bonus, draft, ids, ends, generators=seeds(0, 1))
    assert out.shape == (2, 1)
    assert ((out >= 0) & (out < V)).all()


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"ends": torch.tensor([3, 2, 4, 9, 11])}, ValueError, "cu_num_draft_tokens must not fall"),
        ({"ends": torch.tensor([3, 3, 4, 9, 10])}, ValueError, "and end at the 11 tokens"),
        ({"ends": torch.tensor([], dtype=torch.long)}, ValueError, "B at least 1"),
        ({"target": torch.zeros(10, V)}, ValueError, r"target_logits must have shape \(11, 11\)"),
        ({"bonus": torch.zeros(4, V)}, ValueError, r"bonus_logits must have shape \(5, v\)"),
        ({"draft": torch.zeros(11, 3)}, ValueError, r"draft_probs must have shape \(11, 11\)"),
        ({"draft": torch.zeros(11, V)}, ValueError, "draft_probs must hold probabilities"),
        ({"ids": torch.zeros(11)}, TypeError, "draft_token_ids must have an integer dtype"),
        ({"generators": {7: torch.Generator()}}, ValueError, "generators must be of requests 0..4, got one of 7"),
    ],
)
def test_bad_batches_are_refused(change, error, match, generator):
    names = ("target", "bonus", "draft", "ids", "ends")
    arrays = {**dict(zip(names, batch(generator), strict=True)), **change}
    generators = arrays.pop("generators", None)
    with pytest.raises(error, match=match):
        verify_flat(*arrays.values(), generators=generators)
