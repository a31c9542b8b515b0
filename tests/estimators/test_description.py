"""Descriptions of settings: the same for equal ones, others for others, in every run."""

import copy
import pickle
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from torch.distributions import (
    AffineTransform,
    Bernoulli,
    Gamma,
    Independent,
    LogNormal,
    Normal,
    TransformedDistribution,
)

from estimators import EM, GivenResponsibilities, KMeansXY, LocalLines, SplitAtom, Start
from estimators.inference import bootstrap, bootstrap_lrt
from estimators.inference.resampling import Resampling
from estimators.penalties import Lasso, LogPrior, Ridge
from estimators.rates import (
    ExactLoss,
    Loss,
    Oracle,
    RateStudy,
    StartPolicy,
    StudyMismatchError,
    UniformCovariates,
)
from estimators.rates.covariates import Covariates
from estimators.replication.fingerprint import describe, digest
from mixkit.datasets import load_tone

from .models import reference_truth, softmax_model


class Plain(Start):
    """A start that has no repr of its own."""

    def __init__(self, width=1.0, table=None):
        self.width, self.table = width, table

    def responsibilities(self, x, y, k, rng):
        return KMeansXY().responsibilities(x, y, k, rng)


@dataclass(frozen=True, slots=True)
class Slotted:
    values: torch.Tensor


def wide(index, change):
    """A long array, whose repr leaves out the middle, with one entry changed."""
    values = np.zeros(5000)
    values[index] = change
    return values


PAIRS = [
    (LogPrior({"slope": Normal(0.0, 0.01)}), LogPrior({"slope": Normal(0.0, 100.0)})),
    (LogPrior({"slope": Normal(0.0, 1.0)}), LogPrior({"intercept": Normal(0.0, 1.0)})),
    (LogPrior({"slope": Normal(0.0, torch.ones(3))}), LogPrior({"slope": Normal(0.0, torch.tensor([1.0, 1.0, 2.0]))})),
    (Ridge(1.0) + LogPrior({"std": Gamma(1.0, 1.0)}), Ridge(1.0) + LogPrior({"std": Gamma(1.0, 2.0)})),
    (Ridge(1.0) + Lasso(1.0), Ridge(1.0) + Lasso(2.0)),
    (LogNormal(0.0, 1.0), LogNormal(0.0, 2.0)),
    (Independent(Normal(torch.zeros(2), 1.0), 1), Normal(torch.zeros(2), 1.0)),
    (Bernoulli(0.3), Bernoulli(0.4)),
    (
        TransformedDistribution(Normal(0.0, 1.0), [AffineTransform(0.0, 2.0)]),
        TransformedDistribution(Normal(0.0, 1.0), [AffineTransform(0.0, 3.0)]),
    ),
    (Plain(1.0), Plain(2.0)),
    (Plain(table=wide(2500, 1.0)), Plain(table=wide(2500, 2.0))),
    (Plain(table=wide(2500, 1.0)), Plain(table=wide(2501, 1.0))),
    (GivenResponsibilities(torch.ones(1, 3)), GivenResponsibilities(torch.ones(1, 4))),
    (SplitAtom(softmax_model(1, 1, 0)), SplitAtom(softmax_model(1, 1, 1))),
    (EM(starts=[LocalLines(0.1)]), EM(starts=[LocalLines(0.2)])),
    (Slotted(torch.zeros(5000)), Slotted(torch.as_tensor(wide(2500, 1.0)))),
    (partial(pow, 2), partial(pow, 3)),
    (np.random.default_rng(0), np.random.default_rng(1)),
    ((1,), [1]),
    ((1, 2), (12,)),
    ({"a": 1}, {"a": 2}),
    (np.array(["a", "b"]), np.array(["a", "c"])),
    (True, 1.0),
]


@pytest.mark.parametrize(("first", "second"), PAIRS, ids=lambda value: type(value).__name__)
def test_settings_that_differ_are_described_differently(first, second):
    assert describe(first) != describe(second)


@pytest.mark.parametrize("value", [one for pair in PAIRS for one in pair], ids=lambda value: type(value).__name__)
def test_copies_are_described_alike(value):
    described = describe(value)
    assert describe(value) == described
    assert describe(copy.deepcopy(value)) == described
    assert describe(pickle.loads(pickle.dumps(value))) == described
    assert " at 0x" not in described


def test_what_a_distribution_has_computed_is_no_part_of_it():
    prior = Bernoulli(0.3)
    before = describe(prior)
    assert prior.logits.isfinite()
    assert describe(prior) == before


