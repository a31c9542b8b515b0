"""Restrictions in words: what they mean, and what is refused."""

import re

import numpy as np
import pytest

from estimators.statistics.linear_restrictions import linear_restrictions
from estimators.statistics.wald_tests import wald_test

NAMES = ["a", "ab", "slope[0,x]", "slope[0,log(x + 0.5)]", "slope[1,C(Species)[T.a, b]]", "std[0]", "Intercept"]
P = len(NAMES)


def row(**entries):
    return [entries.get(f"_{place}", 0.0) for place in range(P)]


@pytest.mark.parametrize(
    ("text", "matrix", "values"),
    [
        ("a = 1", [row(_0=1)], [1]),
        ("a", [row(_0=1)], [0]),
        ("ab = a", [row(_1=1, _0=-1)], [0]),
        ("a = ab = 3", [row(_0=1, _1=-1), row(_1=1)], [0, 3]),
        ("slope[0,x] = slope[0, log(x + 0.5)]", [row(_2=1, _3=-1)], [0]),
        ("slope[1,C(Species)[T.a, b]] = 0, std[0] = 2", [row(_4=1), row(_5=1)], [0, 2]),
        ("2 * (a - 3*ab) / 4 + 1 = -a", [row(_0=1.5, _1=-1.5)], [-1]),
        ("-a + +ab - -1e1 = .5", [row(_0=-1, _1=1)], [-9.5]),
        ("a * 2 = 6", [row(_0=2)], [6]),
        ("1 = a", [row(_0=-1)], [-1]),
        ("(1 + 2) * a = (2*3)", [row(_0=3)], [6]),
        (["a = 1", "ab = 2, Intercept = 3"], [row(_0=1), row(_1=1), row(_6=1)], [1, 2, 3]),
        ({"a - ab": 2, "std[0]": 1.5}, [row(_0=1, _1=-1), row(_5=1)], [2, 1.5]),
        (np.eye(P)[:2], [row(_0=1), row(_1=1)], [0, 0]),
        (np.eye(P)[0], [row(_0=1)], [0]),
        ((np.eye(P)[:2], [3.0, 4.0]), [row(_0=1), row(_1=1)], [3, 4]),
        ((np.eye(P)[0], 3.0), [row(_0=1)], [3]),
    ],
)
def test_words_and_matrices_mean_the_same(text, matrix, values):
    found = linear_restrictions(text, NAMES)
    np.testing.assert_array_equal(found.matrix, matrix)
    np.testing.assert_array_equal(found.values, values)
    assert len(found.labels) == len(values)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["g[T.a]", "g[T.a]:x"], "g[T.a]:x = 1"),  # the longest name is read
        (["x_y", "x_yz"], "x_yz = 1"),
        (["x_", "x_y"], "x_y = 1"),
    ],
)
def test_names_that_begin_with_others(names, text):
    for order in (names, names[::-1]):
        found = linear_restrictions(text, order)
        assert found.matrix.tolist() == [[float(name == names[1]) for name in order]]
        with pytest.raises(ValueError, match="restrictions must"):
            linear_restrictions(text, names[:1])


def test_labels_are_the_words_or_written_from_the_matrix():
    assert linear_restrictions("a=  2*ab, std[0]", NAMES).labels == ("a = 2*ab", "std[0] = 0")
    matrix = np.array([row(_0=1, _1=-2.5)])
    assert linear_restrictions((matrix, [3.0]), NAMES).labels == ("a - 2.5 * ab = 3",)


@pytest.mark.parametrize(
    ("restrictions", "message"),
    [
        ("slope[0,z] = 0", "must use the names of the parameters, ['Intercept', 'a', 'ab', "),
        ("slope[0,z] = 0", "got 'slope[0,z]'"),
        ("a ? 1", "got '?' at position 2 of 'a ? 1'"),
        ("abc = 0", "got 'abc'"),
        ("a * ab = 0", "must be linear in the parameters, got 'a * ab = 0'"),
        ("1 / a = 0", "must be linear in the parameters"),
        ("a / 0 = 0", "must be linear in the parameters"),
        ("a = ", "got the end of 'a = '"),
        ("a = (1", "got the end"),
        ("a b = 1", "got 'b' at position 2"),
        ("a 2 = 1", "got '2' at position 2"),
        ("", "got the end of ''"),
        ("1 = 2", "must each say something of the parameters, got '1 = 2'"),
        ("a = a", "must each say something of the parameters, got 'a = a'"),
        ("a = 1, 2*a = 2", "must not follow from each other, got 2 of which 1 are independent"),
        ("a = 1, a = 2", "must not follow from each other"),
        (np.eye(3), f"must have one column a parameter, {P}, got shape (3, 3)"),
        ((np.eye(P), [1.0, 2.0]), f"must have a value a row, {P}, got shape (2,)"),
        (np.full((1, P), np.nan), "must be finite"),
        (np.zeros((0, P)), "must hold one restriction or more"),
        ({}, "must hold one restriction or more"),
    ],
)
def test_others_are_refused(restrictions, message):
    names = [*NAMES, "b"] if isinstance(restrictions, str) else NAMES
    with pytest.raises(ValueError, match=re.escape(message)):
        linear_restrictions(restrictions, names)


@pytest.mark.parametrize("restrictions", [None, object(), ["a = 1", 2], {1: 2.0}])
def test_other_types_are_refused(restrictions):
    with pytest.raises(TypeError, match="restrictions must"):
        linear_restrictions(restrictions, NAMES)


def test_statistics_do_not_depend_on_units_and_order_of_restrictions():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(P, P))
    params, covariance = rng.normal(size=P), root @ root.T
    plain = wald_test(params, covariance, linear_restrictions("a = 1, ab = slope[0,x]", NAMES))
    scaled = wald_test(params, covariance, linear_restrictions("1e6*ab = 1e6*slope[0,x], 1e-6*a = 1e-6", NAMES))
    combined = wald_test(params, covariance, linear_restrictions("a + ab - slope[0,x] = 1, a - 1 = 0", NAMES))
    assert scaled.statistic == pytest.approx(plain.statistic, rel=1e-9)
    assert combined.statistic == pytest.approx(plain.statistic, rel=1e-9)
    assert plain.df == combined.df == 2


def test_what_has_no_variance_has_no_test():
    covariance = np.diag([0.0] + [1.0] * (P - 1))
    assert np.isnan(wald_test(np.ones(P), covariance, linear_restrictions("a = 0, ab = 0", NAMES)).statistic)


def test_undetermined_parameters_have_no_test_but_leave_others_alone():
    covariance = np.diag([1.0, np.nan] + [1.0] * (P - 2))
    covariance[1] = covariance[:, 1] = np.nan
    assert np.isnan(wald_test(np.ones(P), covariance, linear_restrictions("a = 0, ab = 0", NAMES)).p_value)
    assert wald_test(np.ones(P), covariance, linear_restrictions("a = 0", NAMES)).statistic == 1.0
