"""Groups of rows that share an expert in all that is made of fits: bootstraps, selection, faces, draws."""

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import KFold

from estimators import EM, MixtureOfExpertsClassifier, MixtureOfExpertsRegressor, select_experts
from estimators.inference import bootstrap, bootstrap_lrt, likelihood_ratio_test
from estimators.inference.resampling import Cases, Parametric, RandomWeights
from estimators.model_selection import mixing_dendrogram
from estimators.penalties import Lasso, MinimumShare, Ridge
from mixkit import MixtureOfExperts, constant_gate, linear_gaussian_experts

from ..models import DTYPE, seeded
from .cases import PANEL, model_of, panel, panel_weights


def fit_panel(experts="gaussian", gate="constant", weights_of=None, **settings):
    x, y = panel(counts=experts == "poisson")
    weight = None if weights_of is None else panel_weights(weights_of)
    estimator = EM(random_state=0, n_init=3, **settings)
    return estimator.fit(model_of(experts, gate), x, y, weight, groups=PANEL, weights_of=weights_of or "groups")


class TestBootstrap:
    @pytest.mark.parametrize("weights_of", [None, "groups", "rows"])
    def test_cases_are_groups(self, weights_of):
        fit = fit_panel(weights_of=weights_of)
        data = fit.maximum.data
        rngs = [np.random.default_rng(seed) for seed in range(3)]
        drawn = Cases().draw(fit.model, data, rngs)
        assert drawn.x.shape == (3, len(PANEL), 2)
        own = torch.ones(60, dtype=DTYPE) if data.units.weight is None else data.units.weight[0]
        counts = drawn.units.weight / own
        torch.testing.assert_close(counts, counts.round())
        assert counts.sum(-1).tolist() == pytest.approx([60.0] * 3)
        power = torch.ones(len(PANEL), dtype=DTYPE) if drawn.units.power is None else drawn.units.power
        torch.testing.assert_close(drawn.weight, drawn.units.weight[:, drawn.units.index] * power)

    def test_random_weights_are_those_of_groups(self):
        data = fit_panel().maximum.data
        drawn = RandomWeights().draw(None, data, [np.random.default_rng(0)])
        torch.testing.assert_close(drawn.weight, drawn.units.weight[:, drawn.units.index])
        assert float(drawn.units.weight.mean()) == pytest.approx(1.0)

    def test_parametric_draws_give_a_group_to_one_expert(self):
        model = model_of("gaussian", "constant")
        with torch.no_grad():
            model.experts.predictor.intercept.copy_(torch.tensor([-1000.0, 1000.0]))
        x, y = panel()
        data = EM(n_init=1, random_state=0).fit(model_of("gaussian", "constant"), x, y, groups=PANEL).maximum.data
        y = Parametric().draw(model, data, [np.random.default_rng(0)]).y[0]
        signs = data.units.total((y > 0).to(DTYPE)) / data.units.total(torch.ones_like(y))
        assert set(signs.tolist()) == {0.0, 1.0}

    @pytest.mark.parametrize("resampling", ["case", "parametric", "weights"])
    def test_standard_errors_are_near_those_of_the_likelihood(self, resampling):
        """Sixty groups: within a third of the sandwich in every slope and intercept, with a fixed seed."""
        fit = fit_panel("poisson")
        found = bootstrap(fit, 60, resampling=resampling, random_state=0)
        assert found.num_failed == 0
        ratio = found.bse / fit.standard_errors("sandwich")
        assert 0.6 < np.median(ratio) < 1.6

    def test_likelihood_ratio_of_one_more_expert(self):
        x, y = panel()
        found = bootstrap_lrt(
            x, y, 1, groups=PANEL, build=lambda k: model_of("gaussian", "constant", k), num_replicates=4, random_state=0
        )
        assert found.small.num_groups == found.large.num_groups == 60
        assert found.num_failed == 0
        assert found.statistic > found.replicates.max()


