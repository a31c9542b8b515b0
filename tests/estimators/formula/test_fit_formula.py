"""Fits by formula against the same models built by hand; what is refused, and in which words."""

import dataclasses
import re
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from estimators import EM, MLE, FitResult, compare, fit_formula
from mixkit import MixtureOfExperts, PoissonExperts, constant_gate, softmax_gate
from mixkit.experts import GaussianExperts
from mixkit.experts.predictors import LinearPredictor
from tests.estimators.models import seeded, softmax_model

QUICK = {"random_state": 0, "n_init": 3, "n_moves": 0}


def made(n=240):
    rng = np.random.default_rng(0)
    x, w, side = rng.uniform(0.1, 2.0, n), rng.normal(size=n), rng.choice(["left", "mid", "right"], n)
    is_first = rng.uniform(size=n) < 1.0 / (1.0 + np.exp(2.0 - 2.0 * x))
    y = np.where(is_first, 1.0 + x, 4.0 - x) + 0.5 * w + 0.3 * (side == "right") + 0.2 * rng.normal(size=n)
    count = rng.poisson(np.exp(np.where(is_first, 0.5 + x, 2.0 - 0.5 * x)))
    return pd.DataFrame({"x": x, "w": w, "side": side, "y": y, "count": count, "hours": rng.uniform(1.0, 3.0, n)})


DATA = made()


@pytest.fixture(scope="module")
def fit():
    return fit_formula("y ~ x * side + w | x", DATA, 2, **QUICK)


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


