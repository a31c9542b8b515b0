"""The design of a rate study, and its run."""

import copy
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property, partial
from itertools import pairwise
from numbers import Integral
from types import MappingProxyType

import torch
from tqdm.auto import tqdm

from mixkit._validation import check_integer, check_positive
from mixkit.gates import Gate
from mixkit.measure import MixingMeasure
from mixkit.mixture import MixtureOfExperts

from ..replication.fingerprint import describe
from ..replication.parallel import as_completed
from ..replication.sqlite_file import ResultsFileError
from ..search.estimator import Estimator
from .batches import blocks_of
from .candidate import Candidate, check_gate
from .covariates import Covariates
from .losses import Loss
from .replicates import Task, run_block
from .results import StudyResults
from .starts import BatchedStart, DataDriven, StartPolicy
from .store import ResultStore
from .theory import is_well_specified

__all__ = ["RateStudy"]


@dataclass(frozen=True, eq=False)
class RateStudy:
    """How fast estimators converge: a truth, sample sizes, replicates, and what is measured of each fit.

    Replicate r of size n has a random stream of its own, ``SeedSequence(seed, spawn_key=(n, r))``, so the numbers do
    not depend on the number of workers, on the backend, or on what was run before: they are a function of the design.
    Candidates share the data.

    Args:
        truth: the measure that data come from; one, of any number k* of atoms.
        covariates: how x is drawn.
        estimator: an estimator, or candidates by name to be compared.
        losses: what is measured of each fit.
        sample_sizes: increasing.
        replicates: fits of each size.
        seed: non-negative.
        start: where fits start, unless a candidate says otherwise. It is part of every report.
        num_experts: experts of the fitted model where ``estimator`` is one estimator; those of the truth if None.
        gate: of the true model, in which the truth's beta are set; softmax if None. Where it is of another kind each
            candidate says which gate it fits (``Candidate(gate=...)``).
        nested: whether the sample of a size contains those of smaller sizes (of the same replicate).
        gain_tol: a fit counts as converged if its estimator says so and one more Newton step is predicted to gain at
            most this in log-likelihood.
        batch_size: replicates fitted in one computation where that is faster: small samples (observations times
            experts at most 2,000), and starts that allow it (data-driven and oracle ones). Such blocks are always
            computed whole; members beyond ``replicates`` are kept for a later extension.

    Raises:
        TypeError: if an argument is of another kind.
        ValueError: if a fitted model has fewer experts than the truth, or selects more than it has; if the true gate
            is no softmax and a candidate does not say its own; if a gate has other experts or covariates than its
            model; if sizes do not increase, or are too small for the model; if samples are to be nested and
            covariates cannot be.

    Example:
        >>> import tempfile, torch
        >>> from estimators import EM
        >>> from estimators.rates import ExactLoss, Oracle, RateStudy, UniformCovariates
        >>> truth = MixingMeasure(*(torch.tensor(v).double() for v in ([0.0, 0.0], [[4.0], [0.0]], [[2.0], [-2.0]],
        ...     [0.0, 1.0], [0.1, 0.1])))
        >>> study = RateStudy(truth, UniformCovariates(), EM(), [ExactLoss()], [100, 1000], replicates=4, seed=0,
        ...                   start=Oracle())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     results = study.run(folder + "/study.sqlite", progress=False)
        >>> results
        StudyResults(8 of 8 fits, 0 not converged, 0 failed)
    """

    truth: MixingMeasure
    covariates: Covariates
    estimator: Estimator | Mapping[str, Candidate]
    losses: Sequence[Loss]
    sample_sizes: Sequence[int]
    replicates: int
    seed: int
    start: StartPolicy = field(default_factory=DataDriven)
    num_experts: int | None = None
    gate: Gate | None = None
    nested: bool = False
    gain_tol: float = 1e-6
    batch_size: int = 8

    def __post_init__(self) -> None:
        self._check_kinds()
        check_integer("replicates", self.replicates, low=1)
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
        return [Task(name, int(n), r) for r in range(self.replicates) for n in self.sample_sizes for name in names]

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

    def run(self, path: str | os.PathLike[str], *, n_jobs: int | None = None, progress: bool = True) -> StudyResults:
        """Run the fits that ``path`` does not hold yet, and keep each as soon as it is done.

        May be stopped at any moment, with ``kill -9`` too, and run again: nothing finished is lost. A study with more
        sizes or replicates takes over the fits of a smaller one. Workers are joblib's: inside
        ``joblib.parallel_config(backend="dask")`` or Ray's, fits run on that cluster; none touches the file.

        Args:
            path: the results file (SQLite), old or new.
            n_jobs: workers, as in joblib; those of the enclosing ``parallel_config``, or 1, if None.
            progress: whether to show a bar with an estimate of the time left (by observations, not fits).

        Raises:
            ResultsFileError: if ``path`` cannot be written, is damaged, or is another kind of file.
            StudyMismatchError: if it holds a study of another design.
            ValueError: if ``n_jobs`` is 0.
        """
        if n_jobs is not None and check_integer("n_jobs", n_jobs) == 0:
            raise ValueError("n_jobs must be a number of workers, or -1 for all processors, got 0")
        with ResultStore(path, self.identity()) as store:
            done = store.done()
            blocks = blocks_of(self, (task for task in self.tasks if task not in done))
            self._work(store, blocks, n_jobs, progress)
            return StudyResults.of(self, store)

    def _work(self, store: ResultStore, blocks: list[tuple[Task, ...]], n_jobs: int | None, progress: bool) -> None:
        total, count = sum(task.n for block in blocks for task in block), sum(map(len, blocks))
        with tqdm(total=total, disable=not progress, unit="obs", unit_scale=True, desc=f"{count} fits") as bar:
            for rows in as_completed(partial(run_block, self), blocks, n_jobs):
                store.append(rows)
                bar.update(sum(row.task.n for row in rows))

    def results(self, path: str | os.PathLike[str]) -> StudyResults:
        """What ``path`` holds of this study so far; nothing is run.

        Raises:
            ResultsFileError: as for :meth:`run`; also if there is no such file.
        """
        if not os.path.exists(path):
            raise ResultsFileError(f"path must be a results file, got {path}, which does not exist")
        with ResultStore(path, self.identity()) as store:
            return StudyResults.of(self, store)


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
