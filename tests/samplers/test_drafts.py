"""N-gram models against a count by hand, and text lookup against a search by hand."""

import pytest
import torch

from samplers.decoding import CallableScorer, Histories
from samplers.decoding.ngrams import NGramModel
from samplers.decoding.prompt_lookup import PromptLookup


def smoothed(tokens: list[int], context: list[int], token: int, size: int, order: int, strength: float) -> float:
    """The recursion of the docstring, counting by hand."""
    if order == 0:
        return 1 / size
    lower = smoothed(tokens, context, token, size, order - 1, strength)
    if order - 1 > len(context):
        return lower
    tail = context[len(context) - (order - 1) :]
    after = [tokens[i + order - 1] for i in range(len(tokens) - order + 1) if tokens[i : i + order - 1] == tail]
    return (after.count(token) + strength * lower) / (len(after) + strength)


@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("strength", [0.5, 3.0])
def test_n_gram_law_is_the_recursion(order, strength, generator):
    tokens = torch.randint(4, (60,), generator=generator)
    model = NGramModel(tokens, 4, order, strength)
    ids = torch.randint(4, (2, 6), generator=generator)
    expected = [
        [
            [smoothed(tokens.tolist(), row[: end + 1], token, 4, order, strength) for token in range(4)]
            for end in range(len(row))
        ]
        for row in ids.tolist()
    ]
    torch.testing.assert_close(model(ids).exp(), torch.tensor(expected))


def test_n_gram_scores_read_a_few_tokens_only(generator):
    model = NGramModel(torch.randint(5, (300,), generator=generator), 5, 3)
    ids = torch.randint(5, (3, 20), generator=generator)
    for lengths in ([20, 17, 9], [20, 2, 1]):
        lengths = torch.tensor(lengths)
        expected = CallableScorer(model).scores(ids, lengths, 2)
        actual = model.scores(ids, lengths, 2)
        inside = (lengths[:, None] - 2 + torch.arange(2)) >= 0
        assert torch.equal(actual[inside], expected[inside])


def test_n_gram_codes_must_fit():
    with pytest.raises(ValueError, match=r"vocab_size \*\* order"):
        NGramModel(torch.arange(5), 50_000, 5)
    with pytest.raises(ValueError, match="ids in"):
        NGramModel(torch.arange(5), 3, 2)
    with pytest.raises(ValueError, match="strength"):
        NGramModel(torch.arange(3), 3, 2, strength=0.0)
    with pytest.raises(TypeError, match=r"tokens must be a torch.Tensor, got list"):
        NGramModel([97, 98], 256, order=2)
    with pytest.raises(TypeError, match="tokens must have an integer dtype"):
        NGramModel(torch.ones(3), 3, 2)


@pytest.mark.parametrize(
    ("history", "limit", "expected"),
    [
        ([1, 2, 3, 4, 1, 2], 3, [3, 4, 1]),
        ([1, 2, 3, 4, 1, 2], 2, [3, 4]),
        ([1, 2, 3, 4, 1, 2], 0, []),
        ([1, 2, 9, 1, 2, 8, 1, 2], 1, [8]),  # the latest occurrence
        ([7, 1, 2, 9, 5, 2, 8, 1, 2], 1, [9]),  # the longest suffix
        ([1, 1, 1], 3, [1, 1, 1]),  # a match that comes to the end goes on with the draft
        ([7] * 12, 3, [7, 7, 7]),
        ([1, 2] * 6, 3, [1, 2, 1]),
        ([9, 1, 2, 3, 1, 2, 3], 2, [1, 2]),
        ([1, 2, 3], 3, []),
        ([1], 3, []),
    ],
)
def test_prompt_lookup(history, limit, expected):
    drafts = PromptLookup(3).propose(Histories.of([history]), torch.tensor([limit]), 10, None)
    assert drafts.logits is None
    assert drafts.tokens[0, 0, : int(drafts.lengths[0, 0])].tolist() == expected
    assert drafts.tokens.shape == (1, 1, 3)


def looked_up(history: list[int], max_ngram: int, limit: int) -> list[int]:
    """The docstring by hand, one token at a time."""
    for size in range(min(max_ngram, len(history) - 1), 0, -1):
        for start in range(len(history) - size - 1, -1, -1):
            if history[start : start + size] == history[-size:]:
                text, place = list(history), start + size
                while len(text) < len(history) + limit:
                    text.append(text[place])
                    place += 1
                return text[len(history) :]
    return []


@pytest.mark.parametrize("size", [2, 3, 8])
def test_prompt_lookup_by_hand(size, generator):
    rows = [torch.randint(size, (int(n),), generator=generator).tolist() for n in range(1, 40)]
    limits = torch.arange(len(rows)) % 6
    for max_ngram in (1, 2, 3, 7, 100):
        drafts = PromptLookup(5, max_ngram).propose(Histories.of(rows), limits, size, None)
        for row, history in enumerate(rows):
            found = drafts.tokens[row, 0, : int(drafts.lengths[row, 0])].tolist()
            assert found == looked_up(history, max_ngram, int(limits[row]))


def test_prompt_lookup_drafts_as_far_as_asked():
    for history, expected in (([7] * 12, [7] * 5), ([1, 2] * 6, [1, 2, 1, 2, 1])):
        drafts = PromptLookup(5).propose(Histories.of([history]), torch.tensor([5]), 10, None)
        assert drafts.tokens[0, 0].tolist() == expected


@pytest.mark.parametrize("strength", [1e-300, 1e-46, 1e-40, 1e35, 1e300])
def test_n_gram_laws_of_extreme_strength(strength):
    tokens = torch.tensor([0, 1, 0, 1, 0, 2])
    law = NGramModel(tokens, 4, order=2, strength=strength)(torch.tensor([[0, 3]])).exp()
    counted = [0.0, 2 / 3, 1 / 3, 0.0] if strength < 1 else [0.25] * 4
    after_unseen = [1 / 2, 1 / 3, 1 / 6, 0.0] if strength < 1 else [0.25] * 4
    torch.testing.assert_close(law[0], torch.tensor([counted, after_unseen]))
