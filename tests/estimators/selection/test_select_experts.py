"""The path of fits does not fall, criteria are their formulas, and the choice follows them."""

import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.model_selection import KFold, TimeSeriesSplit

from estimators import EM, MLE
from estimators.data.dataset import as_data
from estimators.model_selection import HeldOut, duplicate_expert, effective_df, select_experts
from estimators.model_selection.path import fit_from, fit_path
from estimators.penalties import Lasso, Ridge
from estimators.results.criteria import responsibility_entropy
from estimators.search.starts import GivenResponsibilities, KMeansXY, RandomPartition
from mixkit import (
    FullCovariance,
    MixtureOfExperts,
    MultivariateGaussianExperts,
    PoissonExperts,
    activation_gate,
    constant_gate,
    dense_to_sparse_gate,
    laplace_gate,
    linear_gaussian_experts,
    sigmoid_gate,
    softmax_gate,
    topk_gate,
)
from mixkit.datasets import load_ethanol, load_faithful, load_patents, load_tone
from mixkit.experts.predictors import LinearPredictor
from tests.estimators.models import reference_truth, seeded, softmax_model

DOUBLE = torch.float64


@pytest.fixture(scope="module")
def reference():
    return reference_truth().sample_xy(600, generator=seeded(3))


@pytest.fixture(scope="module")
def selection(reference):
    return select_experts(*reference, range(1, 5), criterion="cv", random_state=0, estimator=EM(n_init=4))


class TestThePath:
    @pytest.mark.parametrize("load", [load_faithful, load_tone], ids=["faithful", "tone"])
    def test_the_log_likelihood_does_not_fall_with_k(self, load):
        found = select_experts(*load(), num_experts=range(1, 6), random_state=0, estimator=EM(n_init=3))
        llf = np.array([fit.llf for fit in found.fits])
        assert (np.diff(llf) >= -1e-6).all()
        assert found.is_monotone

    def test_a_poor_estimator_is_repaired_by_nesting(self, reference):
        """One EM iteration from chance ends far below the smaller fit; only the nested start reaches it."""
        x, y = reference
        data = as_data(softmax_model(1, 1), x, y, None, is_batch=False)
        good = fit_from(EM(), softmax_model(1, 2), data, [KMeansXY()], np.random.default_rng(0))
        poor = EM(n_init=1, starts=[RandomPartition()], em_iter=1, finish=False)
        steps = fit_path(lambda k: softmax_model(1, k), data, [1, 2, 3, 4], poor, 0)
        llf = [step.result.llf for step in steps]
        assert all(later >= earlier - 1e-6 for earlier, later in pairwise(llf))
        nested = duplicate_expert(good.model, softmax_model(1, 3), 1)
        alone = fit_from(poor, nested, data, [], np.random.default_rng(0), at_model=True)
        assert alone.llf >= good.llf - 1e-9 * abs(good.llf)

    def test_nesting_says_where_the_maximum_came_from(self, reference, monkeypatch):
        from estimators.model_selection import path

        monkeypatch.setattr(path, "SplitAtom", lambda model: RandomPartition())
        x, y = reference
        data = as_data(softmax_model(1, 1), x, y, None, is_batch=False)
        poor = EM(n_init=1, starts=[RandomPartition()], em_iter=2, finish=False)
        good = EM(n_init=4)
        before = fit_from(good, softmax_model(1, 2), data, [KMeansXY()], np.random.default_rng(0))
        step = path._step(softmax_model(1, 3), data, before, poor, np.random.default_rng(1))
        assert step.origin == "nested"
        assert step.result.llf >= before.llf - 1e-9 * abs(before.llf)

    def test_a_size_has_the_same_fit_whatever_sizes_are_asked_for(self, reference):
        few = select_experts(*reference, [1, 3], random_state=0, estimator=EM(n_init=2))
        all_of_them = select_experts(*reference, range(1, 4), random_state=0, estimator=EM(n_init=2))
        assert few.num_experts == (1, 3)
        assert few.fits[1].llf == all_of_them.fits[2].llf

    def test_the_same_seed_gives_the_same_bits(self, reference):
        first, second = (select_experts(*reference, [2, 3], random_state=7, estimator=EM(n_init=2)) for _ in "ab")
        for one, other in zip(first.fits, second.fits, strict=True):
            assert np.array_equal(one.params, other.params)

    def test_a_generator_may_give_the_seed(self, reference):
        found = select_experts(*reference, [2], random_state=np.random.default_rng(1), estimator=EM(n_init=2))
        assert found.best.converged


