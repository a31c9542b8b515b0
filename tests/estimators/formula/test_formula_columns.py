"""The encoder of formulas as a scikit-learn transformer."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from estimators import FitResult, FormulaColumns, MixtureOfExpertsRegressor, fit_formula, select_experts

from .test_fit_formula import DATA, QUICK

SETTINGS = {"random_state": 0, "n_init": 3}


def test_a_pipeline_fits_what_a_formula_does():
    columns = FormulaColumns("x * side + w")
    pipeline = make_pipeline(columns, MixtureOfExpertsRegressor(2, gate="constant", **SETTINGS)).fit(DATA, DATA.y)
    fit = fit_formula("y ~ x * side + w", DATA, 2, random_state=0, n_init=3)
    assert pipeline[-1].result_.llf == pytest.approx(fit.llf, abs=1e-6)
    assert pipeline[-1].result_.param_names == fit.param_names
    np.testing.assert_allclose(pipeline.predict(DATA[:7]), fit.predict(DATA[:7]), rtol=1e-5)


def test_names_searches_and_clones():
    columns = FormulaColumns("side").fit(DATA)
    assert columns.get_feature_names_out().tolist() == ["side[T.mid]", "side[T.right]"]
    assert clone(columns).terms == "side"
    pipeline = make_pipeline(FormulaColumns(), MixtureOfExpertsRegressor(1, **SETTINGS))
    search = GridSearchCV(pipeline, {"formulacolumns__terms": ["w", "x + w"]}, cv=3).fit(DATA, DATA.y)
    assert search.best_params_ == {"formulacolumns__terms": "x + w"}


def test_select_experts_takes_its_columns():
    x = FormulaColumns("x + side").fit_transform(DATA)
    found = select_experts(x, DATA.y, range(1, 3), gate="constant", random_state=0)
    assert "slope[1,side[T.mid]]" in found.fits[1].param_names


def test_bad_input():
    with pytest.raises(NotFittedError):
        FormulaColumns("x").transform(DATA)
    with pytest.raises(TypeError, match="data must be a pandas, polars or pyarrow frame"):
        FormulaColumns("x").fit(DATA.to_numpy())
    with pytest.raises(ValueError, match=re.escape("got none of ['nothing']")):
        FormulaColumns("nothing").fit(DATA)
    with pytest.raises(ValueError, match="must have no missing values"):
        FormulaColumns("x").fit(DATA.assign(x=np.nan))
    with pytest.raises(ValueError, match="that the fit has seen"):
        FormulaColumns("side").fit(DATA).transform(pd.DataFrame({"side": ["up"]}))
    with pytest.raises(ValueError, match="terms must have terms that can be read"):
        FormulaColumns("x +").fit(DATA)
    with pytest.raises(TypeError, match="terms must be a string of terms, got int"):
        FormulaColumns(3).fit(DATA)


def test_files_keep_the_number_of_groups_and_nothing_of_each_row(tmp_path):
    data = DATA.assign(id=np.arange(len(DATA))[::-1] // 4)
    fit = fit_formula("y ~ x", data, 2, groups="id", **QUICK)
    fit.save(tmp_path / "fit")
    twin = FitResult.load(tmp_path / "fit")
    assert (twin.num_groups, twin.bic, twin.formula) == (fit.num_groups, fit.bic, fit.formula)
    assert str(twin.summary(cov_type="sandwich")) == str(fit.summary(cov_type="sandwich"))
    with np.load(tmp_path / "fit") as arrays:
        assert max(array.size for array in arrays.values()) < len(DATA)


def test_groups_of_a_fit_by_formula_are_named_in_predictions():
    data = DATA.assign(id=np.arange(len(DATA)) // 4)
    fit = fit_formula("y ~ x + side", data, 2, groups="id", **QUICK)
    assert fit.num_groups == len(DATA) // 4
    by_name = fit.predict_proba(data, data.y, groups="id")
    np.testing.assert_allclose(by_name, fit.responsibilities(data, data.y, groups=data.id), rtol=1e-7, atol=1e-9)
    assert (by_name.reshape(-1, 4, 2) == by_name.reshape(-1, 4, 2)[:, :1]).all()
