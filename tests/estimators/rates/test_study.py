"""Studies: the same numbers however they are run, nothing lost when killed, bad designs and files refused."""

import math
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import time
import tracemalloc
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from joblib import parallel_config

from estimators import EM
from estimators.rates import (
    BlockLoss,
    Candidate,
    DataDriven,
    DensityLoss,
    ExactLoss,
    GridCovariates,
    Loss,
    NearTruth,
    NormalCovariates,
    Oracle,
    ResultsFileError,
    StudyMismatchError,
    StudyResults,
    TemperatureLoss,
    UniformCovariates,
    draw_data,
)
from estimators.rates.batches import blocks_of
from estimators.rates.replicates import Task, run_block, run_task
from estimators.replication.record_store import RecordStore
from mixkit import Gate, MixingMeasure, laplace_gate, sigmoid_gate, softmax_gate, topk_gate

from ..models import reference_truth, seeded
from .designs import compared_study, easy_truth, small_study


def numbers(results) -> dict:
    return {task: (row.losses, row.llf, row.grad_norm, row.predicted_gain) for task, row in results.rows.items()}


@pytest.mark.parametrize("batch_size", [1, 2])
def test_numbers_do_not_depend_on_the_number_of_workers(tmp_path, batch_size):
    study = compared_study(batch_size=batch_size)
    alone = study.run(tmp_path / "one.sqlite", progress=False)
    many = study.run(tmp_path / "two.sqlite", n_jobs=2, progress=False)
    with parallel_config(backend="threading", n_jobs=3):
        threads = study.run(tmp_path / "three.sqlite", progress=False)
    assert numbers(alone) == numbers(many) == numbers(threads)
    assert len(alone.rows) == 12


def test_an_extended_study_keeps_what_is_done(tmp_path, monkeypatch):
    path = tmp_path / "study.sqlite"
    small_study().run(path, progress=False)
    ran = []
    monkeypatch.setattr(
        "estimators.rates.study.run_block", lambda study, block: ran.extend(block) or run_block(study, block)
    )
    larger = small_study(sample_sizes=[60, 90, 120], num_replicates=4)
    extended = larger.run(path, progress=False)
    assert len(ran) == 12 - 6
    assert {task.n for task in ran if task.replicate < 3} == {90}
    monkeypatch.undo()
    assert numbers(extended) == numbers(larger.run(tmp_path / "fresh.sqlite", progress=False))
    assert len(small_study().results(path).rows) == 6


SCRIPT = """
import sys, time
sys.path.insert(0, {root!r})
import estimators.rates.study as module
from tests.estimators.rates.designs import small_study
original = module.run_block
def slow(study, block):
    rows = original(study, block)
    print(block[0].n, block[0].replicate, flush=True)
    time.sleep(0.2)
    return rows
module.run_block = slow
small_study(num_replicates=30, batch_size={batch_size}).run({path!r}, progress=False)
"""


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_killed_study_loses_nothing_finished_and_resumes(tmp_path, batch_size):
    path, root = tmp_path / "study.sqlite", str(Path(__file__).parents[3])
    script = SCRIPT.format(root=root, path=str(path), batch_size=batch_size)
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    lines = [process.stdout.readline() for _ in range(5)]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    finished = {tuple(map(int, line.split())) for line in lines[:-1]}
    study = small_study(num_replicates=12, batch_size=batch_size)
    kept = {(task.n, task.replicate) for task in study.results(path).rows}
    assert finished <= kept
    assert len(kept) < len(study.tasks)
    resumed = study.run(path, progress=False)
    assert numbers(resumed) == numbers(study.run(tmp_path / "fresh.sqlite", progress=False))


def test_a_file_of_another_design_is_refused(tmp_path):
    path = tmp_path / "study.sqlite"
    small_study().run(path, progress=False)
    changes = {
        "seed": {"seed": 2},
        "truth": {"truth": reference_truth()},
        "candidate fit": {"estimator": EM(em_iter=3)},
        "losses": {"losses": [ExactLoss(), BlockLoss()]},
        "covariates": {"covariates": NormalCovariates()},
        "nested": {"nested": True},
        "candidate fit differ": {"batch_size": 8},
    }
    for name, change in changes.items():
        with pytest.raises(StudyMismatchError, match=f"another design: .*{name}"):
            small_study(**change).run(path, progress=False)
    assert len(small_study().results(path).rows) == 6