GATES = {
    "softmax": lambda d, k, g: softmax_gate(d, k, generator=g),
    "constant": lambda d, k, g: constant_gate(k),
    "laplace": lambda d, k, g: laplace_gate(d, k, generator=g),
    "activation": lambda d, k, g: activation_gate(d, k, activation=torch.tanh, generator=g),
    "temperature": lambda d, k, g: dense_to_sparse_gate(d, k, generator=g),
}


class TestDuplicateExpert:
    def model(self, gate, k, seed):
        g = seeded(seed)
        model = MixtureOfExperts(gate(2, k, g), linear_gaussian_experts(2, k, generator=g)).to(DOUBLE)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=g, dtype=DOUBLE))
        return model

    @pytest.mark.parametrize("name", GATES)
    @pytest.mark.parametrize("expert", [0, 2])
    def test_the_law_stays(self, name, expert):
        small, large = self.model(GATES[name], 3, 0), self.model(GATES[name], 4, 1)
        x, y = torch.randn(20, 2, generator=seeded(2), dtype=DOUBLE), torch.randn(20, generator=seeded(3), dtype=DOUBLE)
        before = {name: value.clone() for name, value in large.state_dict().items()}
        nested = duplicate_expert(small, large, expert)
        torch.testing.assert_close(nested.log_prob(x, y), small.log_prob(x, y), rtol=1e-12, atol=1e-12)
        assert all(torch.equal(value, before[name]) for name, value in large.state_dict().items())

    def test_a_vector_response(self):
        def build(k):
            means = LinearPredictor(1, k, response_dim=2, generator=seeded(k), dtype=DOUBLE)
            covariance = FullCovariance(k, 2, dtype=DOUBLE)
            gate = softmax_gate(1, k, generator=seeded(k), dtype=DOUBLE)
            return MixtureOfExperts(gate, MultivariateGaussianExperts(means, covariance))

        small = build(2)
        x, y = (
            torch.randn(9, 1, generator=seeded(0), dtype=DOUBLE),
            torch.randn(9, 2, generator=seeded(1), dtype=DOUBLE),
        )
        torch.testing.assert_close(duplicate_expert(small, build(3), 1).log_prob(x, y), small.log_prob(x, y))

    def test_models_that_do_not_match(self):
        assert duplicate_expert(softmax_model(1, 2), softmax_model(1, 5), 0) is None
        assert duplicate_expert(softmax_model(1, 2), softmax_model(2, 3), 0) is None
        bare = MixtureOfExperts(
            softmax_gate(1, 3, bias=False, generator=seeded(0)), linear_gaussian_experts(1, 3, generator=seeded(0))
        )
        smaller = MixtureOfExperts(
            softmax_gate(1, 2, bias=False, generator=seeded(0)), linear_gaussian_experts(1, 2, generator=seeded(0))
        )
        assert duplicate_expert(smaller, bare, 0) is None