class TestSelection:
    @pytest.mark.parametrize("weights_of", [None, "rows"])
    def test_criteria_count_groups(self, weights_of):
        x, y = panel()
        weight = None if weights_of is None else panel_weights(weights_of)
        found = select_experts(
            x, y, [1, 2], gate="constant", groups=PANEL, sample_weight=weight, weights_of=weights_of or "groups",
            random_state=0, estimator=EM(n_init=3),
        )  # fmt: skip
        assert found.best_num_experts == 2
        fit = found.best
        bic = np.log(60) * fit.df_model - 2 * fit.llf
        assert found.values["bic"][1] == pytest.approx(bic)
        posterior = fit.responsibilities(x, y, groups=PANEL)
        if weights_of is None:
            first = [PANEL.index(f"g{index}") for index in range(60)]
            entropy = -(posterior[first] * np.log(posterior[first].clip(1e-300))).sum()
            assert found.values["icl"][1] == pytest.approx(bic + 2 * entropy)
            assert fit.icl == pytest.approx(bic + 2 * entropy)

    @pytest.mark.parametrize("folds", [3, KFold(3)])
    def test_folds_hold_out_whole_groups(self, folds):
        x, y = panel()
        found = select_experts(
            x, y, [1, 2], criterion="cv", gate="constant", groups=PANEL, random_state=0, folds=folds,
            estimator=EM(n_init=2),
        )  # fmt: skip
        assert found.held_out.log_density.shape == (2, 60)
        assert np.isfinite(found.held_out.log_density).all()
        assert found.held_out.mean[1] > found.held_out.mean[0]

    def test_more_experts_than_groups(self):
        x, y = panel()
        with pytest.raises(ValueError, match="at most 2, the number of groups, got 3"):
            select_experts(x, y, [1, 3], gate="constant", groups=[int(label[1:]) % 2 for label in PANEL])


class TestFaces:
    def test_the_regressor_is_the_estimator(self):
        x, y = panel()
        face = MixtureOfExpertsRegressor(gate="constant", random_state=0, n_init=3)
        face.fit(x.numpy(), y.numpy(), panel_weights("rows").numpy(), groups=PANEL, weights_of="rows")
        fit = fit_panel(weights_of="rows")
        assert face.log_likelihood_ == pytest.approx(fit.llf, rel=1e-9)
        posterior = face.responsibilities(x.numpy(), y.numpy(), groups=PANEL)
        assert np.allclose(posterior, face.result_.responsibilities(x, y, groups=PANEL))
        assert not np.allclose(posterior, face.responsibilities(x.numpy(), y.numpy()))

    def test_rows_of_weight_zero_leave_with_their_labels(self):
        x, y = (part.numpy() for part in panel())
        weight = np.ones(len(y))
        weight[[0, 5]] = 0.0
        kept = weight > 0
        face = MixtureOfExpertsRegressor(gate="constant", random_state=0, n_init=3)
        first = clone(face).fit(x, y, weight, groups=PANEL, weights_of="rows")
        second = face.fit(x[kept], y[kept], groups=np.array(PANEL)[kept])
        assert first.log_likelihood_ == pytest.approx(second.log_likelihood_, rel=1e-9)

    def test_a_column_of_a_frame(self):
        pd = pytest.importorskip("pandas")
        x, y = (part.numpy() for part in panel())
        frame = pd.DataFrame({"a": x[:, 0], "center": PANEL, "b": x[:, 1]})
        face = MixtureOfExpertsRegressor(gate="constant", random_state=0, n_init=2).fit(frame, y, groups="center")
        assert face.feature_names_in_.tolist() == ["a", "b"]
        assert face.responsibilities(frame, y, groups="center").shape == (len(y), 2)

    def test_a_stream_does_not_go_on_from_groups(self):
        x, y = (part.numpy() for part in panel())
        face = MixtureOfExpertsRegressor(gate="constant", random_state=0, n_init=2).fit(x, y, groups=PANEL)
        with pytest.raises(ValueError, match="fit with groups"):
            face.partial_fit(x, y)

    def test_the_classifier(self):
        x, y = panel()
        labels = np.where(y.numpy() > y.median().item(), "high", "low")
        face = MixtureOfExpertsClassifier(random_state=0, n_init=2).fit(x.numpy(), labels, groups=PANEL)
        assert face.result_.num_groups == 60


