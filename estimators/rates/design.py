"""What a rate study is, apart from its run: a truth, sizes, candidates, losses; all that its replicates need."""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import pairwise
from numbers import Integral
from types import MappingProxyType
from typing import NamedTuple

import torch

from mixkit._validation import check_integer, check_positive
from mixkit.gates import Gate
from mixkit.measure import MixingMeasure
from mixkit.mixture import MixtureOfExperts

from ..replication.fingerprint import describe
from ..search.estimator import Estimator
from .candidate import Candidate, check_gate
from .covariates import Covariates
from .losses import Loss
from .starts import BatchedStart, DataDriven, StartPolicy
from .theory import is_well_specified

__all__ = ["StudyDesign", "Task"]


class Task(NamedTuple):
    """Which fit: a candidate's name, a sample size and a replicate."""

    candidate: str
    n: int
    replicate: int


@dataclass(frozen=True, eq=False)
class StudyDesign:
    """The settings of a study, checked, and what follows from them: candidates, models, tasks, identity.

    See :class:`~estimators.rates.RateStudy`, a design that runs, for the arguments.
    """

    truth: MixingMeasure
    covariates: Covariates
    estimator: Estimator | Mapping[str, Candidate]
    losses: Sequence[Loss]
    sample_sizes: Sequence[int]
    num_replicates: int
    seed: int
    start: StartPolicy = field(default_factory=DataDriven)
    num_experts: int | None = None
    gate: Gate | None = None
    nested: bool = False
    gain_tol: float = 1e-6
    batch_size: int = 8

    def __post_init__(self) -> None:
        self._check_kinds()
        check_integer("num_replicates", self.num_replicates, low=1)
        check_integer("seed", self.seed, low=0)
        check_positive("gain_tol", self.gain_tol)
        check_integer("batch_size", self.batch_size, low=1)
        if self.truth.batch_shape:
            raise ValueError(f"truth must be one measure, got a batch of shape {tuple(self.truth.batch_shape)}")
        if self.nested and not self.covariates.is_nested:
            raise ValueError(f"nested samples need covariates drawn at random, got {self.covariates!r}")
        if self.gate is not None:
            check_gate("gate", self.gate, self.truth.num_features, self.truth.num_experts)
        for name in self.candidates:
            self._check_candidate(name)
        _check_sizes(self.sample_sizes, max(self.experts_of(name) for name in self.candidates))

    def _check_kinds(self) -> None:
        kinds = {"truth": MixingMeasure, "covariates": Covariates, "start": StartPolicy}
        for name, kind in kinds.items():
            if not isinstance(getattr(self, name), kind):
                raise TypeError(f"{name} must be a {kind.__name__}, got {type(getattr(self, name)).__name__}")
        _check_losses(self.losses)
        if isinstance(self.estimator, Mapping):
            if self.num_experts is not None:
                raise ValueError("num_experts must be None when candidates say it themselves, got both")
            if not self.estimator or not all(isinstance(c, Candidate) for c in self.estimator.values()):
                raise TypeError(f"estimator must be an Estimator or candidates by name, got {self.estimator!r}")
            if not all(isinstance(name, str) and name.strip() for name in self.estimator):
                raise ValueError(f"estimator must name each candidate with a word, got {list(self.estimator)!r}")

    def _check_candidate(self, name: str) -> None:
        k, true_k = self.experts_of(name), self.truth.num_experts
        if k < true_k:
            raise ValueError(f"num_experts of {name!r} must be at least the truth's {true_k}, got {k}")
        candidate = self.candidates[name]
        gate = candidate.new_gate(self.truth.num_features, k)
        check_gate(f"gate of {name!r}, when asked for {k} experts,", gate, self.truth.num_features, k)
        if candidate.gate is None and not is_well_specified(gate, self.truth_model.gate):
            raise ValueError(
                f"gate of candidate {name!r} must be given, Candidate(gate=...), where the study's gate is not the "
                "softmax gate (softmax_gate itself for a misspecified fit), got none"
            )

    @cached_property
    def candidates(self) -> Mapping[str, Candidate]:
        """The candidates by name; ``fit`` where there is but one estimator."""
        if isinstance(self.estimator, Mapping):
            return MappingProxyType(dict(self.estimator))
        return MappingProxyType({"fit": Candidate(self.estimator, self.num_experts)})

    @cached_property
    def truth_model(self) -> MixtureOfExperts:
        """The true model, float64."""
        return self.truth.to(torch.float64).to_module(self.gate).eval()

    def experts_of(self, candidate: str) -> int:
        """Experts that a candidate fits."""
        return self.candidates[candidate].num_experts or self.truth.num_experts

    def __getstate__(self) -> dict[str, object]:
        """What pickles: the settings, without what is computed from them."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def tasks(self) -> list[Task]:
        """All the fits: replicate by replicate, so that a study cut short has every size."""
        names = list(self.candidates)
        return [Task(name, int(n), r) for r in range(self.num_replicates) for n in self.sample_sizes for name in names]

    def identity(self) -> dict[str, str]:
        """What two studies must share for their fits to belong together; sizes and replicates may be extended.

        Every setting and parameter counts (:func:`~estimators.replication.fingerprint.describe`), but an estimator's
        ``random_state`` and ``progress``, which the study sets.
        """
        described = {
            "truth": json.dumps([getattr(self.truth, f.name).tolist() for f in fields(self.truth)]),
            "truth gate": describe(self.truth_model.gate),
            "covariates": describe(self.covariates),
            "losses": describe(list(self.losses)),
            "seed": str(self.seed),
            "nested": str(self.nested),
        }
        for name, candidate in self.candidates.items():
            template = candidate.template(self.truth.num_features, self.experts_of(name))
            start = candidate.start or self.start
            fitted = f"{_settings(candidate.estimator)} from {describe(start)} on {describe(template)}"
            is_batch = isinstance(start, BatchedStart) and self.batch_size > 1
            described[f"candidate {name}"] = f"{fitted} in blocks of {self.batch_size}" if is_batch else fitted
        return described


def _settings(estimator: Estimator) -> str:
    """The settings of an estimator that a study leaves as they are."""
    own = copy.copy(estimator)
    own.random_state, own.progress = None, False
    return describe(own)


def _check_losses(losses: Sequence[Loss]) -> None:
    is_list = isinstance(losses, Sequence) and not isinstance(losses, str)
    if not is_list or not losses or not all(isinstance(loss, Loss) for loss in losses):
        raise TypeError(f"losses must be one or more estimators.rates losses in a list, got {losses!r}")
    for i, loss in enumerate(losses):
        own_names = type(loss).__module__ == Loss.__module__  # settings do not change the names of these
        if any(other == loss or (own_names and type(other) is type(loss)) for other in losses[:i]):
            raise ValueError(f"losses must have names of their own, got two of {type(loss).__name__}")


def _check_sizes(sizes: Sequence[int], k: int) -> None:
    is_list = hasattr(sizes, "__len__") and not isinstance(sizes, str)
    if not is_list or not len(sizes) or not all(isinstance(n, Integral) and not isinstance(n, bool) for n in sizes):
        raise TypeError(f"sample_sizes must be one or more integers in a list, got {sizes!r}")
    if any(b <= a for a, b in pairwise(sizes)):
        raise ValueError(f"sample_sizes must increase, got {list(sizes)}")
    if sizes[0] < 2 * k:
        raise ValueError(f"sample_sizes must be at least twice the {k} experts fitted, got {sizes[0]}")