class TestCriteria:
    def test_they_are_their_formulas(self, selection, reference):
        x, y = reference
        for index, fit in enumerate(selection.fits):
            size, llf = len(fit.params), fit.llf
            with torch.no_grad():
                resp = fit.model(x).log_responsibilities(y).exp()
            entropy = -float(torch.special.xlogy(resp, resp).sum())
            assert selection.values["aic"][index] == pytest.approx(2 * size - 2 * llf)
            assert selection.values["bic"][index] == pytest.approx(size * np.log(600) - 2 * llf)
            assert selection.values["icl"][index] == pytest.approx(size * np.log(600) - 2 * llf + 2 * entropy)

    def test_one_expert_has_no_entropy(self, selection):
        assert selection.values["icl"][0] == selection.values["bic"][0]

    def test_weights_multiply_the_entropy(self, reference):
        x, y = reference
        model, weight = softmax_model(1, 3), torch.arange(600.0, dtype=DOUBLE)
        twice = responsibility_entropy(model, torch.cat([x, x]), torch.cat([y, y]), torch.cat([weight, 0 * weight]))
        assert responsibility_entropy(model, x, y, weight) == pytest.approx(twice)

    def test_a_response_that_is_no_number_is_refused(self):
        x, y = torch.zeros(3, 1, dtype=DOUBLE), torch.tensor([0.0, torch.nan, 1.0], dtype=DOUBLE)
        with pytest.raises(ValueError, match="y must be finite"):
            responsibility_entropy(softmax_model(1, 3), x, y)

    @pytest.mark.parametrize("criterion", ["bic", "icl", "cv"])
    def test_the_truth_is_found(self, selection, criterion):
        assert selection.choose(criterion) == 2

    def test_a_function_of_ones_own(self, reference):
        def worst(result, x, y):
            assert x.shape == (600, 1)
            assert y.shape == (600,)
            return result.llf

        found = select_experts(*reference, [1, 2], criterion=worst, random_state=0, estimator=EM(n_init=2))
        assert found.criterion == "worst"
        assert found.best_num_experts == 1
        assert found.criteria == ["aic", "bic", "icl", "worst"]

    def test_equal_values_choose_the_smaller(self, reference):
        found = select_experts(
            *reference, [1, 2], criterion=lambda result, x, y: 0.0, random_state=0, estimator=EM(n_init=1)
        )
        assert found.best_num_experts == 1


class TestEffectiveDegreesOfFreedom:
    def test_a_ridge_takes_them_from_all_to_the_unpenalized(self):
        """One expert on two columns: slopes are penalized, intercept and standard deviation are not."""
        x, y = load_ethanol()
        freedom = []
        for strength in (1e-8, 1.0, 10.0, 100.0, 1e8):
            penalty = Ridge(gate=0.0, experts=strength)
            found = select_experts(x, y, [1], estimator=MLE(n_init=1, penalty=penalty), random_state=0)
            freedom.append(effective_df(found.best.maximum))
            expected = np.log(len(y)) * freedom[-1] - 2 * found.best.llf
            assert found.values["bic"][0] == pytest.approx(expected)
        assert freedom[0] == pytest.approx(4.0, abs=1e-4)
        assert freedom[-1] == pytest.approx(2.0, abs=1e-4)
        assert (np.diff(freedom) < 0).all()

    def test_a_poisson_ridge_has_the_trace_of_its_hat_matrix(self):
        """Counts: the information is that of weighted least squares, at the fitted rates."""
        x, y = load_patents()
        model = MixtureOfExperts(constant_gate(1), PoissonExperts(LinearPredictor(x.shape[1], 1, generator=seeded(0))))
        fit = MLE(n_init=1, random_state=0, penalty=Ridge(gate=0.0, experts=50.0)).fit(model, x, y)
        with torch.no_grad():
            rate = fit.model(x).mean
        column = (x[:, 0] - x[:, 0].mean()) / x[:, 0].std(correction=0)
        design = torch.stack([column, torch.ones_like(column)], 1)
        information = (design * rate[:, None]).T @ design
        penalty = torch.diag(information.new_tensor([50.0, 0.0]))
        expected = torch.trace(torch.linalg.solve(information + penalty, information))
        assert effective_df(fit.maximum) == pytest.approx(float(expected), rel=1e-6)

    def test_the_lasso_has_one_for_each_coefficient_left(self, reference):
        x, y = reference
        rows = torch.cat([x, torch.randn(600, 2, dtype=DOUBLE, generator=seeded(4))], 1)
        fit = EM(n_init=3, random_state=0, penalty=Lasso(20.0, 20.0)).fit(softmax_model(3, 2), rows, y)
        zeroed = fit.maximum.objective.zeroed
        assert zeroed
        left = fit.df_model - len(zeroed)
        assert effective_df(fit.maximum) == pytest.approx(left, abs=1e-8)
        fit.remove_data()
        assert (fit.effective_df, fit.aic) == pytest.approx((left, 2 * left - 2 * fit.llf))
        assert fit.bic == pytest.approx(left * np.log(600) - 2 * fit.llf)
        assert f"{left:.1f}" in str(fit.summary())

    def test_without_a_penalty_they_are_all(self, selection):
        assert [effective_df(fit.maximum) for fit in selection.fits] == [fit.df_model for fit in selection.fits]


