"""Fits by formula against the same models built by hand."""

import numpy as np
import pandas as pd
import pytest
import torch

from estimators import EM, MLE, compare, fit_formula
from mixkit import MixtureOfExperts, PoissonExperts, constant_gate, softmax_gate
from mixkit.experts import GaussianExperts
from mixkit.experts.predictors import LinearPredictor
from tests.estimators.models import seeded, softmax_model

from .cases import DATA, QUICK


def close(first, second):
    assert first.llf == pytest.approx(second.llf, abs=1e-7)
    np.testing.assert_allclose(first.params, second.params, rtol=1e-5, atol=1e-6)


class TestSameModels:
    def test_all_columns_in_gate_and_experts(self):
        close(
            fit_formula("y ~ x + w | x + w", DATA, 2, **QUICK),
            EM(**QUICK).fit(softmax_model(2, 2), DATA[["x", "w"]], DATA.y),
        )

    def test_without_a_bar_the_gate_is_constant(self):
        experts = PoissonExperts(LinearPredictor(1, 2, generator=seeded(0)))
        by_hand = EM(**QUICK).fit(MixtureOfExperts(constant_gate(2), experts), DATA[["x"]], DATA["count"])
        close(fit_formula("count ~ x", DATA, 2, family="poisson", **QUICK), by_hand)

    def test_offsets_and_weights(self):
        experts = PoissonExperts(LinearPredictor(1, 2, offset=True, generator=seeded(0)))
        model = MixtureOfExperts(softmax_gate(1, 2, generator=seeded(0)), experts)
        x, weights = np.column_stack([DATA.x, np.log(DATA.hours)]), np.exp(DATA.w)
        by_hand = EM(**QUICK).fit(model, x, DATA["count"], weights)
        settings = {"family": "poisson", "offset": "log(hours)", **QUICK}
        for given in ("exp(w)", weights, weights.to_numpy()):
            found = fit_formula("count ~ x | x", DATA, 2, weights=given, **settings)
            np.testing.assert_allclose(found.params, by_hand.params, rtol=1e-7, atol=1e-9)
        assert found.feature_names == ["x", "offset(log(hours))"]
        np.testing.assert_allclose(found.predict(DATA), by_hand.predict(x), rtol=1e-7, atol=1e-9)

    def test_common_terms_of_all_experts_or_some(self):
        all_of_them = fit_formula("y ~ x", DATA, 2, common="w", **QUICK)
        by_mapping = fit_formula("y ~ x", DATA, 2, common={"w": (0, 1)}, **QUICK)
        np.testing.assert_allclose(all_of_them.params, by_mapping.params, rtol=1e-7, atol=1e-9)
        assert "slope[common,w]" in all_of_them.params
        one = fit_formula("y ~ x", DATA, 1, common="w + side", **QUICK)
        assert one.llf == pytest.approx(fit_formula("y ~ x + w + side", DATA, 1, **QUICK).llf, abs=1e-8)

    def test_absent_terms(self):
        found = fit_formula("y ~ x + w", DATA, 2, absent={1: "x"}, **QUICK)
        assert [name for name in found.param_names if "slope" in name] == ["slope[0,x]", "slope[0,w]", "slope[1,w]"]
        assert found.model.experts.predictor.slope[1, 0] == 0

    def test_fixed_coefficients(self):
        free = fit_formula("y ~ x", DATA, 1, **QUICK)
        held = fit_formula("y ~ x", DATA, 1, fixed={(0, "x"): 0.25}, **QUICK)
        line = np.polynomial.Polynomial.fit(DATA.x, DATA.y - 0.25 * DATA.x, 0).convert().coef[0]
        assert held.params["intercept[0]"] == pytest.approx(line, rel=1e-8)
        assert compare(held, free).tests[1].df == 1
        assert "slope[0,x]" not in held.params
        none = fit_formula("y ~ x", DATA, 1, fixed={(0, "intercept"): 0.0}, **QUICK)
        assert none.params["slope[0,x]"] == pytest.approx(float(DATA.x @ DATA.y / (DATA.x @ DATA.x)), rel=1e-8)
        assert none.llf == pytest.approx(fit_formula("y ~ x - 1", DATA, 1, **QUICK).llf, abs=1e-8)

    def test_no_covariates_at_all(self):
        found = fit_formula("y ~ 1", DATA, 1, **QUICK)
        assert found.params["intercept[0]"] == pytest.approx(DATA.y.mean(), rel=1e-9)
        assert not found.warnings
        two = fit_formula("y ~ 1", DATA, 2, **QUICK)
        assert two.params.names == ("gate_bias[0]", "intercept[0]", "intercept[1]", "std[0]", "std[1]")
        assert two.predict(DATA.iloc[:3]).shape == (3,)

    def test_a_gate_without_an_intercept(self):
        found = fit_formula("y ~ w | x - 1", DATA, 2, **QUICK)
        assert [name for name in found.param_names if "gate" in name] == ["gate_weight[0,x]"]

    def test_gates_and_families_by_name_and_as_they_are(self):
        sigmoid = fit_formula("y ~ x | x", DATA, 2, gate="sigmoid", **QUICK)
        assert type(sigmoid.model.gate.normalizer).__name__ == "NormalizedSigmoid"
        experts = GaussianExperts(LinearPredictor(1, 2, generator=seeded(1)))
        given = fit_formula("y ~ x | x", DATA, 2, family=experts, gate=softmax_gate(1, 2, generator=seeded(0)), **QUICK)
        close(given, fit_formula("y ~ x | x", DATA, 2, **QUICK))
        shared = fit_formula("y ~ x", DATA, 2, family_options={"shared_std": True}, **QUICK)
        assert "std[1]" not in shared.params
        newton = fit_formula("y ~ x | x", DATA, 2, estimator=MLE(**QUICK))
        assert newton.llf == pytest.approx(given.llf, abs=1e-7)

    def test_classes(self):
        data = DATA.assign(size=pd.cut(DATA.y, [-9, 2, 3, 9], labels=["small", "mid", "large"]))
        found = fit_formula("size ~ w", data, 1, family="categorical", **QUICK)
        codes = fit_formula("code ~ w", data.assign(code=data["size"].cat.codes), 1, family="categorical", **QUICK)
        assert found.llf == pytest.approx(codes.llf, abs=1e-8)
        assert found._recipe.values(data.iloc[:4]).tolist() == data["size"].cat.codes[:4].tolist()
        with pytest.raises(ValueError, match=r"levels of 'size' that the fit has seen, .* got 'huge'"):
            found._recipe.values(data.assign(size="huge"))
        ordered = fit_formula("size ~ w", data, 1, family="ordinal", **QUICK)
        assert ordered.llf < found.llf
        text = data.assign(size=data["size"].astype(str))
        with pytest.raises(ValueError, match="must have ordered levels on its left, numbers or an ordered category"):
            fit_formula("size ~ w", text, 1, family="ordinal", **QUICK)
        with pytest.raises(ValueError, match="must have a numeric response, got column 'size'"):
            fit_formula("size ~ w", data, 1, **QUICK)

    def test_several_responses_and_transformed_ones(self):
        found = fit_formula("y + w ~ x", DATA, 1, family="multivariate_gaussian", **QUICK)
        assert found.predict(DATA).shape == (len(DATA), 2)
        squared = fit_formula("I(y**2) ~ x", DATA, 1, **QUICK)
        np.testing.assert_allclose(squared._recipe.values(DATA), DATA.y**2)

    def test_several_responses_of_different_families(self):
        families = {"y": "gaussian", "count": "poisson"}
        both = fit_formula("y + count ~ x", DATA, 1, family=families, **QUICK)
        alone = [fit_formula(f"{name} ~ x", DATA, 1, family=word, **QUICK) for name, word in families.items()]
        assert both.llf == pytest.approx(sum(fit.llf for fit in alone), abs=1e-6)
        assert both.params["count.slope[0,x]"] == pytest.approx(alone[1].params["slope[0,x]"], rel=1e-5)
        assert both.predict(DATA).shape == (len(DATA), 2)
        wrong_ones = {"each of 2 responses": {"y": "gaussian"}, "one of numbers": {"y": "ordinal", "count": "poisson"}}
        for message, wrong in wrong_ones.items():
            with pytest.raises(ValueError, match=message):
                fit_formula("y + count ~ x", DATA, 1, family=wrong, **QUICK)

    def test_truth_values_are_trials(self):
        data = DATA.assign(above=DATA.y > 2.5)
        found = fit_formula("above ~ w", data, 1, family="binomial", **QUICK)
        again = fit_formula(
            "above ~ w", data.assign(one=1, above=data.above * 1), 1, family="binomial", trials="one", **QUICK
        )
        assert found.llf == pytest.approx(again.llf, abs=1e-8)
        same = fit_formula("count ~ w", DATA, 1, family="binomial", trials=100, **QUICK)
        assert same.model.experts.trials == 100

    @pytest.mark.parametrize(
        ("text", "column"),
        [("log(x) - log(hours)", np.log(DATA.x / DATA.hours)), ("2 * x", 2 * DATA.x), ("x**2", DATA.x**2)],
    )
    def test_offsets_and_weights_are_arithmetic(self, text, column):
        data = DATA.assign(z=column)
        offset = fit_formula("y ~ w", data, 1, offset=text, **QUICK)
        np.testing.assert_allclose(
            offset.params, fit_formula("y ~ w", data, 1, offset="z", **QUICK).params, rtol=1e-7, atol=1e-9
        )
        np.testing.assert_allclose(offset.predict(data), offset.predict(DATA), rtol=1e-7, atol=1e-9)
        if (column > 0).all():
            weighted = fit_formula("y ~ w", data, 1, weights=text, **QUICK)
            np.testing.assert_allclose(
                weighted.params, fit_formula("y ~ w", data, 1, weights="z", **QUICK).params, rtol=1e-7, atol=1e-9
            )

    @pytest.mark.parametrize("response", ["y**2", "y - 1", "2 * y", "y / hours", "y^2", "-y"])
    def test_responses_compute_in_brackets(self, response):
        with pytest.raises(ValueError, match=r"formula must compute its response in brackets, as I\(y\*\*2\)"):
            fit_formula(f"{response} ~ x", DATA, 1, **QUICK)
        squared = fit_formula("I(y**2) ~ x", DATA, 1, **QUICK)
        np.testing.assert_allclose(
            squared.params, fit_formula("z ~ x", DATA.assign(z=DATA.y**2), 1, **QUICK).params, rtol=1e-9
        )

    def test_families_belong_to_the_responses_that_they_name(self):
        ordered = fit_formula("y + count ~ x", DATA, 1, family={"y": "gaussian", "count": "poisson"}, **QUICK)
        turned = fit_formula("y + count ~ x", DATA, 1, family={"count": "poisson", "y": "gaussian"}, **QUICK)
        assert turned.param_names == ordered.param_names
        np.testing.assert_allclose(turned.params, ordered.params, rtol=1e-7, atol=1e-9)
        with pytest.raises(ValueError, match=r"family must have a name for each of 2 responses, \['y', 'count'\]"):
            fit_formula("y + count ~ x", DATA, 1, family={"y": "gaussian", "counts": "poisson"}, **QUICK)


