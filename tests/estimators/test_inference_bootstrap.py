"""The bootstrap: what is drawn, what is kept, what is counted; and experts in the order of the fit."""

import itertools
import pickle
import sqlite3
import sys
import warnings

import joblib
import numpy as np
import pytest
import torch
from torch.distributions import Gamma, Normal

from estimators import EM, MLE, KMeansXY, MixtureOfExpertsRegressor, SingularInformationWarning
from estimators.data.dataset import Data
from estimators.inference import (
    Cases,
    Parametric,
    RandomWeights,
    Resampling,
    bootstrap,
)
from estimators.inference.bootstrap import _Refits
from estimators.inference.bootstrap_intervals import INTERVALS
from estimators.objectives.choose import make_objective
from estimators.penalties import Lasso, LogPrior, Ridge
from estimators.rates import ResultsFileError, StudyMismatchError
from estimators.results.alignment import align_experts
from estimators.search.estimator import Estimator
from mixkit import (
    MixtureOfExperts,
    constant_gate,
    linear_gaussian_experts,
    sigmoid_gate,
    softmax_gate,
)
from mixkit.datasets import load_ethanol, load_patents, load_tone
from mixkit.experts import LaplaceExperts, NegativeBinomialExperts
from mixkit.experts.predictors import LinearPredictor

from .models import CASE_IDS, DTYPE, LINEAR_CASES, reference_truth, seeded, softmax_model

PRIOR = LogPrior({"slope": Normal(0.0, 1.0), "std": Gamma(2.0, 1.0)})