class TestCrossValidation:
    def test_it_is_the_log_density_of_rows_left_out(self, reference):
        """With two folds of one fixed split, against a fit by hand."""
        x, y = reference
        found = select_experts(x, y, [2], criterion="cv", folds=KFold(2), random_state=0, estimator=MLE(n_init=3))
        for train, test in KFold(2).split(x):
            with torch.no_grad():
                by_hand = MLE(n_init=5, random_state=1).fit(softmax_model(1, 2), x[train], y[train])
                expected = by_hand.model.log_prob(x[test], y[test])
            np.testing.assert_allclose(found.held_out.log_density[0, test], expected, atol=1e-4)

    def test_workers_do_not_change_it(self, reference):
        settings = {"num_experts": [2], "criterion": "cv", "folds": 2, "random_state": 0, "estimator": EM(n_init=2)}
        alone, together = (select_experts(*reference, n_jobs=n, **settings) for n in (1, 2))
        assert np.array_equal(alone.held_out.log_density, together.held_out.log_density)

    def test_rows_never_held_out_do_not_count(self, reference):
        found = select_experts(
            *reference,
            num_experts=[1],
            criterion="cv",
            folds=TimeSeriesSplit(3),
            random_state=0,
            estimator=EM(n_init=1),
        )
        assert found.held_out.weight[:150].sum() == 0
        assert np.isfinite(found.held_out.mean).all()

    def test_standard_errors_of_means_and_of_paired_differences(self):
        rows = np.array([[-4.0, -4.0, -4.0, -4.0], [1.0, -0.9, 1.0, -0.9], [0.1, 0.1, 0.1, 0.2]])
        held = HeldOut(rows, np.ones(4))
        assert held.best == 2
        np.testing.assert_allclose(held.std_error, rows.std(1) / 2.0)
        difference = rows[2] - rows[1]
        assert held.deficit(1) == pytest.approx((difference.mean(), difference.std() / 2.0))
        assert held.deficit(2) == (0.0, 0.0)

    @pytest.mark.parametrize(("shift", "expected"), [(0.9, 0), (1.1, 1)])
    def test_one_standard_error_is_that_of_the_best_mean(self, shift, expected):
        best = np.array([1.0, -1.0, 1.0, -1.0])  # standard error 1/2
        held = HeldOut(np.stack([best - 0.5 * shift, best]), np.ones(4))
        assert held.one_standard_error() == expected

    def test_weights_of_observations_count(self):
        rows = np.array([[0.0, 1.0], [1.0, 0.0]])
        held = HeldOut(rows, np.array([3.0, 1.0]))
        np.testing.assert_allclose(held.mean, [0.25, 0.75])
        assert held.best == 1


class TestOffsets:
    """The last column of X is added to every location as it is."""

    def test_a_known_part_of_a_normal_response_is_as_if_taken_off(self, reference):
        x, y = reference
        known = torch.randn(len(y), 1, dtype=DOUBLE, generator=seeded(5))
        settings = {"num_experts": [1, 2], "random_state": 0, "estimator": EM(n_init=3)}
        plain = select_experts(x, y, **settings)
        found = select_experts(torch.cat([x, known], 1), y + known[:, 0], offset=True, **settings)
        np.testing.assert_allclose(found.values["bic"], plain.values["bic"], rtol=1e-8)
        assert found.best.param_names == plain.best.param_names

    def test_experts_that_bring_their_own_need_no_gate(self):
        x = torch.randn(200, 1, dtype=DOUBLE, generator=seeded(1))
        exposure = 0.5 + torch.rand(200, 1, dtype=DOUBLE, generator=seeded(2))
        y = torch.poisson(torch.exp(1.0 + 0.5 * x[:, 0]) * exposure[:, 0], generator=seeded(3))
        rows = torch.cat([x, exposure.log()], 1)
        settings = {"num_experts": [1, 2], "random_state": 0, "estimator": EM(n_init=2)}
        own = select_experts(
            rows, y, experts=lambda d, k: PoissonExperts(LinearPredictor(d - 1, k, offset=True)), **settings
        )
        named = select_experts(rows, y, experts="poisson", offset=True, **settings)
        np.testing.assert_array_equal(own.values["bic"], named.values["bic"])
        assert named.best_num_experts == 1
        slope, error = named.fits[0].params[0], named.fits[0].bse[0]
        assert abs(slope - 0.5) < 5.0 * error  # false alarms: 1 in a million

    @pytest.mark.parametrize("parts", [{"experts": linear_gaussian_experts}, {"model": lambda k: softmax_model(1, k)}])
    def test_experts_without_one_are_refused(self, reference, parts):
        x, y = reference
        with pytest.raises(ValueError, match="offset must be False for experts without one, got True"):
            select_experts(torch.cat([x, x], 1), y, num_experts=[1], offset=True, **parts)


