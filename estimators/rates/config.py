"""A study written as a TOML file."""

import os
import tomllib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixkit.gates import Gate, gate_by_name, gate_names
from mixkit.measure import MixingMeasure

from ..em import EM
from ..mle import MLE
from .candidate import Candidate
from .covariates import GridCovariates, NormalCovariates, UniformCovariates
from .losses import BlockLoss, DensityLoss, ExactLoss, OverspecifiedLoss, TemperatureLoss
from .starts import DataDriven, NearTruth, Oracle
from .study import RateStudy

__all__ = ["read_study"]

_ESTIMATORS = {"EM": EM, "MLE": MLE}
_COVARIATES = {"uniform": UniformCovariates, "normal": NormalCovariates, "grid": GridCovariates}
_STARTS = {"data-driven": DataDriven, "oracle": Oracle, "near-truth": NearTruth}
_LOSSES = {
    "D1": ExactLoss,
    "D2": OverspecifiedLoss,
    "blocks": BlockLoss,
    "density": DensityLoss,
    "temperature": TemperatureLoss,
}
_MEASURE = ("gate_bias", "gate_weight", "slope", "intercept", "variance")
_REQUIRED = {"truth", "covariates", "sample_sizes", "num_replicates", "seed", "losses", "candidates"}
_OPTIONAL = {"gate", "start", "nested", "gain_tol", "batch_size"}


def read_study(path: str | os.PathLike[str]) -> RateStudy:
    """Read a design.

    Every part is a table with a ``kind`` and the arguments of that kind::

        sample_sizes = [100, 1000, 10000]
        num_replicates = 20
        seed = 0
        losses = [{kind = "D1"}, {kind = "blocks"}]
        covariates = {kind = "uniform"}
        start = {kind = "data-driven"}

        [truth]
        gate_bias = [-8.0, 0.0]
        gate_weight = [[25.0], [0.0]]
        slope = [[-20.0], [20.0]]
        intercept = [15.0, -5.0]
        variance = [0.09, 0.16]

        [candidates.exact]
        estimator = {kind = "EM", n_init = 4}

        [candidates.over]
        estimator = {kind = "EM", n_init = 4}
        num_experts = 3

    Kinds: estimators EM, MLE; covariates uniform, normal, grid; starts data-driven, oracle, near-truth; losses D1, D2,
    blocks, density, temperature; gates those of :func:`mixkit.gates.gate_by_name`. ``gate`` is that of the truth, and
    of every candidate that has no ``gate`` of its own. ``start``, ``gate``, ``nested``, ``gain_tol`` and ``batch_size``
    may be left out.

    Raises:
        ValueError: if the file is no TOML, a key is missing or unknown, or the design is a bad one.
        TypeError: if an argument has the wrong type.

    Example:
        >>> import tempfile
        >>> text = '''
        ... sample_sizes = [100, 200]
        ... num_replicates = 2
        ... seed = 0
        ... losses = [{kind = "D1"}]
        ... covariates = {kind = "uniform"}
        ... candidates = {one = {estimator = {kind = "EM"}}}
        ... [truth]
        ... gate_bias = [0.0, 0.0]
        ... gate_weight = [[4.0], [0.0]]
        ... slope = [[2.0], [-2.0]]
        ... intercept = [0.0, 1.0]
        ... variance = [0.1, 0.1]
        ... '''
        >>> with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
        ...     _ = file.write(text)
        ...     file.flush()
        ...     study = read_study(file.name)
        >>> len(study.tasks)
        4
    """
    try:
        raw = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"design must be a TOML file, got {path}: {error}") from error
    _check_keys("design", raw, _REQUIRED, _OPTIONAL)
    truth = _truth(raw["truth"])
    own_gate = _gate(raw["gate"], truth.num_features) if "gate" in raw else None
    return RateStudy(
        truth,
        _made("covariates", raw["covariates"], _COVARIATES),
        {name: _candidate(name, table, truth.num_features, own_gate) for name, table in raw["candidates"].items()},
        [_made("losses", table, _LOSSES) for table in raw["losses"]],
        raw["sample_sizes"],
        raw["num_replicates"],
        raw["seed"],
        gate=None if own_gate is None else own_gate(truth.num_experts),
        **{name: raw[name] for name in ("nested", "gain_tol", "batch_size") if name in raw},
        **({"start": _made("start", raw["start"], _STARTS)} if "start" in raw else {}),
    )


def _check_keys(where: str, table: Mapping[str, Any], required: set[str], optional: set[str]) -> None:
    if not isinstance(table, Mapping):
        raise ValueError(f"{where} must be a table, got {table!r}")
    missing, unknown = sorted(required - table.keys()), sorted(table.keys() - required - optional)
    if missing or unknown:
        raise ValueError(f"{where} must have keys {sorted(required)}, got none of {missing}, and unknown {unknown}")


def _made(where: str, table: Any, kinds: Mapping[str, Callable[..., Any]]) -> Any:
    """What a table with a ``kind`` describes."""
    if not isinstance(table, Mapping) or table.get("kind") not in kinds:
        raise ValueError(f"{where} must be a table with a kind among {sorted(kinds)}, got {table!r}")
    kind = table["kind"]
    try:
        return kinds[kind](**{key: value for key, value in table.items() if key != "kind"})
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where} of kind {kind!r}: {error}") from error


def _truth(table: Mapping[str, Any]) -> MixingMeasure:
    _check_keys("truth", table, set(_MEASURE), set())
    return MixingMeasure(*(_numbers(name, table[name]) for name in _MEASURE))


def _numbers(name: str, value: Any) -> Tensor:
    try:
        return torch.tensor(value, dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"truth.{name} must be a list of numbers, or of lists of one length, got {value!r}") from error


def _gate(table: Mapping[str, Any], num_features: int) -> Callable[[int], Gate]:
    """From a number of experts to the gate that a table describes."""
    forms = {kind: partial(_GateForm, partial(gate_by_name, kind), num_features) for kind in gate_names()}
    return _made("gate", table, forms)


class _GateForm:
    """A named gate and its options, but for the number of experts."""

    def __init__(self, build: Callable[..., Gate], num_features: int, **options: Any) -> None:
        self.build, self.num_features, self.options = build, num_features, options

    def __call__(self, num_experts: int) -> Gate:
        """The gate of that many experts."""
        generator = torch.Generator().manual_seed(0)
        try:
            return self.build(self.num_features, num_experts, generator=generator, **self.options)
        except TypeError as error:
            raise TypeError(f"gate of options {self.options}: {error}") from error


def _candidate(
    name: str, table: Mapping[str, Any], num_features: int, true_gate: Callable[[int], Gate] | None
) -> Candidate:
    where = f"candidates.{name}"
    _check_keys(where, table, {"estimator"}, {"num_experts", "gate", "start"})
    return Candidate(
        _made(f"{where}.estimator", table["estimator"], _ESTIMATORS),
        table.get("num_experts"),
        _gate(table["gate"], num_features) if "gate" in table else true_gate,
        _made(f"{where}.start", table["start"], _STARTS) if "start" in table else None,
    )
