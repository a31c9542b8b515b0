"""Results from workers: all of them, once each, whatever the backend can do."""

import operator

import pytest
import torch
from joblib import parallel_config, register_parallel_backend
from joblib._parallel_backends import ThreadingBackend

from estimators.rates.replicates import Task
from estimators.replication.parallel import as_completed, one_thread

from .rates.designs import small_study


class ListsAlone(ThreadingBackend):
    """A backend without generators, as Ray's is."""

    supports_return_generator = False


register_parallel_backend("lists alone", ListsAlone)


@pytest.mark.parametrize("backend", ["sequential", "threading", "loky", "lists alone"])
def test_every_item_is_done_once(backend):
    with parallel_config(backend=backend, n_jobs=2):
        assert sorted(as_completed(operator.neg, range(19))) == [-i for i in range(18, -1, -1)]
        assert list(as_completed(operator.neg, [])) == []


def test_results_come_before_the_last_item_is_begun():
    begun = []
    with parallel_config(backend="lists alone", n_jobs=2):
        first = next(as_completed(lambda i: begun.append(i) or i, range(100)))
    assert first == 0
    assert len(begun) == 8


def test_what_else_is_wrong_is_raised():
    with parallel_config(backend="threading"), pytest.raises(ValueError, match="n_jobs == 0"):
        list(as_completed(operator.neg, [1], n_jobs=0))
    with pytest.raises(ValueError, match="could not be converted"):
        list(as_completed(operator.neg, [1], n_jobs="many"))


def test_a_study_runs_on_backends_without_generators(tmp_path):
    study = small_study()
    with parallel_config(backend="lists alone", n_jobs=2):
        results = study.run(tmp_path / "study.sqlite", progress=False)
    alone = study.run(tmp_path / "alone.sqlite", progress=False)
    assert results.rows[Task("fit", 60, 0)].llf == alone.rows[Task("fit", 60, 0)].llf
    assert len(results.rows) == len(alone.rows) == 6


def test_the_number_of_threads_is_as_before():
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