def test_bad_files_are_refused(tmp_path):
    study, path = small_study(), tmp_path / "study.sqlite"
    for bad, message in ((tmp_path, "must be a file"), (tmp_path / "none" / "x.sqlite", "directory that exists")):
        with pytest.raises(ResultsFileError, match=message):
            study.run(bad, progress=False)
    path.write_text("not a database, but long enough to be looked at as one" * 10)
    with pytest.raises(ResultsFileError, match="must be a results file or a new file"):
        study.run(path, progress=False)
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE cats (name TEXT)")
    connection.close()
    with pytest.raises(ResultsFileError, match="cats"):
        study.run(other, progress=False)
    with pytest.raises(ResultsFileError, match=r"missing\.sqlite, which does not exist"):
        study.results(tmp_path / "missing.sqlite")


def test_a_damaged_file_is_refused_and_left_alone(tmp_path):
    study, path = small_study(num_replicates=20), tmp_path / "study.sqlite"
    row = run_task(study, study.tasks[0])
    with RecordStore(path, study.identity(), content="rate study") as store:
        for task in study.tasks:
            store.append([replace(row, task=task).to_record()])
    whole = path.read_bytes()
    broken = whole[:4096] + bytes(reversed(whole[4096:12000])) + whole[12000:]
    path.write_bytes(broken)
    with pytest.raises(ResultsFileError, match="results file"):
        study.run(path, progress=False)
    assert path.read_bytes() == broken


def gate_of(build, num_features: int, num_experts: int) -> Gate:
    return build(num_features, num_experts, generator=seeded(0))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"num_experts": 1}, ValueError, "at least the truth's 2, got 1"),
        ({"sample_sizes": [100, 100]}, ValueError, "sample_sizes must increase"),
        ({"sample_sizes": [3]}, ValueError, "at least twice the 2 experts"),
        ({"sample_sizes": [10.5]}, TypeError, "sample_sizes must be one or more integers"),
        ({"num_replicates": 0}, ValueError, "replicates must be at least 1"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"sample_sizes": 100}, TypeError, "sample_sizes must be one or more integers in a list, got 100"),
        ({"losses": []}, TypeError, "losses must be one or more"),
        ({"losses": BlockLoss()}, TypeError, r"losses must be .* in a list, got BlockLoss\(\)"),
        ({"losses": [ExactLoss(), BlockLoss(), ExactLoss()]}, ValueError, "names of their own, got two of ExactLoss"),
        ({"losses": [DensityLoss(4), DensityLoss(8)]}, ValueError, "names of their own, got two of DensityLoss"),
        ({"estimator": {"": Candidate(EM())}}, ValueError, r"must name each candidate with a word, got \[''\]"),
        ({"estimator": "EM"}, TypeError, "estimator must be an estimators.Estimator"),
        ({"covariates": GridCovariates(), "nested": True}, ValueError, "nested samples need covariates drawn"),
        ({"start": "oracle"}, TypeError, "start must be a StartPolicy"),
        (
            {"estimator": {"top": Candidate(EM(), 3, gate=lambda k: topk_gate(1, k, 4, generator=seeded(0)))}},
            ValueError,
            "must keep at most num_experts=3",
        ),
        ({"gate": "sigmoid"}, TypeError, "gate must be a mixkit Gate, got str 'sigmoid'"),
        ({"gate": gate_of(softmax_gate, 1, 3)}, ValueError, "gate must have 2 experts, got 3"),
        ({"gate": gate_of(softmax_gate, 2, 2)}, ValueError, "gate must take 1 covariates, got 2"),
        ({"gate": gate_of(sigmoid_gate, 1, 2)}, ValueError, r"gate of candidate 'fit' must be given, Candidate\(gate="),
        (
            {"estimator": {"two": Candidate(EM(), 2)}, "gate": gate_of(laplace_gate, 1, 2)},
            ValueError,
            "gate of candidate 'two' must be given",
        ),
        (
            {"estimator": {"two": Candidate(EM(), gate=lambda k: gate_of(softmax_gate, 1, 3))}},
            ValueError,
            "gate of 'two', when asked for 2 experts, must have 2 experts, got 3",
        ),
        ({"estimator": {"two": Candidate(EM(), gate=lambda k: "soft")}}, TypeError, "gate of 'two', .* got str 'soft'"),
    ],
)
def test_bad_designs_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        small_study(**change)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gate": gate_of(softmax_gate, 1, 2)}, "gate must be a function from a number of experts to a Gate, got Gate"),
        ({"gate": "softmax"}, "gate must be a function .* got str 'softmax'"),
        ({"start": "oracle"}, "start must be a StartPolicy or None, got str 'oracle'"),
    ],
)
def test_bad_candidates_are_refused(settings, message):
    with pytest.raises(TypeError, match=message):
        Candidate(EM(), 2, **settings)


