"""Replicates fitted together: the numbers of single fits but for rounding, and the same bits in every order."""

import pytest
import torch

from estimators import EM, MLE
from estimators.rates import Candidate, DataDriven, ExactLoss, GridCovariates, Loss, NearTruth, Oracle
from estimators.rates.batches import blocks_of, is_batched
from estimators.rates.replicates import Task, run_block, run_task
from mixkit import topk_gate

from ..models import seeded
from .designs import small_study

BATCH = 4


def numbers(results) -> dict:
    return {task: (row.losses, row.llf, row.grad_norm, row.parameters) for task, row in results.rows.items()}


def study_of(**changes):
    return small_study(**({"batch_size": BATCH, "num_replicates": 5, "sample_sizes": [60, 120, 1500]} | changes))


def top_k(k: int):
    return topk_gate(1, k, 1, generator=seeded(0))


CASES = {
    "oracle": {},
    "oracle, a cell split": {"num_experts": 3},
    "oracle, two cells split": {"num_experts": 4},
    "data-driven": {"start": DataDriven(), "estimator": EM(n_init=3)},
    "data-driven, grown": {"start": DataDriven(), "estimator": EM(n_init=2), "num_experts": 3},
    "data-driven, MLE": {"start": DataDriven(split=False), "estimator": MLE(n_init=2), "num_experts": 3},
    "stopped": {"estimator": EM(finish=False, em_iter=3), "covariates": GridCovariates()},
    "top-K": {"estimator": {"top": Candidate(EM(n_init=3), 2, gate=top_k, start=DataDriven())}},
}


@pytest.mark.parametrize("case", list(CASES))
def test_a_block_holds_the_numbers_of_single_fits(case):
    study = study_of(**CASES[case])
    name = next(iter(study.candidates))
    (block,) = blocks_of(study, [Task(name, 120, 1)])
    assert [task.replicate for task in block] == [0, 1, 2, 3]
    for row, task in zip(run_block(study, block), block, strict=True):
        single = run_task(study, task)
        assert row.task == single.task
        assert row.error == ""
        assert row.llf == pytest.approx(single.llf, abs=1e-6)
        assert row.truth_llf == single.truth_llf
        assert row.converged == single.converged
        assert row.losses == pytest.approx(single.losses, rel=1e-3, abs=1e-6)


def test_blocks_are_whole_and_follow_the_order_of_fits():
    study = study_of()
    blocks = blocks_of(study, study.tasks)
    assert [(len(block), block[0].n, block[0].replicate) for block in blocks] == [
        (4, 60, 0), (4, 120, 0), (1, 1500, 0), (1, 1500, 1), (1, 1500, 2), (1, 1500, 3),
        (4, 60, 4), (4, 120, 4), (1, 1500, 4),
    ]  # fmt: skip


def test_only_small_samples_and_starts_that_allow_it_are_batched():
    assert is_batched(study_of(), "fit", 120)
    assert not is_batched(study_of(), "fit", 1500)
    assert not is_batched(study_of(num_experts=20), "fit", 120)
    assert not is_batched(study_of(batch_size=1), "fit", 120)
    assert not is_batched(study_of(start=NearTruth()), "fit", 120)
    assert is_batched(study_of(estimator=EM(subsample=100)), "fit", 200)
    assert not is_batched(study_of(estimator=EM(subsample=100)), "fit", 201)


def test_an_extension_finds_the_same_bits_and_what_was_left_over(tmp_path, monkeypatch):
    path = tmp_path / "study.sqlite"
    study_of(num_replicates=1, sample_sizes=[60]).run(path, progress=False)
    ran = []
    monkeypatch.setattr(
        "estimators.rates.study.run_block", lambda study, block: ran.append(block) or run_block(study, block)
    )
    extended = study_of(sample_sizes=[60, 120]).run(path, progress=False)
    assert [(len(block), block[0].n, block[0].replicate) for block in ran] == [(4, 120, 0), (4, 60, 4), (4, 120, 4)]
    fresh = study_of(sample_sizes=[60, 120]).run(tmp_path / "fresh.sqlite", progress=False)
    assert numbers(extended) == numbers(fresh)
    assert len(extended.rows) == 10


class FailingOnce(Loss):
    """Cannot measure the second replicate's fit, which it knows by its parameters."""

    bad = 0.0

    def values(self, fitted):
        if float(fitted.model.experts.predictor.intercept[0].detach()) == self.bad:
            raise ValueError("no such thing")
        return {"own": 1.0}


def test_a_loss_that_fails_spoils_no_other_row():
    study, loss = study_of(), FailingOnce()
    rows = run_block(study, blocks_of(study, study.tasks)[0])
    loss.bad = rows[1].parameters["experts.predictor.intercept"][0]
    again = run_block(study_of(losses=[loss, ExactLoss()]), [row.task for row in rows])
    assert [row.error for row in again] == ["", "ValueError: no such thing", "", ""]
    assert [row.llf for row in again if not row.error] == [row.llf for row in rows if row.task.replicate != 1]


def test_a_block_that_raises_is_fitted_one_by_one(monkeypatch):
    study = study_of()
    block = blocks_of(study, study.tasks)[0]
    singles = [run_task(study, task) for task in block]
    original = Oracle.fit_many

    def fails(self, estimator, problems):
        if len(problems) > 1:
            raise RuntimeError("one of them is bad")
        return original(self, estimator, problems)

    monkeypatch.setattr(Oracle, "fit_many", fails)
    rows = run_block(study, block)
    assert [(row.llf, row.losses) for row in rows] == [(row.llf, row.losses) for row in singles]


def test_starts_are_given_to_each_data_set_or_refused():
    from estimators.search.starts import RandomPartition

    study = study_of()
    model = study.candidates["fit"].template(1, 2)
    x = torch.rand(2, 40, 1, generator=seeded(0), dtype=torch.float64)
    y = x[..., 0] + torch.randn(2, 40, generator=seeded(1), dtype=torch.float64)
    with pytest.raises(ValueError, match="starts must be given for each of 2 data sets, got 1"):
        EM().fit_many(model, x, y, starts=[[RandomPartition()]])
    with pytest.raises(ValueError, match="as many guesses for one data set as for another"):
        EM().fit_many(model, x, y, starts=[[RandomPartition()], [RandomPartition()] * 2])
    with pytest.raises(ValueError, match="as many guesses for one data set as for another"):
        EM().fit_many(model, x, y, starts=[[RandomPartition()], []])