class TestRefits:
    def test_one_expert_refits_least_squares(self, line):
        found = bootstrap(line, 7, random_state=3)
        x, y = (part.numpy() for part in load_ethanol())
        design = np.column_stack([x, np.ones(len(y))])
        for b in range(7):
            rng = np.random.default_rng(np.random.SeedSequence(3, spawn_key=(b,)))
            rows = rng.integers(len(y), size=len(y))
            coefficients, residual, *_ = np.linalg.lstsq(design[rows], y[rows], rcond=None)
            expected = [*coefficients, np.sqrt(residual[0] / len(y))]
            assert (np.abs(found.replicates[b] - expected) < 1e-3 * line.bse).all()
        assert found.converged.all()

    def test_random_weights_refit_weighted_least_squares(self, line):
        found = bootstrap(line, 3, resampling=RandomWeights(), random_state=3)
        x, y = (part.numpy() for part in load_ethanol())
        design = np.column_stack([x, np.ones(len(y))])
        weight = np.random.default_rng(np.random.SeedSequence(3, spawn_key=(0,))).exponential(size=len(y))
        root = np.sqrt(weight)[:, None]
        coefficients, *_ = np.linalg.lstsq(root * design, root[:, 0] * y, rcond=None)
        assert (np.abs(found.replicates[0, :3] - coefficients) < 1e-3 * line.bse[:3]).all()

    def test_the_parametric_law_of_one_expert_is_known(self, line):
        """Standard errors of 1,000 replicates have a relative error of 1 / sqrt(2000): 4.4 of them are 10%."""
        found = bootstrap(line, 1_000, resampling="parametric", random_state=0)
        np.testing.assert_allclose(found.bse[:3], line.bse[:3], rtol=0.1)
        n = line.nobs
        means = found.replicates[:, 3] ** 2 / line.params[3] ** 2 * n  # chi-square of n - 3 degrees of freedom
        assert abs(means.mean() - (n - 3)) < 4.4 * np.sqrt(2 * (n - 3) / 1_000)  # false-alarm rate 1e-5

    @pytest.mark.parametrize("kind", ["case", "parametric", "weights"])
    def test_errors_are_near_those_of_theory(self, kind):
        """On 1,000 observations; 200 replicates have relative errors of 5%, so 30% is beyond five of them."""
        x, y = reference_truth().sample_xy(1_000, generator=seeded(0))
        result = EM(random_state=0, n_init=2).fit(softmax_model(1, 2), x, y)
        found = bootstrap(result, 200, resampling=kind, random_state=0)
        np.testing.assert_allclose(found.bse, result.bse, rtol=0.3)
        assert (found.num_failed, found.num_not_converged) == (0, 0)
        for method in INTERVALS:
            ends = found.conf_int(method=method)
            assert (ends[:, 0] < result.params).all()
            assert (result.params < ends[:, 1]).all()

    def test_numbers_do_not_depend_on_workers_or_on_how_many_follow(self, tone):
        alone = bootstrap(tone, 60, random_state=5)
        with joblib.parallel_config(backend="threading", n_jobs=2):
            np.testing.assert_array_equal(bootstrap(tone, 60, random_state=5).replicates, alone.replicates)
        np.testing.assert_array_equal(bootstrap(tone, 110, random_state=5).replicates[:60], alone.replicates)
        assert not np.array_equal(bootstrap(tone, 60, random_state=6).replicates, alone.replicates)

    def test_other_processes_find_the_same(self, tone):
        """What a worker is sent, and sends back."""
        end = tone.maximum
        refits = _Refits(tone.model, end.objective, end.theta, Cases(), tone.estimator._warm_start(), 5)
        twin = pickle.loads(pickle.dumps(refits))
        assert twin.run([0, 1]) == refits.run([0, 1])
        assert twin.design() == refits.design()

    def test_batches_and_single_refits_agree(self, tone, monkeypatch):
        together = bootstrap(tone, 6, random_state=1)
        monkeypatch.setattr(sys.modules["estimators.inference.bootstrap"], "_LARGEST_GROUP", 1)
        apart = bootstrap(tone, 6, random_state=1)
        np.testing.assert_allclose(together.replicates, apart.replicates, rtol=1e-5, atol=1e-6)

    def test_later_changes_of_the_estimator_do_not_reach_the_result(self):
        starts = [KMeansXY()]
        estimator = EM(random_state=0, n_init=2, starts=starts)
        result = estimator.fit(softmax_model(1, 2), *load_tone())
        before = bootstrap(result, 3, random_state=0)
        estimator.penalty, estimator.n_init = Ridge(50.0, 50.0), 9
        starts.append(KMeansXY())
        assert (result.estimator.penalty, result.estimator.n_init, len(result.estimator.starts)) == (None, 2, 1)
        np.testing.assert_array_equal(bootstrap(result, 3, random_state=0).replicates, before.replicates)

    @pytest.mark.parametrize("first", [None, Ridge(5.0, 5.0), Lasso(5.0, 5.0), PRIOR], ids=repr)
    @pytest.mark.parametrize("second", [None, Ridge(50.0, 50.0), Lasso(0.5, 0.5), PRIOR], ids=repr)
    def test_refits_may_have_another_penalty_than_the_fit(self, first, second, monkeypatch):
        monkeypatch.setattr(sys.modules["estimators.inference.bootstrap"], "_LARGEST_GROUP", 3)
        result = EM(penalty=first, random_state=0, n_init=2, n_moves=0).fit(softmax_model(1, 2), *load_tone())
        other = EM(penalty=second, start_at_model=True, random_state=0, n_init=0)
        found = bootstrap(result, 3, random_state=0, estimator=other)
        assert not found.errors
        assert np.isfinite(found.llf).all()

    def test_extra_starts_never_end_lower(self, tone):
        plain = bootstrap(tone, 8, random_state=2)
        more = bootstrap(tone, 8, random_state=2, extra_starts=3)
        assert plain.llf.shape == more.llf.shape
        own = bootstrap(tone, 8, random_state=2, estimator=EM(n_init=1, start_at_model=True))
        for found in (more, own):
            healthy = found.converged & plain.converged & (np.abs(found.llf - plain.llf) < 50)
            assert (found.llf - plain.llf)[healthy].min() > -1e-6

    def test_other_gates_and_weights_of_the_data(self):
        x, y = load_tone()
        experts = linear_gaussian_experts(1, 2, dtype=DTYPE, generator=seeded(0))
        model = MixtureOfExperts(sigmoid_gate(1, 2, dtype=DTYPE, generator=seeded(0)), experts)
        weight = 0.5 + torch.rand(len(y), dtype=DTYPE, generator=seeded(1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SingularInformationWarning)
            result = EM(random_state=0, n_init=2).fit(model, x, y, weight)
            found = bootstrap(result, 3, random_state=0)
            same = bootstrap(result, 2, resampling=NoResampling(), random_state=0)
        assert np.isfinite(found.replicates).all()
        assert len(np.unique(found.replicates.round(6), axis=0)) == 3
        np.testing.assert_allclose(same.replicates, np.tile(result.params, (2, 1)), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(same.llf, result.llf, rtol=1e-9)


class NoResampling(Resampling):
    """The data as they are."""

    def draw(self, model, data, rngs):
        return Data(*(part.expand(len(rngs), *part.shape[1:]) for part in (data.x, data.y, data.weight)))


class TestFamilies:
    """Kinds of objectives, each refitted in batches and renumbered."""

    @staticmethod
    def bootstrapped(experts, data, gate=None, **settings):
        gate = constant_gate(2, dtype=DTYPE) if gate is None else gate
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SingularInformationWarning)
            result = EM(random_state=0, n_init=3, **settings).fit(MixtureOfExperts(gate, experts.to(DTYPE)), *data)
            return result, bootstrap(result, 8, random_state=0)

    def test_counts(self):
        predictor = LinearPredictor(1, 2, dtype=DTYPE, generator=seeded(0))
        result, found = self.bootstrapped(NegativeBinomialExperts(predictor), load_patents())
        known = ~np.isnan(result.bse)
        assert found.num_failed == 0
        assert np.isfinite(found.bse[known]).all()
        slope = result.param_names.index("slope[0,x0]")
        assert found.bse[slope] == pytest.approx(result.bse[slope], rel=1.0)

    def test_densities_with_a_corner(self):
        predictor = LinearPredictor(1, 2, dtype=DTYPE, generator=seeded(0))
        result, found = self.bootstrapped(LaplaceExperts(predictor), load_tone())
        assert found.num_failed == 0
        assert found.bse.shape == result.bse.shape
        assert (found.bse > 0).all()

    def test_penalties_stay(self):
        experts = linear_gaussian_experts(1, 2, dtype=DTYPE, generator=seeded(0))
        gate = softmax_gate(1, 2, dtype=DTYPE, generator=seeded(0))
        result, found = self.bootstrapped(experts, load_tone(), gate, penalty=Ridge(gate=100.0))
        _, free = self.bootstrapped(experts, load_tone(), gate)
        weight = result.param_names.index("gate_weight[0,x0]")
        assert found.bse[weight] < 0.5 * free.bse[weight]
        single = _Refits(result.model, result.maximum.objective, result.maximum.theta, Cases(), result.estimator, 0)
        assert single.group_size > 1


class TestAlignment:
    @pytest.mark.parametrize("case", LINEAR_CASES, ids=CASE_IDS)
    def test_experts_come_back_in_order(self, case):
        """Both routes, on parameter vectors of models whose experts were renumbered."""
        k, n = 3, 90
        model, (x, y) = case.model(2, k, 4), case.data(n, 2, 4)
        if not case.counts:
            with torch.no_grad():
                model.experts.predictor.intercept.copy_(torch.tensor([-20.0, 0.0, 20.0]))
            y = y + 20.0 * (torch.arange(n, dtype=DTYPE) % 3 - 1)
        objective = make_objective(model, Data(x[None], y[None], None), 1e-6, torch.zeros(2, dtype=torch.bool))
        theta = objective.read(model)[0, 0]
        orders = list(itertools.permutations(range(k)))
        renumbered = torch.stack([self.renumbered(objective, theta, model, order) for order in orders])
        for align in (align_experts, align_experts.dispatch(object)):
            aligned = align(objective, renumbered, theta, model)
            torch.testing.assert_close(aligned, theta.expand(len(orders), -1), rtol=1e-7, atol=1e-9)

    @staticmethod
    def renumbered(objective, theta, model, order):
        twin = type(model)(*(part for part in (model.gate, model.experts)))
        state = {name: value.clone() for name, value in twin.state_dict().items()}
        with torch.no_grad():
            for parameter in twin.parameters():
                if len(parameter) == len(order):
                    parameter.copy_(parameter[list(order)].clone())
        vector = objective.read(twin)[0, 0]
        twin.load_state_dict(state)
        return vector

    def test_a_switched_refit_is_switched_back(self, tone):
        """Refits of an estimator that numbers the experts the other way."""

        class Switching(MLE):
            def _best_optima(self, model, data):
                objective, ascent = super()._best_optima(model, data)
                theta = ascent.theta.clone()
                for r in range(len(theta)):
                    theta[r, 0] = TestAlignment.switched(objective, theta[r, 0])
                return objective, ascent._replace(theta=theta)

        switching = Switching(n_init=0, starts=[], start_at_model=True)
        plain = bootstrap(tone, 10, random_state=0)
        back = bootstrap(tone, 10, random_state=0, estimator=switching)
        np.testing.assert_allclose(back.replicates, plain.replicates, rtol=1e-5, atol=1e-6)

    @staticmethod
    def switched(objective, vector):
        blocks = objective.layout.unpack(vector[None, None])
        gate, expert, *constants = (b.flip(2) for b in (blocks.gate, blocks.expert, *blocks.constants))
        return objective.layout.pack(blocks._replace(gate=gate - gate[:, :, -1:], expert=expert, constants=constants))[
            0, 0
        ]


class TestKeeping:
    def test_a_file_takes_up_where_it_stopped(self, tone, tmp_path, monkeypatch):
        path, whole = tmp_path / "b.sqlite", bootstrap(tone, 120, random_state=1)
        calls, real = [], Estimator._best_optima

        def counted(self, model, data):
            calls.append(len(data.x))
            if len(calls) == 2:
                raise KeyboardInterrupt
            return real(self, model, data)

        monkeypatch.setattr(Estimator, "_best_optima", counted)
        with pytest.raises(KeyboardInterrupt):
            bootstrap(tone, 120, random_state=1, path=path)
        found = bootstrap(tone, 120, random_state=1, path=path)
        np.testing.assert_array_equal(found.replicates, whole.replicates)
        assert calls == [50, 50, 50, 50]
        bootstrap(tone, 150, random_state=1, path=path)
        assert len(calls) == 4

    def test_a_file_of_another_design_is_refused(self, tone, line, tmp_path):
        path = tmp_path / "b.sqlite"
        bootstrap(tone, 2, random_state=1, path=path)
        for call, word in (
            (lambda: bootstrap(tone, 2, random_state=2, path=path), "seed"),
            (lambda: bootstrap(tone, 2, random_state=1, resampling="parametric", path=path), "resampling"),
            (lambda: bootstrap(line, 2, random_state=1, path=path), "data"),
            (lambda: bootstrap(tone, 2, random_state=1, extra_starts=1, path=path), "estimator"),
        ):
            with pytest.raises(StudyMismatchError, match=word):
                call()

    def test_other_files_are_refused(self, tone, tmp_path):
        text = tmp_path / "text"
        text.write_text("no database, but long enough to be looked at as one" * 50)
        other = tmp_path / "other.sqlite"
        with sqlite3.connect(other) as connection:
            connection.execute("CREATE TABLE mine (a)")
        connection.close()
        for path in (text, other, tmp_path / "nowhere" / "b.sqlite"):
            with pytest.raises(ResultsFileError, match="path must be"):
                bootstrap(tone, 2, random_state=1, path=path)

    def test_failures_are_counted_and_left_out(self, tone, monkeypatch):
        class Moody(MLE):
            def _best_optima(self, model, data):
                if len(data.x) > 1 or float(data.y[0, 0]) > 2.0:
                    raise ValueError("no mood")
                objective, ascent = super()._best_optima(model, data)
                return objective, ascent._replace(converged=torch.zeros_like(ascent.converged))

        found = bootstrap(tone, 30, random_state=0, estimator=Moody(n_init=0, starts=[], start_at_model=True))
        assert 0 < found.num_failed < 30
        assert found.num_failed + found.num_not_converged == 30
        assert set(found.errors.values()) == {"ValueError: no mood"}
        assert np.isnan(found.replicates).all(1).sum() == found.num_failed
        kept = found.replicates[~np.isnan(found.llf)]
        np.testing.assert_allclose(found.bse, kept.std(0, ddof=1))
        assert f"{found.num_failed} failed" in repr(found)

    def test_resamples_without_a_covariate_fail_alone(self):
        """A column with two ones in 40 rows is constant in one resample of eight: others are refitted alone."""
        x = torch.zeros(40, 2, dtype=DTYPE)
        x[:, 0] = torch.linspace(0.0, 1.0, 40)
        x[:2, 1] = 1.0
        y = x[:, 0] + torch.randn(40, dtype=DTYPE, generator=seeded(0))
        found = bootstrap(MLE(n_init=1, random_state=0).fit(softmax_model(2, 1), x, y), 40, random_state=0)
        rows = [
            np.random.default_rng(np.random.SeedSequence(0, spawn_key=(b,))).integers(40, size=40) for b in range(40)
        ]
        constant = [b for b in range(40) if (rows[b] > 1).all()]
        assert list(found.errors) == constant != []
        assert "a covariate is constant" in found.errors[constant[0]]

    def test_too_few_fits_are_no_bootstrap(self, tone):
        class Broken(MLE):
            def _best_optima(self, model, data):
                raise ValueError("never")

        found = bootstrap(tone, 3, random_state=0, estimator=Broken())
        with pytest.raises(ValueError, match="too few replicates have a fit: 0 of 3"):
            found.conf_int()


class TestRequests:
    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            ({"num_replicates": 1}, ValueError, "num_replicates must be at least 2"),
            ({"resampling": "wild"}, ValueError, "resampling must be one of"),
            ({"random_state": "seed"}, TypeError, "random_state must be"),
            ({"random_state": -1}, ValueError, "random_state must not be negative"),
            ({"path": "b.sqlite"}, ValueError, "random_state must be a seed"),
            ({"extra_starts": -1}, ValueError, "extra_starts must be at least 0"),
        ],
        ids=["count", "kind", "seed", "negative", "unseeded file", "starts"],
    )
    def test_bad_requests_are_refused(self, tone, settings, error, message):
        with pytest.raises(error, match=message):
            bootstrap(tone, **{"num_replicates": 2, **settings})

    def test_a_regressor_is_no_result(self):
        with pytest.raises(TypeError, match=r"its \.result_\), got MixtureOfExpertsRegressor"):
            bootstrap(MixtureOfExpertsRegressor(), 10)

    def test_weighted_rows_have_no_law_to_draw_from(self):
        x, y = load_tone()
        weight = torch.linspace(0.5, 2.0, len(y), dtype=DTYPE)
        result = EM(random_state=0, n_init=2).fit(softmax_model(1, 2), x, y, weight)
        with pytest.raises(ValueError, match="needs observations without weights, got sample weights; use 'case'"):
            bootstrap(result, 2, resampling=Parametric(), random_state=0)
        drawn = Cases().draw(result.model, result.maximum.data, [np.random.default_rng(0)])
        rows = np.random.default_rng(0).integers(len(y), size=len(y))
        np.testing.assert_array_equal(drawn.weight[0], weight[rows])

    def test_a_generator_is_a_seed_and_none_is_chance(self, tone):
        first = bootstrap(tone, 2, random_state=np.random.default_rng(0))
        second = bootstrap(tone, 2, random_state=np.random.default_rng(0))
        np.testing.assert_array_equal(first.replicates, second.replicates)
        assert not np.array_equal(bootstrap(tone, 2).replicates, bootstrap(tone, 2).replicates)
