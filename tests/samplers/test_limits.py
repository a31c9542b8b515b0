"""Limits of acceptance: sort form, subset form, linear program and bound agree; the condition is what it says."""

import pytest
import torch

from samplers import (
    acceptance,
    acceptance_bound,
    can_accept_always,
    linear_program_acceptance,
    optimal_acceptance,
    optimal_acceptance_different,
)
from samplers.exactness import random_laws


def one_node(num_cases, v, m, generator, identical):
    laws = random_laws(num_cases, v, m, 1, identical=identical, generator=generator)
    return laws.target[0][:, 0], laws.drafts[0][:, :, 0]


@pytest.mark.parametrize("identical", [True, False])
@pytest.mark.parametrize(("v", "m"), [(2, 3), (4, 2), (6, 4), (8, 2)])
def test_subset_form_is_the_linear_program(v, m, identical, generator):
    target, drafts = one_node(15, v, m, generator, identical)
    best = [linear_program_acceptance(q, p) for q, p in zip(target, drafts, strict=True)]
    found = optimal_acceptance_different(target, drafts)
    torch.testing.assert_close(found, torch.tensor(best, dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize("m", [1, 2, 3, 8])
def test_sort_form_is_the_subset_form(m, generator):
    target, drafts = one_node(50, 7, m, generator, identical=True)
    sorted_form = optimal_acceptance(target, drafts[:, 0], m)
    torch.testing.assert_close(sorted_form, optimal_acceptance_different(target, drafts), rtol=0, atol=1e-13)
    torch.testing.assert_close(sorted_form, acceptance_bound(target, drafts), rtol=0, atol=1e-13)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_bound_is_a_bound(m, generator):
    target, drafts = one_node(100, 8, m, generator, identical=False)
    slack = acceptance_bound(target, drafts) - optimal_acceptance_different(target, drafts)
    assert (slack > -1e-13).all()


def test_one_draft_is_one_minus_total_variation(generator):
    target, drafts = one_node(50, 6, 1, generator, identical=True)
    found = optimal_acceptance(target, drafts[:, 0], 1)
    torch.testing.assert_close(found, acceptance(target, drafts[:, 0]), rtol=0, atol=1e-14)


def test_batches_and_counts_broadcast(generator):
    target = torch.rand(3, 1, 5, generator=generator, dtype=torch.float64).softmax(-1)
    draft = torch.rand(4, 5, generator=generator, dtype=torch.float64).softmax(-1)
    found = optimal_acceptance(target, draft, torch.tensor([1, 2, 3, 9]))
    assert found.shape == (3, 4)
    assert found[2, 3] == optimal_acceptance(target[2, 0], draft[3], 9)


def test_condition_for_two_drafts(generator):
    """Accepting always with m drafts is possible on the boundary q(S) = p(S)^m, and not past it."""
    draft = torch.tensor([0.9, 0.1], dtype=torch.float64)
    for m in (1, 2, 3):
        edge = torch.tensor([0.9**m, 1 - 0.9**m], dtype=torch.float64)
        past = edge + torch.tensor([-1e-6, 1e-6], dtype=torch.float64)
        assert can_accept_always(edge, draft, m)
        assert not can_accept_always(past, draft, m)
        assert can_accept_always(edge, draft.expand(m, 2))


def test_more_drafts_accept_more(generator):
    target, drafts = one_node(30, 6, 1, generator, identical=True)
    values = torch.stack([optimal_acceptance(target, drafts[:, 0], m) for m in range(1, 9)])
    assert (values.diff(dim=0) > -1e-14).all()


def test_gradient_is_that_of_the_binding_set():
    """The optimum is differentiable in the laws (float64, away from ties)."""
    target = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64, requires_grad=True)
    draft = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64, requires_grad=True)

    def value(q, p):
        return optimal_acceptance(q.softmax(-1), p.softmax(-1), 2)

    assert torch.autograd.gradcheck(value, (target, draft))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda q, p: optimal_acceptance(q, p[:-1] / p[:-1].sum(), 2), "share one vocabulary"),
        (lambda q, p: optimal_acceptance(q * 2, p, 2), "target_probs must hold probabilities"),
        (lambda q, p: optimal_acceptance(q, -p, 2), "draft_probs must hold probabilities"),
        (lambda q, p: optimal_acceptance(q, p, 0), "num_drafts must be at least 1, got 0"),
        (lambda q, p: optimal_acceptance(q, p * torch.nan, 2), "draft_probs must hold probabilities"),
        (lambda q, p: optimal_acceptance_different(q, p[None]), "at most 16 tokens"),
    ],
)
def test_wrong_use_is_refused(call, message):
    law = torch.full((20,), 0.05, dtype=torch.float64)
    with pytest.raises(ValueError, match=message):
        call(law, law)