class TestFrames:
    @pytest.mark.parametrize(
        "convert",
        [
            lambda data: data,
            lambda data: data.assign(side=data.side.astype("category")),
            lambda data: data.set_index(np.arange(len(data))[::-1]),
            lambda data: data.rename(columns={}).assign(unused=[object()] * len(data)),
            lambda data: pa.Table.from_pandas(data),
            lambda data: pa.Table.from_pandas(data.assign(side=data.side.astype("category"))),
            lambda data: {name: data[name].tolist() for name in data},
            lambda data: {name: data[name].to_numpy() for name in data},
        ],
    )
    def test_every_frame_gives_the_same_fit(self, fit, convert):
        data = convert(DATA)
        found = fit_formula("y ~ x * side + w | x", data, 2, **QUICK)
        np.testing.assert_allclose(found.params, fit.params, rtol=1e-7, atol=1e-9)
        assert found.param_names == fit.param_names
        np.testing.assert_allclose(found.predict(data), fit.predict(DATA), rtol=1e-7, atol=1e-9)

    def test_the_order_of_categories_is_the_frame_s(self):
        kind = pd.CategoricalDtype(["right", "left", "mid"])
        for data in (
            DATA.assign(side=DATA.side.astype(kind)),
            pa.Table.from_pandas(DATA.assign(side=DATA.side.astype(kind))),
        ):
            found = fit_formula("y ~ side", data, 1, **QUICK)
            assert [name for name in found.param_names if "slope" in name] == [
                "slope[0,side[T.left]]",
                "slope[0,side[T.mid]]",
            ]

    def test_columns_of_odd_names(self):
        data = DATA.rename(columns={"x": "dose (mg)"})
        found = fit_formula("y ~ log(`dose (mg)`) + Q('dose (mg)')", data, 1, **QUICK)
        plain = fit_formula("y ~ log(x) + x", DATA, 1, **QUICK)
        np.testing.assert_allclose(found.params, plain.params, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(found.predict(data), plain.predict(DATA), rtol=1e-7, atol=1e-9)

    @pytest.mark.parametrize("name", ["dose (mg)", "dose[1]", "a:b"])
    def test_quoted_names_stand_alone_and_in_every_argument(self, name, tmp_path):
        data = DATA.rename(columns={"x": name, "side": "the side"})
        quoted = fit_formula(
            f"y ~ `{name}` + `the side`:w | `{name}`", data, 2, common="`the side`", absent={1: f"`{name}`"}, **QUICK
        )
        plain = fit_formula("y ~ x + side:w | x", DATA, 2, common="side", absent={1: "x"}, **QUICK)
        np.testing.assert_allclose(quoted.params, plain.params, rtol=1e-7, atol=1e-9)
        assert f"slope[0,{name}]" in quoted.param_names
        quoted.save(tmp_path / "fit")
        np.testing.assert_allclose(
            FitResult.load(tmp_path / "fit").predict(data), plain.predict(DATA), rtol=1e-7, atol=1e-9
        )

    def test_groups_are_a_column_of_any_name(self):
        data = DATA.assign(**{"the unit": np.arange(len(DATA)) // 2})
        found = fit_formula("y ~ x", data, 2, groups="the unit", **QUICK)
        quoted = fit_formula("y ~ x", data, 2, groups="`the unit`", **QUICK)
        assert found.num_groups == len(DATA) // 2
        np.testing.assert_allclose(found.params, quoted.params, rtol=1e-7, atol=1e-9)

    def test_numbers_held_as_objects_are_numbers(self):
        data = DATA.assign(x=DATA.x.astype(object))
        found = fit_formula("y ~ x", data, 1, **QUICK)
        np.testing.assert_allclose(found.params, fit_formula("y ~ x", DATA, 1, **QUICK).params, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(found.predict(data), found.predict(DATA), rtol=1e-7, atol=1e-9)

    def test_levels_without_rows_are_unseen(self):
        side = pd.Categorical(DATA.side, categories=["left", "mid", "never", "right"])
        found = fit_formula("y ~ side", DATA.assign(side=side), 1, **QUICK)
        np.testing.assert_allclose(found.params, fit_formula("y ~ side", DATA, 1, **QUICK).params, rtol=1e-7, atol=1e-9)
        with pytest.raises(ValueError, match=r"levels of 'side' that the fit has seen.*got 'never'"):
            found.predict(DATA.assign(side="never"))

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

    @pytest.mark.parametrize(
        ("formula", "settings", "error", "message"),
        [
            ("y ~ x | w", {"fixed": {(0, "w"): 1.0}}, ValueError, "fixed must name columns of the experts, ['x', 'int"),
            ("y ~ 0 + x", {"fixed": {(0, "intercept"): 1.0}}, ValueError, "fixed must name columns of the experts"),
            ("y ~ 1 | x", {"fixed": {(0, "intercept"): 1.0}}, ValueError, "must be None where experts read no column"),
            ("y ~ x", {"fixed": {"x": 1.0}}, TypeError, "fixed must have pairs (expert, column) as its keys, got 'x'"),
            ("y ~ x", {"fixed": {(0, "x"): "a"}}, TypeError, "fixed must hold numbers, got 'a'"),
            ("y ~ x", {"absent": "x"}, TypeError, "absent must be a mapping of experts to terms, got str"),
            ("y ~ 1", {"common": {"x": 0}}, TypeError, "common must map terms to sequences of experts, got 0"),
        ],
    )
    def test_patterns_say_what_they_refuse(self, formula, settings, error, message):
        with pytest.raises(error, match=re.escape(message)):
            fit_formula(formula, DATA, 2, **settings, **QUICK)

    def test_families_belong_to_the_responses_that_they_name(self):
        ordered = fit_formula("y + count ~ x", DATA, 1, family={"y": "gaussian", "count": "poisson"}, **QUICK)
        turned = fit_formula("y + count ~ x", DATA, 1, family={"count": "poisson", "y": "gaussian"}, **QUICK)
        assert turned.param_names == ordered.param_names
        np.testing.assert_allclose(turned.params, ordered.params, rtol=1e-7, atol=1e-9)
        with pytest.raises(ValueError, match=r"family must have a name for each of 2 responses, \['y', 'count'\]"):
            fit_formula("y + count ~ x", DATA, 1, family={"y": "gaussian", "counts": "poisson"}, **QUICK)

    def test_a_column_may_have_the_name_of_a_coding(self):
        data = DATA.rename(columns={"side": "Treatment"})
        found = fit_formula("y ~ Treatment + C(Treatment, contr.sum):x", data, 1, **QUICK)
        assert "slope[0,Treatment[T.mid]]" in found.params
        assert found.predict(data).shape == (len(data),)


class TestNewFrames:
    def test_only_the_columns_of_terms_are_read(self, fit):
        few = DATA[["w", "side", "x"]].iloc[::-1]
        np.testing.assert_allclose(fit.predict(few), fit.predict(DATA)[::-1], rtol=1e-7, atol=1e-9)

    def test_transforms_keep_what_they_learned(self):
        terms = "center(x) + bs(w, df=4) + poly(hours, 2) + scale(x)"
        found = fit_formula(f"y ~ {terms} - scale(x)", DATA, 1, **QUICK)
        rows = DATA[(DATA.w > DATA.w.quantile(0.2)) & (DATA.w < DATA.w.quantile(0.8))]
        np.testing.assert_allclose(found.predict(rows), found.predict(DATA)[rows.index], rtol=1e-12)

    def test_everything_that_takes_covariates_takes_frames(self, fit):
        for compute in (
            fit.predict,
            fit.predict_proba,
            fit.classify,
            lambda x: fit.residuals(x, DATA.y),
            lambda x: fit.responsibilities(x, DATA.y),
            lambda x: fit.mean_conf_int(x).interval,
            lambda x: fit.simulate(x, random_state=0),
        ):
            np.testing.assert_allclose(compute(DATA), compute(fit._recipe.covariates(DATA)), rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(fit.fittedvalues, fit.predict(DATA), rtol=1e-12)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda d: d.drop(columns="w"),
                "data must have the columns that the formula reads, got none of ['w'] among",
            ),
            (
                lambda d: d.assign(side="up"),
                "levels of 'side' that the fit has seen, ['left', 'mid', 'right'], got 'up'",
            ),
            (lambda d: d.assign(side=1.0), "levels of 'side' that the fit has seen"),
            (
                lambda d: d.assign(x=np.where(d.w > 0, np.nan, 1.0)),
                "must have no missing values in the columns of the formula, got",
            ),
            (lambda d: d.assign(x=np.inf), "formula must have finite terms, got inf for 'x' in row 0"),
            (lambda d: d.assign(x="a"), "x"),
            (lambda d: d.iloc[:0], "data must have at least one row, got none"),
            (lambda d: pd.concat([d, d[["w"]]], axis=1), "more than one of ['w']"),
        ],
    )
    def test_others_are_refused(self, fit, change, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            fit.predict(change(DATA))

    def test_files_keep_the_formula(self, fit, tmp_path):
        fit.save(tmp_path / "fit")
        twin = FitResult.load(tmp_path / "fit")
        assert twin.formula == fit.formula
        assert str(twin.summary()) == str(fit.summary())
        np.testing.assert_allclose(twin.predict(DATA), fit.predict(DATA), rtol=1e-7, atol=1e-9)
        with pytest.raises(ValueError, match="that the fit has seen"):
            twin.predict(DATA.assign(side="up"))

    def test_files_keep_codings_splines_and_offsets(self, tmp_path):
        terms = "C(side, contr.sum) + bs(w, df=4) + center(x) + poly(hours, 2)"
        found = fit_formula(f"count ~ {terms}", DATA, 1, family="poisson", offset="log(hours)", **QUICK)
        found.save(tmp_path / "fit")
        np.testing.assert_allclose(
            FitResult.load(tmp_path / "fit").predict(DATA), found.predict(DATA), rtol=1e-7, atol=1e-9
        )

    @pytest.mark.parametrize("code", ["__import__('os').getcwd()", "np.fromfile('a')", "I(x.real)", "eval('1')"])
    def test_terms_of_a_file_are_not_run(self, fit, tmp_path, code):
        """A file with other code for a term: it is read before it is evaluated."""
        terms = fit._recipe.design.experts.terms
        evil = dataclasses.replace(terms, words=(code, *terms.words[1:]))
        encoder = dataclasses.replace(fit._recipe.design.experts, terms=evil)
        design = dataclasses.replace(fit._recipe.design, experts=encoder)
        twin = dataclasses.replace(fit, _recipe=dataclasses.replace(fit._recipe, design=design))
        twin.save(tmp_path / "fit")
        with pytest.raises(ValueError, match=r"formula (may (call|use|compute)|must have terms that can be read)"):
            FitResult.load(tmp_path / "fit").predict(DATA)


class TestMissing:
    def gaps(self):
        data = DATA.copy()
        data.loc[[3, 5], "x"] = np.nan
        data.loc[5, "side"] = None
        data.loc[7, "y"] = np.nan
        data["unread"] = np.nan
        return data

    def test_an_error_says_where(self):
        with pytest.raises(ValueError, match=r"\(or say missing='drop'\), got 2 in 'x', 1 in 'side', 1 in 'y'"):
            fit_formula("y ~ x + side", self.gaps(), 1, **QUICK)

    def test_rows_are_dropped_over_all_columns_that_are_read(self):
        weights = np.arange(len(DATA)) + 1.0
        found = fit_formula("y ~ x + side", self.gaps(), 1, missing="drop", weights=weights, **QUICK)
        rest = fit_formula(
            "y ~ x + side", DATA.drop(index=[3, 5, 7]), 1, weights=np.delete(weights, [3, 5, 7]), **QUICK
        )
        np.testing.assert_allclose(found.params, rest.params, rtol=1e-7, atol=1e-9)
        assert found.nobs == len(DATA) - 3
        assert found.warnings == ["3 of 240 rows were left out for missing values: 2 in 'x', 1 in 'side', 1 in 'y'"]
        assert "3 of 240 rows were left out" in str(found.summary())

    def test_pyarrow_s_nulls_are_missing(self):
        table = pa.Table.from_pandas(self.gaps())
        found = fit_formula("y ~ x + side", table, 1, missing="drop", **QUICK)
        assert found.nobs == len(DATA) - 3

    def test_a_choice_and_at_least_a_row(self):
        with pytest.raises(ValueError, match="missing must be one of"):
            fit_formula("y ~ x", DATA, 1, missing="ignore", **QUICK)
        with pytest.raises(ValueError, match="must have a row without missing values"):
            fit_formula("y ~ unread", self.gaps(), 1, missing="drop", **QUICK)


class TestBadInput:
    @pytest.mark.parametrize(
        ("formula", "settings", "message"),
        [
            ("y", {}, "formula must be 'response ~ terms of experts | terms of the gate' with one ~, got 'y'"),
            ("y ~ x ~ w", {}, "with one ~"),
            ("y ~ x | w | x", {}, "formula must have one | at most"),
            ("", {}, "with one ~, got ''"),
            ("~ x", {}, "formula must have a response, got '~ x'"),
            ("y ~", {}, "formula must have terms of the experts"),
            ("y ~ x |", {}, "formula must have terms of the gate"),
            ("y ~ nothing", {}, "data must have the columns that the formula reads, got none of ['nothing'] among"),
            ("y ~ x +", {}, "formula must have terms that can be read, got 'x +'"),
            ("y ~ foo(x)", {}, "formula may call only"),
            ("y ~ log(side)", {}, "formula must have terms that the data can give"),
            ("y ~ log(w)", {}, "formula must have finite terms, got nan for 'log(w)' in row"),
            ("y ~ x + y", {}, "formula must not have its response among the covariates, got ['y']"),
            ("side ~ x", {}, "formula must have a numeric response, got column 'side'"),
            ("log(y - 99) ~ x", {}, "formula must have finite terms, got nan"),
            ("y ~ 0", {}, "formula must have terms of the experts, got none and no intercept"),
            ("y ~ x", {"common": "x + w"}, "common must not repeat terms of the experts or of another part, got ['x']"),
            ("y ~ x", {"common": "nothing"}, "got none of ['nothing']"),
            ("y ~ x", {"absent": {1: "w"}}, "absent must name terms of the experts, ['1', 'x'], got 'w'"),
            ("y ~ x", {"absent": {5: "x"}}, "absent"),
            (
                "y ~ x",
                {"fixed": {(0, "w"): 1.0}},
                "fixed must name columns of the experts, ['x', 'intercept'], got 'w'",
            ),
            ("y ~ x", {"groups": "nothing"}, "got none of ['nothing']"),
            ("y ~ x", {"groups": np.ones(3)}, "groups must have one entry for each of 240 rows of data, got (3,)"),
            ("y ~ x | w", {"groups": "side"}, "must be constant within groups in the columns that the gate reads"),
            ("y ~ x", {"weights": np.ones(3)}, "weights must have one entry for each of 240 rows of data, got (3,)"),
            ("y ~ x", {"weights": "w"}, "sample_weight must be non-negative"),
            ("1 ~ x", {}, "formula must have a column in its response, got '1'"),
            ("y ~ x", {"offset": "side"}, "offset must be one number a row, got the columns"),
            ("y ~ x", {"family": "gausian"}, "family must be one of"),
            ("y ~ x", {"gate": "laplace"}, "formula must have terms of the gate behind | for gate='laplace', got none"),
            ("y ~ x | w", {"gate": "constant"}, "gate must not be 'constant' where formula has terms of the gate"),
            ("y ~ x", {"gate": "nothing"}, "formula must have terms of the gate"),
            ("y ~ x | w", {"gate": "nothing"}, "gate must be one of"),
            ("y ~ x", {"num_experts": 0}, "num_experts must be at least 1, got 0"),
            ("count ~ x", {"family": "binomial", "trials": 2}, "y must be at most the number of trials"),
            ("count ~ x", {"family": "binomial", "trials": 0}, "trials must be at least 1, got 0"),
            ("y ~ x", {"family": "poisson"}, "y must hold non-negative integers"),
            (
                "y ~ x",
                {"family": GaussianExperts(LinearPredictor(1, 2, generator=seeded(0))), "common": "w"},
                "common, absent and fixed must be None where family is not a name",
            ),
        ],
    )
    def test_errors_name_the_argument_the_rule_and_the_value(self, formula, settings, message):
        with pytest.raises(ValueError, match=re.escape(message)):
            fit_formula(formula, DATA, **{"num_experts": 2, **QUICK, **settings})

    @pytest.mark.parametrize(
        ("formula", "settings", "message"),
        [
            (3, {}, "formula must be a string, got int"),
            (
                "y ~ x",
                {"data": DATA.to_numpy()},
                "data must be a pandas, polars or pyarrow frame or a mapping of columns",
            ),
            (
                "y ~ x",
                {"family": GaussianExperts},
                "family must be a name or a mixkit.experts.Experts, got GaussianExperts",
            ),
            ("y ~ x", {"family_options": {"nothing": 1}}, "family 'gaussian' does not take ['nothing']"),
            ("y ~ w | x", {"gate": "laplace"}, "gate 'laplace' does not take ['pattern']"),
            ("y ~ x", {"trials": 3}, "family 'gaussian' does not take ['trials']"),
            ("y ~ x", {"estimator": EM(), "n_init": 3}, "settings must be the estimator's own where one is given"),
            ("y ~ x", {"estimator": "em"}, "estimator must be an estimators.Estimator, got str"),
            ("y ~ x", {"common": 3}, "common"),
            ("y ~ x", {"nothing": 3}, "nothing"),
        ],
    )
    def test_types(self, formula, settings, message):
        settings = {"data": DATA, "num_experts": 2, **settings}
        with pytest.raises(TypeError, match=re.escape(message)):
            fit_formula(formula, **settings)

    def test_without_formulaic_the_extra_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "formulaic", None)
        with pytest.raises(ImportError, match=re.escape("pip install 'mixkit[formula]'")):
            fit_formula("y ~ x", DATA, 1)


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