def test_a_misspecified_gate_must_be_asked_for_and_has_no_declared_exponent():
    candidates = {
        "wrong": Candidate(EM(), 2, gate=partial(softmax_gate, 1)),
        "right": Candidate(EM(), 2, gate=partial(sigmoid_gate, 1)),
    }
    study = small_study(estimator=candidates, gate=gate_of(sigmoid_gate, 1, 2))
    results = StudyResults(study, {})
    assert results.theoretical_rates("wrong") == {}
    assert results.theoretical_rates("right")["D1"].exponent == -0.5
    assert (
        StudyResults(small_study(gate=gate_of(softmax_gate, 1, 2)), {}).theoretical_rates("fit")["D1"].exponent == -0.5
    )


def test_no_workers_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"n_jobs must be a number of workers, .* got 0"):
        small_study().run(tmp_path / "study.sqlite", n_jobs=0)
    assert not (tmp_path / "study.sqlite").exists()


def test_the_exact_loss_of_more_experts_says_why_no_rate_is_declared():
    rate = StudyResults(small_study(num_experts=3), {}).theoretical_rates("fit")["D1"]
    assert rate.exponent is None
    assert "OverspecifiedLoss" in rate.source


def test_seeds_belong_to_size_and_replicate():
    study = small_study()
    x, y = draw_data(study, 60, 0)
    assert all(torch.equal(a, b) for a, b in zip((x, y), draw_data(small_study(num_replicates=9), 60, 0), strict=True))
    assert not torch.equal(y, draw_data(study, 60, 1)[1])
    assert not torch.equal(y, draw_data(study, 120, 0)[1][:60])
    assert not torch.equal(y, draw_data(small_study(seed=2), 60, 0)[1])


def test_nested_samples_contain_smaller_ones():
    for covariates in (UniformCovariates(-1.0, 2.0), NormalCovariates(0.5)):
        study = small_study(nested=True, covariates=covariates)
        small, large = draw_data(study, 60, 0), draw_data(study, 120, 0)
        assert all(torch.equal(a, b[:60]) for a, b in zip(small, large, strict=True))


def test_data_follow_the_truth():
    study = small_study()
    x, y = draw_data(study, 100_000, 0)
    with torch.no_grad():
        uniform = study.truth_model(x).cdf(y).sort().values
    grid = torch.arange(1, len(y) + 1, dtype=y.dtype) / len(y)
    # Kolmogorov's distance; 2 exp(-2 * 2.5^2) is below 1e-5.
    assert float((uniform - grid).abs().max()) * len(y) ** 0.5 < 2.5


class Failing(Loss):
    def values(self, fitted):
        raise ValueError("no such thing")


def test_failures_are_kept_and_counted(tmp_path):
    results = small_study(losses=[Failing()]).run(tmp_path / "study.sqlite", progress=False)
    assert repr(results) == "StudyResults(6 of 6 fits, 0 not converged, 6 failed)"
    assert all(row.error == "ValueError: no such thing" for row in results.rows.values())


