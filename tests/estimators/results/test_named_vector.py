"""Estimates by name: an array in all that arrays do, and never under a wrong name."""

import copy
import pickle
import re

import numpy as np
import pandas as pd
import pytest

from estimators.statistics.named_vector import NamedVector

NAMES = ["slope[0,x]", "slope[1,x]", "std"]
VECTOR = NamedVector([1.5, -2.0, 1e-9], NAMES)


def test_names_read_entries():
    assert VECTOR["slope[1,x]"] == -2.0
    assert isinstance(VECTOR["std"], float)
    chosen = VECTOR[["std", "slope[0,x]"]]
    assert chosen.names == ("std", "slope[0,x]")
    assert chosen["std"] == 1e-9
    assert "std" in VECTOR
    assert "mean" not in VECTOR
    assert -2.0 in VECTOR
    assert dict(VECTOR) == {"slope[0,x]": 1.5, "slope[1,x]": -2.0, "std": 1e-9}
    with pytest.raises(KeyError, match=re.escape("no parameter is named 'x'; the names are ['slope[0,x]',")):
        VECTOR["x"]


@pytest.mark.parametrize(
    "compute",
    [
        lambda v: v[::-1],
        lambda v: v[[2, 0]],
        lambda v: v[np.array([True, False, True])],
        lambda v: v[:, None],
        lambda v: 2.0 * v + 1.0,
        lambda v: np.exp(v),
        lambda v: np.sort(v),
        lambda v: np.concatenate([v, v]),
        lambda v: np.stack([v, v]) @ np.ones(3),
        lambda v: v.copy(),
        lambda v: v.round(1),
        lambda v: v.reshape(3, 1),
        lambda v: v > 0,
        lambda v: v.max(),
        lambda v: v @ v,
        lambda v: v.tolist(),
        lambda v: np.where(v > 0, v, 0.0),
    ],
)
def test_all_else_is_the_array_and_has_no_names(compute):
    found, expected = compute(VECTOR), compute(np.asarray(VECTOR).copy())
    np.testing.assert_array_equal(found, expected)
    assert getattr(found, "names", None) is None
    assert repr(found) == repr(expected)


def test_copies_keep_the_names_and_entries_do_not_change():
    for twin in (copy.copy(VECTOR), copy.deepcopy(VECTOR), pickle.loads(pickle.dumps(VECTOR))):
        assert twin.names == tuple(NAMES)
        np.testing.assert_array_equal(twin, VECTOR)
    with pytest.raises(ValueError, match="read-only"):
        VECTOR[0] = 1.0
    source = np.ones(1)
    vector = NamedVector(source, ["a"])
    source[0] = 2.0
    assert vector["a"] == 1.0


def test_it_prints_a_line_for_each_entry():
    assert str(NamedVector([1.5, -20.25], ["a", "long"])) == "a        1.5\nlong   -20.25"
    assert repr(NamedVector([], [])) == "array([], dtype=float64)"


def test_series_have_the_names():
    pd.testing.assert_series_equal(VECTOR.to_series(), pd.Series([1.5, -2.0, 1e-9], index=NAMES))


@pytest.mark.parametrize(
    ("values", "names", "message"),
    [
        ([1.0], ["a", "b"], r"one for each value, got 2 for values of shape \(1,\)"),
        ([[1.0]], ["a"], r"of shape \(1, 1\)"),
        ([1.0, 2.0], ["a", "a"], r"all be different, got \['a', 'a'\]"),
    ],
)
def test_names_must_fit(values, names, message):
    with pytest.raises(ValueError, match=message):
        NamedVector(values, names)
