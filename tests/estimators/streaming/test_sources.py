"""Batches from arrays and files, and fits to arrays that stay on disk."""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from estimators import EM
from estimators.streaming import StochasticEM, array_batches, read_batches

from ..models import reference_truth, seeded, softmax_model


@pytest.fixture(scope="module")
def arrays():
    x, y = reference_truth().sample_xy(5000, generator=seeded(2))
    return x.numpy(), y.numpy()


@pytest.fixture
def on_disk(arrays, tmp_path):
    for name, array in zip("xy", arrays, strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    return tuple(np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "xy")


class TestArrays:
    def test_batches_are_the_rows_in_order(self, arrays):
        x, y = arrays
        batches = array_batches(x, y, np.arange(5000.0), batch_size=1200)
        assert len(batches) == len(list(batches)) == 5
        for part, whole in enumerate((x, y, np.arange(5000.0))):
            np.testing.assert_array_equal(np.concatenate([batch[part] for batch in batches]), whole)

    def test_a_shuffle_keeps_rows_together(self, arrays):
        x, y = arrays
        batches = array_batches(x, y, batch_size=300, random_state=0)
        first, second = (np.concatenate([np.column_stack(batch) for batch in batches]) for _ in range(2))
        np.testing.assert_array_equal(first, second)  # the same on every pass
        whole = np.column_stack([x, y])
        assert not np.array_equal(first, whole)
        np.testing.assert_array_equal(np.sort(first, axis=0), np.sort(whole, axis=0))
        lookup = dict.fromkeys(map(tuple, whole), True)
        assert all(tuple(row) in lookup for row in first)

    def test_lengths_must_agree(self, arrays):
        with pytest.raises(ValueError, match="y must have as many rows as x, 5000, got 3"):
            array_batches(arrays[0], np.zeros(3))

    def test_a_fit_reads_memory_maps_as_they_are(self, arrays, on_disk):
        fit, mapped = (EM(n_init=2, random_state=0).fit(softmax_model(1, 2), *data) for data in (arrays, on_disk))
        np.testing.assert_array_equal(fit.params, mapped.params)

    def test_a_mapped_array_is_not_copied(self, on_disk):
        from estimators.data.dataset import as_data

        data = as_data(softmax_model(1, 2), *on_disk, None, is_batch=False)
        assert data.x.data_ptr() == on_disk[0].ctypes.data
        assert data.y.data_ptr() == on_disk[1].ctypes.data

    def test_a_stream_reads_memory_maps(self, arrays, on_disk):
        settings = StochasticEM(start_rows=500, starter=EM(n_init=2, random_state=0))
        first, second = (settings.fit(softmax_model(1, 2), array_batches(*data)) for data in (arrays, on_disk))
        np.testing.assert_array_equal(first.params, second.params)


class TestParquet:
    def write(self, path, columns, row_group_size=700):
        pq.write_table(pa.table(columns), path, row_group_size=row_group_size)

    def test_batches_are_the_rows_in_order(self, arrays, tmp_path):
        x, y = arrays
        columns = {"y": y, "x": x[:, 0], "w": np.arange(5000), "name": ["a"] * 5000}
        self.write(tmp_path / "a.parquet", {name: column[:3000] for name, column in columns.items()})
        self.write(tmp_path / "b.parquet", {name: column[3000:] for name, column in columns.items()})
        paths = [tmp_path / "a.parquet", tmp_path / "b.parquet"]
        batches = read_batches(paths, ["x"], "y", sample_weight="w", batch_size=1000)
        assert max(len(batch[1]) for batch in batches) <= 1000
        for part, whole in enumerate((x, y, np.arange(5000.0))):
            found = np.concatenate([batch[part] for batch in batches])
            np.testing.assert_array_equal(found, whole)
            assert found.dtype == np.float64

    def test_a_vector_response(self, arrays, tmp_path):
        x, y = arrays
        self.write(tmp_path / "a.parquet", {"a": x[:, 0], "b": y, "c": -y})
        (batch,) = read_batches(str(tmp_path / "a.parquet"), ["a"], ["b", "c"])
        np.testing.assert_array_equal(batch[1], np.column_stack([y, -y]))

    def test_a_fit(self, arrays, tmp_path):
        x, y = arrays
        self.write(tmp_path / "a.parquet", {"x": x[:, 0], "y": y})
        settings = StochasticEM(start_rows=500, starter=EM(n_init=2, random_state=0))
        result = settings.fit(softmax_model(1, 2), read_batches(tmp_path / "a.parquet", ["x"], "y"))
        np.testing.assert_array_equal(result.params, settings.fit(softmax_model(1, 2), [(x, y)]).params)

    @pytest.mark.parametrize(
        ("columns", "error", "message"),
        [
            ({"x": [1.0, None], "y": [1.0, 2.0]}, ValueError, "column x must have no missing values, got 1"),
            ({"x": ["a", "b"], "y": [1.0, 2.0]}, TypeError, "column x must be numeric, got string"),
            ({"y": [1.0, 2.0]}, ValueError, r"columns asked for, got none named \['x'\]"),
        ],
    )
    def test_bad_columns_are_refused(self, columns, error, message, tmp_path):
        self.write(tmp_path / "a.parquet", columns)
        with pytest.raises(error, match=message):
            list(read_batches(tmp_path / "a.parquet", ["x"], "y"))

    @pytest.mark.parametrize("covariates", [[], "x"])
    def test_covariates_are_a_list(self, covariates):
        with pytest.raises(ValueError, match="covariates must be a list of at least one name"):
            read_batches("a.parquet", covariates, "y")

    def test_pyarrow_is_asked_for_by_name(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
        with pytest.raises(ImportError, match=r"pip install 'mixkit\[parquet\]'"):
            list(read_batches("a.parquet", ["x"], "y"))