class TestFamiliesAndGates:
    def test_counts(self):
        found = select_experts(
            *load_patents(), num_experts=range(1, 4), experts="poisson", random_state=0, estimator=EM(n_init=3)
        )
        assert found.is_monotone
        assert isinstance(found.best.model.experts, PoissonExperts)
        assert found.best_num_experts > 1

    @pytest.mark.parametrize(
        "gate",
        ["constant", "sigmoid", "laplace", sigmoid_gate],
        ids=["constant", "sigmoid", "laplace", "function"],
    )
    def test_gates_by_name_and_by_function(self, gate):
        x, y = load_faithful()
        found = select_experts(x[:80], y[:80], num_experts=[1, 2], gate=gate, random_state=0, estimator=EM(n_init=2))
        assert found.fits[1].model.num_experts == 2

    def test_student_experts_by_name(self):
        found = select_experts(*load_tone(), [1], experts="student_t", random_state=0, estimator=EM(n_init=2))
        assert any(name.startswith("df") for name in found.best.param_names)

    def test_a_builder_of_sparse_models(self):
        x, y = load_faithful()

        def build(k):
            gate = topk_gate(1, k, min(2, k), generator=seeded(k))
            return MixtureOfExperts(gate, linear_gaussian_experts(1, k, generator=seeded(k)))

        found = select_experts(x - x.mean(0), y, [2, 3], model=build, random_state=0, estimator=EM(n_init=3))
        assert found.fits[1].model.gate.num_selected == 2

    def test_a_builder_of_vector_responses(self):
        x, y = load_faithful()

        def build(k):
            means = LinearPredictor(1, k, response_dim=2)
            return MixtureOfExperts(softmax_gate(1, k), MultivariateGaussianExperts(means, FullCovariance(k, 2)))

        found = select_experts(
            x[:100],
            torch.stack([y, y.flip(0)], -1)[:100],
            num_experts=[1, 2],
            model=build,
            estimator=EM(n_init=1),
            random_state=0,
        )
        assert found.is_monotone

    def test_weights_are_passed_on(self, reference):
        x, y = reference
        weight = torch.where(y > 5.0, 1.0, 0.0).double()
        found = select_experts(x, y, [1], sample_weight=weight, random_state=0)
        kept = select_experts(x[y > 5.0], y[y > 5.0], num_experts=[1], random_state=0)
        assert found.best.llf == pytest.approx(kept.best.llf)


class TestTheResult:
    def test_the_table_has_a_row_for_every_k(self, selection):
        table = selection.table()
        assert list(table.index) == [1, 2, 3, 4]
        assert list(table.columns[:5]) == ["llf", "df", "aic", "bic", "icl"]
        assert table.loc[selection.choose("cv-max"), "below best"] == 0.0
        assert table["bic"].idxmin() == 2

    def test_it_prints_the_table_with_the_choice_marked(self, selection):
        lines = repr(selection).splitlines()
        assert lines[0] == "ExpertSelection(2 experts, criterion='cv')"
        assert [line.startswith("*") for line in lines[2:]] == [False, True, False, False]

    def test_it_can_be_pickled(self, selection):
        again = pickle.loads(pickle.dumps(selection))
        assert repr(again) == repr(selection)

    def test_the_data_can_be_taken_away(self, selection):
        smaller = pickle.loads(pickle.dumps(selection))
        smaller.remove_data()
        assert len(pickle.dumps(smaller)) < len(pickle.dumps(selection))
        assert repr(smaller) == repr(selection)

    def test_features_keep_their_names(self):
        import pandas as pd

        x, y = load_faithful()
        frame = pd.DataFrame(x.numpy(), columns=["minutes"])
        found = select_experts(frame, y.numpy(), num_experts=[2], random_state=0, estimator=EM(n_init=2))
        assert "slope[0,minutes]" in found.best.param_names

    def test_a_criterion_that_was_not_computed(self, reference):
        found = select_experts(*reference, [1], random_state=0, estimator=EM(n_init=1))
        with pytest.raises(ValueError, match=r"criterion must be one of \['aic', 'bic', 'icl'\], got 'cv'"):
            found.choose("cv")


