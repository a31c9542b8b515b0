"""Every start gives valid responsibilities, from its generator alone."""

import numpy as np
import pytest
import torch

from estimators import EM, GivenResponsibilities, KMeansX, KMeansXY, LocalLines, MoveAtom, RandomPartition, SplitAtom
from mixkit.datasets import load_ethanol, load_faithful

from .models import DTYPE, softmax_model

X, Y = load_ethanol()
K = 3
STARTS = [
    KMeansX(),
    KMeansXY(),
    RandomPartition(),
    LocalLines(),
    LocalLines(0.5),
    GivenResponsibilities(torch.full((K, len(Y)), 1 / K, dtype=DTYPE)),
    MoveAtom(softmax_model(2, K)),
    SplitAtom(softmax_model(2, K - 1)),
]


@pytest.mark.parametrize("start", STARTS, ids=repr)
def test_responsibilities_sum_to_one_and_repeat(start):
    first, second = (start.responsibilities(X, Y, K, np.random.default_rng(0)) for _ in range(2))
    assert first.shape[1:] == (K, len(Y))
    assert bool((first >= 0).all())
    torch.testing.assert_close(first.sum(1), torch.ones_like(first[:, 0]))
    assert torch.equal(first, second)


@pytest.mark.parametrize("start", STARTS[:5], ids=repr)
def test_starts_survive_equal_rows(start):
    rows = torch.zeros(len(Y), dtype=torch.long)
    resp = start.responsibilities(X[rows], Y[rows], K, np.random.default_rng(0))
    assert bool((resp >= 0).all())
    torch.testing.assert_close(resp.sum(1), torch.ones_like(resp[:, 0]))


def test_split_makes_three_guesses_an_atom():
    resp = STARTS[-1].responsibilities(X, Y, K, np.random.default_rng(0))
    assert len(resp) == 3 * (K - 1)
    assert len({tuple(guess.flatten().tolist()) for guess in resp}) == len(resp)


def test_a_move_leaves_one_expert_out_and_splits_another():
    resp = STARTS[-2].responsibilities(X, Y, K, np.random.default_rng(0))
    assert len(resp) == 3 * K * (K - 1)
    own = softmax_model(2, K)(X).log_responsibilities(Y).exp().detach().mT
    merged = own[[1, 2]] / own[[1, 2]].sum(0)  # the first K - 1 groups of three leave expert 0 out
    torch.testing.assert_close(resp[0, 0], merged[1])
    torch.testing.assert_close(resp[0, 1] + resp[0, 2], merged[0])


def test_moves_are_drawn_where_there_are_more_than_wanted():
    model, every = softmax_model(2, K), STARTS[-2].responsibilities(X, Y, K, np.random.default_rng(0))
    some = MoveAtom(model, 5).responsibilities(X, Y, K, np.random.default_rng(0))
    found = [next(i for i, guess in enumerate(every) if torch.equal(guess, one)) for one in some]
    assert len(set(found)) == 5
    assert found == sorted(found)
    assert torch.equal(MoveAtom(model, 100).responsibilities(X, Y, K, np.random.default_rng(0)), every)


def test_moves_need_experts_to_move():
    with pytest.raises(ValueError, match=r"model must have k = 3 experts, at least 2, got 2"):
        MoveAtom(softmax_model(2, 2)).responsibilities(X, Y, 3, np.random.default_rng(0))


@pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")
def test_moves_leave_a_poor_maximum():
    x, y = load_faithful()
    model, settings = softmax_model(1, 3), {"n_init": 1, "starts": [RandomPartition()], "random_state": 0}
    plain, moved = EM(**settings).fit(model, x, y), EM(**settings, n_moves=2).fit(model, x, y)
    assert moved.converged
    assert moved.llf > plain.llf + 1.0
    assert len(moved.start_llf) >= 1 + 3 * 3 * 2
    assert moved.start_llf[0] == plain.llf


@pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")
def test_moves_are_made_unless_someone_chose_starts():
    x, y = load_faithful()
    model = softmax_model(1, 2)
    starts = {
        None: len(EM(random_state=0).fit(model, x, y).start_llf),
        0: len(EM(random_state=0, n_moves=0).fit(model, x, y).start_llf),
        "given": len(EM(random_state=0, starts=[RandomPartition()]).fit(model, x, y).start_llf),
        "at model": len(EM(random_state=0, start_at_model=True).fit(model, x, y).start_llf),
        "alone": len(EM(random_state=0, finish=False).fit(model, x, y).start_llf),
    }
    assert starts.pop(None) >= 10 + 3 * 2 * 1
    assert starts == {0: 10, "given": 10, "at model": 11, "alone": 10}


def test_local_lines_separate_crossing_lines():
    x = torch.linspace(-1, 1, 200, dtype=DTYPE)[:, None]
    sign = torch.tensor([1.0, -1.0], dtype=DTYPE).repeat(100)
    best = 0.0
    for seed in range(10):
        resp = LocalLines(0.1).responsibilities(x, sign * x[:, 0], 2, np.random.default_rng(seed))[0]
        agreement = float(((resp[0] > 0.5) == (sign > 0)).double().mean())
        best = max(best, agreement, 1 - agreement)
    assert best > 0.6


def test_bad_starts_are_refused():
    with pytest.raises(ValueError, match=r"values must have shape \(k, n\) = \(3, 88\)"):
        GivenResponsibilities(torch.ones(2, 5)).responsibilities(X, Y, K, np.random.default_rng(0))
    with pytest.raises(ValueError, match="sum to one"):
        GivenResponsibilities(torch.ones(K, len(Y))).responsibilities(X, Y, K, np.random.default_rng(0))
    with pytest.raises(ValueError, match="model must have k - 1 = 4 experts, got 2"):
        EM(starts=[STARTS[-1]]).fit(softmax_model(2, 5), X, Y)


def test_a_fit_without_any_start_is_refused():
    with pytest.raises(ValueError, match="starts must hold one start or more where start_at_model is False, got none"):
        EM(starts=[]).fit(softmax_model(2, K), X, Y)
