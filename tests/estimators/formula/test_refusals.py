"""What fits by formula refuse, and in which words."""

import re
import sys

import numpy as np
import pytest

from estimators import EM, fit_formula
from mixkit.experts import GaussianExperts
from mixkit.experts.predictors import LinearPredictor
from tests.estimators.models import seeded

from .cases import DATA, QUICK


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
