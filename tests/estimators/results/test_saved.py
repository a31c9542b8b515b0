"""Results in files: everything that a reader sees comes back, and nothing in a file is run."""

import copy
import json
import math
import os
import pickle
import subprocess
import sys
import zipfile
from enum import Enum
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from estimators import EM, FitResult
from estimators.results.maximum import DataRemovedError
from estimators.storage.archive import read_archive, write_archive
from estimators.storage.codec import NotStorableError, decode, encode
from mixkit import MixtureOfExperts, softmax_gate
from mixkit.datasets import load_tone
from mixkit.experts import GaussianExperts
from mixkit.experts.predictors import ModulePredictor
from mixkit.parameters import Axis, CholeskyFactor, ParameterRecord
from tests.estimators.models import CASE_IDS, LINEAR_CASES, seeded, softmax_model
from tests.mixkit.expert_table import FAMILIES
from tests.mixkit.gate_table import GATES, D

QUICK = {"random_state": 0, "n_init": 2, "n_moves": 0, "max_iter": 20}
X, Y = load_tone()


def round_trip(value):
    arrays = {}
    tree = json.loads(json.dumps(encode(value, arrays)))
    return decode(tree, arrays)


@pytest.fixture(scope="module")
def fit():
    return EM(**QUICK).fit(softmax_model(1, 2), X, Y)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fit.mixkit"


@pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")
@pytest.mark.parametrize("case", LINEAR_CASES, ids=CASE_IDS)
def test_a_result_says_the_same_when_read_again(case, path):
    x, y = case.data(120, 2, 0)
    result = EM(**QUICK).fit(case.model(2, 2, 0), x, y)
    result.save(path)
    twin = FitResult.load(path)
    assert twin.params.names == result.params.names
    np.testing.assert_array_equal(twin.params, result.params)
    for cov_type in ("observed", "sandwich", "opg"):
        np.testing.assert_allclose(twin.cov_params(cov_type), result.cov_params(cov_type), rtol=1e-8, atol=1e-9)
        assert str(twin.summary(cov_type=cov_type)) == str(result.summary(cov_type=cov_type))
    np.testing.assert_allclose(twin.conf_int(), result.conf_int(), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(twin.predict(x), result.predict(x), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(twin.responsibilities(x, y), result.responsibilities(x, y), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(twin.pvalues, result.pvalues, rtol=1e-8, atol=1e-9)
    assert (twin.llf, twin.aic, twin.bic, twin.df_resid) == (result.llf, result.aic, result.bic, result.df_resid)
    assert (twin.warnings, twin.converged) == (result.warnings, result.converged)
    assert repr(twin) == repr(result)


def test_a_process_that_knows_nothing_of_the_fit_reads_it(fit, path):
    fit.save(path)
    script = "import sys; from estimators import FitResult; print(FitResult.load(sys.argv[1]).summary())"
    root = str(Path(__file__).parents[3])
    settings = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, env=settings, check=False
    )
    assert done.stdout == f"{fit.summary()}\n", done.stderr


def test_the_data_and_the_estimator_stay_out(fit, path):
    fit.save(path)
    twin = FitResult.load(path)
    for name in ("estimator", "fittedvalues", "icl"):
        with pytest.raises(DataRemovedError):
            getattr(twin, name)
    assert path.stat().st_size < 60_000
    twin.save(path)
    np.testing.assert_allclose(
        FitResult.load(path).cov_params("sandwich"), fit.cov_params("sandwich"), rtol=1e-8, atol=1e-9
    )


def test_a_result_without_its_data_is_saved_with_what_it_knows(fit, path):
    twin = copy.deepcopy(fit)
    twin.maximum._covariances.clear()
    twin.remove_data()
    twin.save(path)
    loaded = FitResult.load(path)
    np.testing.assert_allclose(loaded.bse, fit.bse, rtol=1e-8, atol=1e-9)
    with pytest.raises(DataRemovedError):
        loaded.cov_params("sandwich")


class Wavy(nn.Module):
    """A module as a user would write it."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(1, 2, dtype=torch.float64)

    def forward(self, x):
        return torch.sin(self.inner(x))


def wavy():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        predictor = ModulePredictor(Wavy(), 2)
    return MixtureOfExperts(softmax_gate(1, 2, dtype=torch.float64, generator=seeded(0)), GaussianExperts(predictor))


@pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")
def test_a_user_s_own_module_is_given_again(path):
    result = EM(**QUICK).fit(wavy(), X, Y)
    result.save(path)
    with pytest.raises(ValueError, match="model must be given, one of the form that was fitted"):
        FitResult.load(path)
    with pytest.raises(ValueError, match="model must be of the form that was fitted"):
        FitResult.load(path, model=softmax_model(1, 2))
    given = wavy()
    before = [part.clone() for part in given.state_dict().values()]
    twin = FitResult.load(path, model=given)
    assert str(twin.summary()) == str(result.summary())
    np.testing.assert_allclose(twin.predict(X), result.predict(X), rtol=1e-8, atol=1e-9)
    assert all(torch.equal(*pair) for pair in zip(before, given.state_dict().values(), strict=True))


class TestFilesThatAreRefused:
    @pytest.mark.parametrize(
        "spoil",
        [
            lambda data: data[: len(data) // 2],
            lambda data: data[:-200],
            lambda data: data[:400] + bytes([data[400] ^ 0xFF]) + data[401:],
            lambda data: b"",
            lambda data: b"not a file of ours",
            lambda data: pickle.dumps({"model": 1}),
        ],
    )
    def test_damaged_and_foreign_ones(self, fit, path, spoil):
        fit.save(path)
        path.write_bytes(spoil(path.read_bytes()))
        with pytest.raises(ValueError, match="path must be a whole file that mixkit wrote, got "):
            FitResult.load(path)

    def test_arrays_without_a_header(self, path):
        with path.open("wb") as file:
            np.savez(file, a=np.ones(3))
        with pytest.raises(ValueError, match="it has no header"):
            FitResult.load(path)

    def test_archives_of_other_formats(self, path):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "a")
        with pytest.raises(ValueError, match="path must be a whole file"):
            FitResult.load(path)

    def test_pickled_arrays(self, path):
        with path.open("wb") as file:
            np.savez(file, header=np.array([object()], dtype=object))
        with pytest.raises(ValueError, match="path must be a whole file"):
            FitResult.load(path)

    def test_no_file(self, path):
        with pytest.raises(FileNotFoundError):
            FitResult.load(path)

    def test_later_versions_and_other_kinds(self, fit, path, monkeypatch):
        write_archive(path, "draft", {})
        with pytest.raises(ValueError, match="path must be a file of a fit, got one of a draft"):
            FitResult.load(path)
        monkeypatch.setattr("estimators.storage.archive._VERSION", 99)
        fit.save(path)
        monkeypatch.undo()
        with pytest.raises(ValueError, match="format version 1, got 99, written by mixkit"):
            FitResult.load(path)

    def test_values_that_are_no_result(self, path):
        write_archive(path, "fit", {"model": None, "more": 1})
        with pytest.raises(ValueError, match=r"got one with \['more'\]"):
            FitResult.load(path)

    def test_an_interrupted_write_leaves_the_file_before(self, fit, path, monkeypatch):
        fit.save(path)
        before = path.read_bytes()

        def fail(*args, **kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr(np, "savez_compressed", fail)
        with pytest.raises(KeyboardInterrupt):
            fit.save(path)
        assert path.read_bytes() == before
        assert list(path.parent.iterdir()) == [path]


class TestCodec:
    @pytest.mark.parametrize("name", GATES)
    def test_every_gate_comes_back(self, name):
        gate = GATES[name](dtype=torch.float64)
        twin = round_trip(gate)
        x = torch.randn(4, D, dtype=torch.float64, generator=seeded(0))
        assert torch.equal(twin(x, seeded(1)), gate(x, seeded(1)))
        assert repr(twin) == repr(gate)
        assert twin.state_dict().keys() == gate.state_dict().keys()
        assert [p.requires_grad for p in twin.parameters()] == [p.requires_grad for p in gate.parameters()]

    @pytest.mark.parametrize("name", [name for name in FAMILIES if "user" not in name and "network" not in name])
    def test_every_family_comes_back(self, name):
        experts = FAMILIES[name].make(dtype=torch.float64)
        twin = round_trip(experts)
        x = torch.randn(4, D, dtype=torch.float64, generator=seeded(0))
        assert torch.equal(twin(x).mean, experts(x).mean)
        assert type(twin) is type(experts)

    def test_networks_of_torch_come_back(self):
        with torch.random.fork_rng(devices=[]):
            net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.BatchNorm1d(3), nn.Linear(3, 1)).eval()
        x = torch.ones(4, 2)
        assert torch.equal(round_trip(net)(x), net(x))

    @pytest.mark.parametrize(
        "value",
        [
            None,
            True,
            3,
            -0.5,
            math.inf,
            -math.inf,
            "words",
            [1, [2.5]],
            (1, (2,)),
            {"a": 1, (1, 2): [None]},
            {3, 1},
            torch.Size([2, 3]),
            torch.float64,
            Axis.EXPERT,
            ParameterRecord("weight", "slope", (Axis.EXPERT, Axis.COVARIATE)),
            torch.tanh,
        ],
    )
    def test_values_come_back(self, value):
        assert round_trip(value) == value
        assert type(round_trip(value)) is type(value)

    def test_nan_numpy_numbers_and_transforms_come_back(self):
        assert math.isnan(round_trip(math.nan))
        assert round_trip(np.float64(2.5)) == 2.5
        assert isinstance(round_trip(CholeskyFactor()), CholeskyFactor)

    class Own(Enum):
        A = 1

    @pytest.mark.parametrize(
        "value",
        [
            lambda x: x,
            print,
            object(),
            Own.A,
            Wavy(),
            Path("a"),
            torch.zeros(1, dtype=torch.bfloat16),
            np.array([object()]),
        ],
    )
    def test_code_is_not_stored(self, value):
        with pytest.raises(NotStorableError, match="cannot be stored"):
            encode([value], {})

    def test_hooks_are_not_stored(self):
        module = nn.Tanh()
        module.register_forward_hook(print)
        with pytest.raises(NotStorableError, match="the hooks of a Tanh"):
            encode(module, {})

    @pytest.mark.parametrize(
        "tree",
        [
            {"module": "os:system", "settings": {}},
            {"module": "mixkit.mixture:torch", "settings": {}},
            {"module": "mixkit.parameters.record:ParameterRecord", "settings": {}},
            {"module": "mixkit.nowhere:Gate"},
            {"module": "estimators.rates.__main__:main"},
            {"dataclass": "subprocess:Popen", "fields": {"args": "ls"}},
            {"dataclass": "estimators.rates.study:RateStudy", "fields": {}},
            {"dataclass": "mixkit.mixture:MixtureOfExperts", "fields": {}},
            {"dataclass": "mixkit.parameters.record:ParameterRecord", "fields": {"nothing": 1}},
            {"namedtuple": "pathlib:Path", "fields": {}},
            {"enum": "mixkit.parameters.record:Axis", "name": "NOTHING"},
            {"function": "os.system"},
            {"array": "missing"},
            {"float": "1.0"},
            {"dtype": "object"},
            {"unknown": 1},
            {},
            [1],
        ],
    )
    def test_trees_that_no_value_makes_are_refused(self, tree):
        with pytest.raises(ValueError, match="file "):
            decode(tree, {})

    def test_attributes_of_every_module_cannot_be_set(self):
        tree = encode(nn.Tanh(), {})
        tree["settings"]["forward"] = 1
        tree["settings"]["_forward_hooks"] = {"dict": []}
        with pytest.raises(ValueError, match="file sets '_forward_hooks' of a module"):
            decode(tree, {})

    def test_files_have_no_name_that_write_adds(self, tmp_path):
        write_archive(tmp_path / "a", "thing", [1])
        assert read_archive(tmp_path / "a", "thing") == [1]
        assert [part.name for part in tmp_path.iterdir()] == ["a"]