def test_fits_that_stopped_early_are_reported(tmp_path):
    results = compared_study().run(tmp_path / "study.sqlite", progress=False)
    table = results.table()
    assert (table[table.candidate == "exact"]["not converged"] == 0).all()
    assert (table[table.candidate == "stopped"]["not converged"] == 1).all()
    gains = [row.predicted_gain for task, row in results.rows.items() if task.candidate == "stopped"]
    assert min(gains) > 1e-6
    assert all(np.isfinite(row.grad_norm) for row in results.rows.values())


def test_starts_end_at_one_maximum_and_grow_from_fewer_experts():
    oracle, data = (
        small_study(start=start, estimator=EM(n_init=6), sample_sizes=[1000]) for start in (Oracle(), DataDriven())
    )
    near = small_study(start=NearTruth(0.01), sample_sizes=[1000])
    for task in oracle.tasks[:3]:
        values = [run_task(study, task).llf for study in (oracle, data, near)]
        assert values[1] >= values[0] - 1e-6
        assert values[2] == pytest.approx(values[0], abs=1e-6)


def test_several_draws_near_the_truth_never_end_lower_than_the_first():
    settings = {"sample_sizes": [200], "num_replicates": 2, "num_experts": 3, "estimator": EM(em_iter=0)}
    one, four = (small_study(start=NearTruth(0.3, draws), **settings) for draws in (1, 4))
    for task in one.tasks:
        assert run_task(four, task).llf >= run_task(one, task).llf


def held_gate(k: int) -> Gate:
    gate = topk_gate(1, k, 2, generator=seeded(0))
    gate.score.bias.requires_grad_(False)
    return gate


def test_atoms_to_split_are_named_and_what_is_not_learned_gets_no_noise():
    candidate = Candidate(EM(em_iter=0, max_iter=1), 3, gate=held_gate, start=NearTruth(0.3, split=(0,)))
    study = small_study(estimator={"held": candidate}, sample_sizes=[60], gate=topk_gate(1, 2, 1, generator=seeded(0)))
    bias = torch.tensor(run_task(study, study.tasks[0]).parameters["gate.score.bias"]).sort().values
    expected = torch.tensor([0.0, 0.3 - math.log(2), 0.3 - math.log(2)]).sort().values
    torch.testing.assert_close(bias, expected)
    short = Candidate(EM(em_iter=0), 3, start=NearTruth(split=(0, 1)))
    row = run_task(small_study(estimator={"short": short}), Task("short", 60, 0))
    assert "split must name 1 of the 2 true atoms, got (0, 1)" in row.error


def test_starts_grown_on_a_subsample_end_at_the_same_maximum():
    settings = {"sample_sizes": [1500], "num_replicates": 2, "start": DataDriven()}
    whole, part = (small_study(estimator=EM(n_init=2, subsample=size), **settings) for size in (3000, 200))
    for task in whole.tasks:
        rows = [run_task(study, task) for study in (whole, part)]
        assert rows[1].llf == pytest.approx(rows[0].llf, abs=1e-6)


@pytest.mark.parametrize("gate", [laplace_gate, sigmoid_gate])
def test_studies_of_other_gates_declare_their_rates(tmp_path, gate):
    build = partial(gate, 2, generator=seeded(0))
    values = ([0.3, 0.0], [[0.6, 0.3], [-0.6, 0.0]], [[2.0, 0.0], [-1.0, 1.0]], [9.0, -9.0], [0.05, 0.1])
    truth = MixingMeasure(*(torch.tensor(value, dtype=torch.float64) for value in values))
    study = small_study(
        truth=truth,
        covariates=UniformCovariates(-1.0, 1.0),
        estimator={"exact": Candidate(EM(em_iter=0), 2, gate=partial(gate, 2))},
        losses=[ExactLoss(), BlockLoss(), DensityLoss(points=2)],
        sample_sizes=[200, 400],
        start=NearTruth(0.05),
        gate=build(2),
    )
    table = study.run(tmp_path / "study.sqlite", progress=False).table()
    assert set(table.loss) >= {"D1", "gate", "mass", "slope alone", "hellinger"}
    assert set(table[table.loss != "kl"].theory) == {-0.5}