def test_what_stands_beside_a_formula_is_told():
    settings = {"absent": {1: "w"}, "fixed": {(0, "w"): 0.5}, "offset": "hours", "missing": "drop", **QUICK}
    found = fit_formula("y ~ x + w", DATA, 2, common={"side": (0, 1)}, **settings)
    words = "y ~ x + w; common: side of 0 and 1; absent: w of 1; fixed: w of 0 at 0.5; offset: hours"
    assert found.formula == words
    assert f"Formula: {words}." in " ".join(str(found.summary()).split())
    assert fit_formula("y ~ 1", DATA, 1, common=["x", "w"], **QUICK).formula == "y ~ 1; common: x + w"


def test_groups_of_one_row_are_rows():
    rows = fit_formula("y ~ x", DATA, 2, **QUICK)
    alone = fit_formula("y ~ x", DATA, 2, groups=np.arange(len(DATA)), **QUICK)
    np.testing.assert_allclose(rows.params, alone.params, rtol=1e-7, atol=1e-9)


def test_the_global_random_state_decides_nothing():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = fit_formula("y ~ x | x", DATA, 2, **QUICK)
        torch.manual_seed(2)
        np.testing.assert_allclose(
            first.params, fit_formula("y ~ x | x", DATA, 2, **QUICK).params, rtol=1e-7, atol=1e-9
        )