class TestPenalties:
    @pytest.mark.parametrize("penalty", [Ridge(2.0, experts=1.0), MinimumShare(0.1), Lasso(0.5)])
    def test_fits_reach_a_maximum_of_the_penalized_likelihood(self, penalty):
        fit = fit_panel(gate="softmax", penalty=penalty)
        assert fit.converged
        assert fit.objective_value < fit.llf

    def test_shares_are_those_of_groups(self):
        fit = fit_panel(gate="softmax", penalty=MinimumShare(0.45, strength=0.01))
        x, _ = panel()
        first = [PANEL.index(f"g{index}") for index in range(60)]
        share = fit.model(x[first]).log_weights.detach().exp().mean(0)
        assert float(share.min()) > 0.45


def test_profiles_fall_by_what_the_likelihood_does():
    fit = fit_panel("poisson")
    name = next(name for name in fit.param_names if name.startswith("slope"))
    interval = fit.conf_int(method="profile")[fit.param_names.index(name)]
    wald = fit.conf_int()[fit.param_names.index(name)]
    assert interval == pytest.approx(wald, abs=0.3 * (wald[1] - wald[0]))


def test_likelihood_ratios_want_the_same_groups():
    x, y = panel()
    small = EM(random_state=0, n_init=2).fit(model_of("gaussian", "constant"), x, y, groups=PANEL)
    large = EM(random_state=0, n_init=2).fit(model_of("gaussian", "softmax"), x, y, groups=PANEL)
    assert likelihood_ratio_test(small, large).df == 2
    other = EM(random_state=0, n_init=2).fit(model_of("gaussian", "softmax"), x, y)
    with pytest.raises(ValueError, match="fits of the same groups"):
        likelihood_ratio_test(small, other)


def test_a_dendrogram_wants_covariates():
    x, y = panel()
    fit = EM(random_state=0, n_init=2).fit(model_of("gaussian", "softmax"), x, y, groups=PANEL)
    with pytest.raises(ValueError, match="fit with groups"):
        mixing_dendrogram(fit)


def test_draws_and_experts_of_new_groups():
    fit = fit_panel()
    with torch.no_grad():
        fit.model.experts.predictor.intercept.copy_(torch.tensor([-1000.0, 1000.0]))
    x, _ = panel()
    y = fit.simulate(x, random_state=0, groups=PANEL, num_replicates=3)
    assert y.shape == (3, len(PANEL))
    expert = fit.classify(x, y[0], groups=PANEL)
    for label in set(PANEL):
        rows = [row for row, own in enumerate(PANEL) if own == label]
        assert len(set(expert[rows])) == len(set(y[0, rows] > 0)) == 1
    assert fit.predict_proba(x, y[0], groups=PANEL).shape == (len(PANEL), 2)
    plain = fit.simulate(x, random_state=0)
    assert plain.shape == (len(PANEL),)


def test_fitted_values_are_in_the_order_of_the_data():
    x, y = panel()
    order = torch.randperm(len(x), generator=seeded(0))
    fit = EM(random_state=0, n_init=2).fit(
        model_of("gaussian", "constant"), x[order], y[order], groups=[PANEL[row] for row in order.tolist()]
    )
    np.testing.assert_allclose(fit.fittedvalues, fit.predict(x[order]), rtol=1e-12)
    np.testing.assert_allclose(fit.resid, y[order].numpy() - fit.predict(x[order]), atol=1e-12)


def test_groups_tell_experts_apart_that_rows_do_not():
    """Two level lines half a standard deviation apart: of groups of fifty rows the expert is known."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(60), 50)
    y = 0.5 * (labels % 2) + rng.normal(size=3000)
    x = rng.normal(size=(3000, 1))
    experts = linear_gaussian_experts(1, 2, shared_std=True, dtype=DTYPE, generator=seeded(0))

    fit = EM(random_state=0, n_init=4).fit(
        MixtureOfExperts(constant_gate(2, dtype=DTYPE), experts), x, y, groups=labels
    )
    expert = fit.classify(x, y, groups=labels)
    agreement = np.mean(expert == labels % 2)
    assert max(agreement, 1 - agreement) > 0.9