def test_more_experts_fit_better_from_every_start(tmp_path):
    exact = small_study(sample_sizes=[300], num_replicates=1)
    llf = run_task(exact, exact.tasks[0]).llf
    for start in (Oracle(), DataDriven()):
        study = small_study(sample_sizes=[300], num_replicates=1, num_experts=4, start=start, estimator=EM(n_init=2))
        row = run_task(study, study.tasks[0])
        assert row.error == ""
        assert row.llf > llf


def test_losses_of_the_truth_itself_are_zero(tmp_path):
    study = small_study(losses=[ExactLoss(), BlockLoss(), DensityLoss(points=4)])
    from estimators.rates import Fitted

    fitted = Fitted(study.truth_model, study.truth_model, study.covariates)
    for loss in study.losses:
        values = loss.values(fitted)
        assert all(value < 1e-7 or np.isnan(value) for value in values.values())
        assert sum(np.isnan(list(values.values()))) == (7 if isinstance(loss, BlockLoss) else 0)


def test_temperature_losses_need_one_and_divide_by_it():
    from estimators.rates import Fitted
    from mixkit import dense_to_sparse_gate

    gate = dense_to_sparse_gate(1, 2, generator=seeded(0))
    truth, double = easy_truth().to_module(gate), easy_truth().to_module(gate)
    with torch.no_grad():
        double.gate.score.weight.mul_(2.0)
        double.gate.score.bias.mul_(2.0)
        for parameter in double.gate.temperature.parameters():
            parameter.add_(torch.log(torch.tensor(2.0)))
    study = small_study()
    values = TemperatureLoss().values(Fitted(double, truth, study.covariates))
    assert values == pytest.approx({"tau": 1.0, "beta_1": 4.0, "beta_1 / tau": 0.0}, abs=1e-6)


def test_memory_does_not_grow_with_the_number_of_fits(tmp_path, monkeypatch):
    row = run_task(small_study(), small_study().tasks[0])
    monkeypatch.setattr(
        "estimators.rates.study.run_block", lambda study, block: [type(row)(**{**vars(row), "task": block[0]})]
    )
    peaks = []
    for replicates in (200, 800):
        study = small_study(num_replicates=replicates)
        with study._store(tmp_path / f"{replicates}.sqlite") as store:
            blocks = blocks_of(study, study.tasks)
            tracemalloc.start()
            study._work(store, blocks, 1, False)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < peaks[0] + 200_000


def test_designs_pickle():
    study = compared_study()
    assert study.identity() == pickle.loads(pickle.dumps(study)).identity()


def test_progress_is_shown_by_observations(tmp_path, capsys):
    small_study().run(tmp_path / "study.sqlite")
    assert "6 fits: 100%" in capsys.readouterr().err


def test_dask_workers_may_die(tmp_path):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        study = small_study(num_replicates=12)
        victim = next(iter(client.run(os.getpid).values()))
        kill = _kill_after_first_row(tmp_path / "study.sqlite", victim)
        with parallel_config(backend="dask"):
            results = study.run(tmp_path / "study.sqlite", progress=False)
        kill.wait()
    assert kill.returncode == 0, "the worker was gone before it could be killed"
    assert numbers(results) == numbers(study.run(tmp_path / "alone.sqlite", progress=False))


KILLER = """
import os, signal, sqlite3, sys, time
path, victim = sys.argv[1], int(sys.argv[2])
while True:
    try:
        if sqlite3.connect(path).execute("SELECT count(*) FROM records").fetchone()[0] > 0:
            break
    except sqlite3.Error:
        pass
    time.sleep(0.01)
os.kill(victim, signal.SIGKILL)
"""


def _kill_after_first_row(path: Path, victim: int) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", KILLER, str(path), str(victim)])


def test_interrupts_pass_through_and_keep_rows(tmp_path, monkeypatch):
    path, calls = tmp_path / "study.sqlite", []

    def interrupted(study, block):
        calls.append(time.time())
        if len(calls) == 3:
            raise KeyboardInterrupt
        return run_block(study, block)

    monkeypatch.setattr("estimators.rates.study.run_block", interrupted)
    with pytest.raises(KeyboardInterrupt):
        small_study().run(path, progress=False)
    assert len(small_study().results(path).rows) == 2