class TestBadInput:
    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            ({"num_experts": [0, 1]}, ValueError, "num_experts must be at least 1, got 0"),
            ({"num_experts": []}, ValueError, "num_experts must hold at least one number of experts, got none"),
            ({"num_experts": [2, 2]}, ValueError, r"num_experts must be increasing, got \[2, 2\]"),
            ({"num_experts": [3, 1]}, ValueError, r"num_experts must be increasing, got \[3, 1\]"),
            ({"num_experts": [1.5]}, TypeError, "num_experts must hold integers"),
            ({"num_experts": [1, 21]}, ValueError, "num_experts must hold at most 20, the number of rows of X, got 21"),
            (
                {"num_experts": [1, 18], "criterion": "cv"},
                ValueError,
                "num_experts must hold at most 16, the number of rows of a training set, got 18",
            ),
            ({"criterion": "dic"}, ValueError, "criterion must be one of .* or a function, got 'dic'"),
            ({"criterion": 3}, TypeError, "criterion must be one of .* or a function, got int"),
            ({"gate": "softmin"}, ValueError, "gate must be one of .* got 'softmin'"),
            ({"gate": 3}, TypeError, "gate must be a name or a function"),
            ({"experts": "gauss"}, ValueError, "experts must be one of"),
            ({"model": 3}, TypeError, "model must be a function of k"),
            ({"model": lambda k: k}, TypeError, "model must return a mixkit.MixtureOfExperts, got int"),
            ({"model": lambda k: softmax_model(1, 2)}, ValueError, "model must return a mixture of k = 1 experts"),
            ({"estimator": EM}, TypeError, "estimator must be an estimators.Estimator"),
            ({"folds": 1, "criterion": "cv"}, ValueError, "folds must be at least 2, got 1"),
            ({"random_state": "x"}, TypeError, "random_state must be an integer"),
        ],
    )
    def test_it_is_named(self, settings, error, message):
        x, y = load_faithful()
        with pytest.raises(error, match=message):
            select_experts(x[:20], y[:20], **{"num_experts": [1], "random_state": 0, **settings})

    def test_data_of_another_shape(self):
        with pytest.raises(ValueError, match=r"X must have shape \(n, d\), got \(20,\)"):
            select_experts(torch.ones(20), torch.ones(20), num_experts=[1])
        with pytest.raises(ValueError, match="y must have one row for each"):
            select_experts(torch.ones(20, 1), torch.ones(19), num_experts=[1])

    def test_a_criterion_that_is_not_a_number(self, reference):
        def broken(result, x, y):
            return float("nan")

        with pytest.raises(ValueError, match="criterion must return numbers, got NaN from broken"):
            select_experts(*reference, [1], criterion=broken, random_state=0, estimator=EM(n_init=1))

    def test_a_splitter_that_repeats_rows(self, reference):
        from sklearn.model_selection import RepeatedKFold

        with pytest.raises(ValueError, match="folds must hold out every row at most once"):
            select_experts(
                *reference,
                num_experts=[1],
                criterion="cv",
                folds=RepeatedKFold(n_splits=2, n_repeats=2, random_state=0),
            )


def test_responsibilities_given_by_the_user_follow_the_folds(reference):
    x, y = reference
    guess = torch.stack([(y > 5).double(), (y <= 5).double()]) * 0.8 + 0.1
    estimator = EM(n_init=1, starts=[GivenResponsibilities(guess)])
    found = select_experts(x, y, [2], criterion="cv", folds=KFold(3), estimator=estimator, random_state=0)
    for train, test in KFold(3).split(x):
        alone = EM(n_init=1, starts=[GivenResponsibilities(guess[:, train])], n_moves=0, random_state=0)
        model = alone.fit(softmax_model(x.shape[1], 2), x[train], y[train]).model
        with torch.no_grad():
            expected = model.log_prob(x[test], y[test])
        np.testing.assert_allclose(found.held_out.log_density[0, test], expected, rtol=1e-4, atol=1e-4)