def test_plain_settings_are_written_as_python_writes_them():
    for value in (EM(), EM(n_init=3, starts=[LocalLines(0.2), KMeansXY()], penalty=Ridge(2.0)), Oracle(), (1,), [0.5]):
        assert describe(value) == repr(value)


def test_digests_tell_shapes_and_numbers():
    assert digest(torch.zeros(2)) == digest(np.zeros(2)) == digest(np.zeros(4)[::-2])
    assert len({digest(torch.zeros(2)), digest(torch.zeros(2, 1)), digest(torch.ones(2)), digest(None)}) == 4


class OwnLoss(Loss):
    def values(self, fitted):
        return {"one": 1.0}


class OwnPolicy(StartPolicy):
    def fit(self, estimator, problem):
        return Oracle().fit(estimator, problem)


class OwnCovariates(Covariates):
    def draw(self, n, d, rng):
        return rng.uniform(size=(n, d))


class OwnResampling(Resampling):
    def draw(self, model, data, rngs):
        raise NotImplementedError


def study(estimator, **settings):
    settings = {"start": Oracle(), "batch_size": 1} | settings
    losses, covariates = settings.pop("losses", [ExactLoss()]), settings.pop("covariates", UniformCovariates())
    return RateStudy(reference_truth(), covariates, estimator, losses, [100], num_replicates=1, seed=0, **settings)


class TestStudies:
    def test_other_priors_are_another_design(self, tmp_path):
        narrow, other = (EM(penalty=LogPrior({"slope": Normal(0.0, std)})) for std in (0.01, 100.0))
        study(narrow).run(tmp_path / "study.sqlite", progress=False)
        with pytest.raises(StudyMismatchError, match="candidate fit"):
            study(other).run(tmp_path / "study.sqlite", progress=False)

    @pytest.mark.parametrize(
        "own", [{"progress": True}, {"random_state": 3}, {"random_state": np.random.default_rng()}]
    )
    def test_what_the_study_sets_itself_is_no_part_of_the_design(self, own):
        assert study(EM(**own)).identity() == study(EM()).identity()

    def test_objects_of_ones_own_are_described_alike_in_every_run(self):
        first, second = (
            study(EM(starts=[Plain()]), losses=[OwnLoss()], start=OwnPolicy(), covariates=OwnCovariates()).identity()
            for _ in range(2)
        )
        assert first == second

    def test_files_of_plain_designs_stay_readable(self):
        found = study(EM(n_init=2), start=Oracle(), batch_size=8).identity()
        assert found["covariates"] == "UniformCovariates(low=0.0, high=1.0)"
        assert found["losses"] == "[ExactLoss(num_selected=None)]"
        settings = (
            "EM(n_init=2, starts=None, start_at_model=False, max_iter=200, tol=1e-09, variance_floor=None, "
            "spurious='last', subsample=3000, n_keep=4, n_moves=None, penalty=None, random_state=None, progress=False, "
            "em_iter=10, em_tol=1e-06, finish=True) from Oracle() on MixtureOfExperts( (gate)"
        )
        assert found["candidate fit"].startswith(settings)
        assert found["candidate fit"].endswith(" in blocks of 8")


class TestReplicates:
    def test_other_priors_are_another_bootstrap(self, tmp_path):
        path, settings = tmp_path / "replicates.sqlite", {"random_state": 0, "n_init": 1, "n_moves": 0}
        first, second = (EM(penalty=LogPrior({"slope": Normal(0.0, std)}), **settings) for std in (1.0, 1.1))
        result = first.fit(softmax_model(1, 2), *load_tone())
        bootstrap(result, 2, estimator=first, random_state=0, path=path)
        with pytest.raises(StudyMismatchError, match="estimator"):
            bootstrap(result, 2, estimator=second, random_state=0, path=path)
        with pytest.raises(StudyMismatchError, match="resampling"):
            bootstrap(result, 2, estimator=first, resampling=OwnResampling(), random_state=0, path=path)

    def test_other_priors_are_another_test(self, tmp_path):
        path, settings = tmp_path / "test.sqlite", {"n_init": 1, "n_moves": 0}
        first, second = (EM(penalty=LogPrior({"slope": Normal(0.0, std)}), **settings) for std in (1.0, 1.1))
        x, y = load_tone()
        bootstrap_lrt(x[:40], y[:40], 1, estimator=first, num_replicates=1, random_state=0, path=path)
        with pytest.raises(StudyMismatchError, match="estimator"):
            bootstrap_lrt(x[:40], y[:40], 1, estimator=second, num_replicates=1, random_state=0, path=path)
