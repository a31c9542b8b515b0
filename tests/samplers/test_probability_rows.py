"""What the pure functions of probability rows refuse, and what they take."""

import pytest
import torch

from samplers import (
    OptimalVerifier,
    accept_probability,
    acceptance,
    acceptance_bound,
    optimal_acceptance,
    optimal_acceptance_different,
    output_law,
    residual,
)

Q, P = torch.tensor([0.2, 0.5, 0.3]), torch.tensor([0.8, 0.1, 0.1])
OF_ROWS = pytest.mark.parametrize("function", [residual, acceptance, output_law], ids=lambda f: f.__name__)


@OF_ROWS
@pytest.mark.parametrize(
    "bad",
    [P[:1], P[:2] / P[:2].sum(), torch.tensor([0.5, torch.nan, 0.5]), torch.tensor([1.5, -0.5, 0.0]), P.log(), 2 * P],
    ids=["one token", "another vocabulary", "NaN", "negative", "logits", "sum of 2"],
)
def test_what_is_no_row_of_probabilities_is_refused(function, bad):
    with pytest.raises(ValueError, match=r"must hold probabilities|must share one vocabulary"):
        function(Q, bad)
    with pytest.raises(ValueError, match=r"must hold probabilities|must share one vocabulary"):
        function(bad, Q)


@OF_ROWS
def test_integers_and_lists_are_refused(function):
    with pytest.raises(TypeError, match="target must"):
        function([0.2, 0.5, 0.3], P)
    with pytest.raises(TypeError, match="must"):
        function(Q, torch.tensor([1, 0, 0]))


@pytest.mark.parametrize("bad", [torch.nan, -0.1, 1.2])
def test_accept_probability_refuses_what_is_no_probability(bad):
    with pytest.raises(ValueError, match=r"draft must hold probabilities in \[0, 1\]"):
        accept_probability(torch.tensor([0.5]), torch.tensor([bad]))


@OF_ROWS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_rows_of_half_precision_are_taken(function, dtype):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(2, 50, 1000, generator=generator).softmax(-1).to(dtype)
    assert torch.isfinite(function(*rows)).all()
    assert torch.isfinite(optimal_acceptance(*rows, 2)).all()


def test_no_rows_give_no_values():
    assert optimal_acceptance(torch.zeros(0, 3), torch.zeros(0, 3), 2).shape == (0,)


@pytest.mark.parametrize("bound", [optimal_acceptance_different, acceptance_bound])
def test_no_drafts_are_refused(bound):
    with pytest.raises(ValueError, match="draft_probs must hold at least one draft"):
        bound(Q, torch.zeros(0, 3))


def test_a_block_of_no_drafts_is_refused():
    with pytest.raises(ValueError, match="draft_tokens must hold at least one draft"):
        OptimalVerifier().verify(torch.zeros(1, 0, 3, 4), torch.zeros(1, 0, 2, 4), torch.zeros(1, 0, 2).long())
