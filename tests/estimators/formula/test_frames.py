"""Frames that formulas read: of every kind, new ones after a fit, and with missing values."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from estimators import FitResult, fit_formula

from .cases import DATA, QUICK


@pytest.fixture(scope="module")
def fit():
    return fit_formula("y ~ x * side + w | x", DATA, 2, **QUICK)


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
