"""A rate study: a design, and its run."""

import os
from dataclasses import dataclass
from functools import partial

from tqdm.auto import tqdm

from mixkit._validation import check_integer

from ..replication.parallel import as_completed
from ..replication.record_store import RecordStore, ResultsFileError
from .batches import blocks_of
from .design import StudyDesign, Task
from .replicates import run_block
from .results import StudyResults

__all__ = ["RateStudy"]


@dataclass(frozen=True, eq=False)
class RateStudy(StudyDesign):
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
        num_replicates: fits of each size.
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
            computed whole; members beyond ``num_replicates`` are kept for a later extension.

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
        >>> from mixkit import MixingMeasure
        >>> truth = MixingMeasure(*(torch.tensor(v).double() for v in ([0.0, 0.0], [[4.0], [0.0]], [[2.0], [-2.0]],
        ...     [0.0, 1.0], [0.1, 0.1])))
        >>> study = RateStudy(truth, UniformCovariates(), EM(), [ExactLoss()], [100, 1000], num_replicates=4, seed=0,
        ...                   start=Oracle())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     results = study.run(folder + "/study.sqlite", progress=False)
        >>> results
        StudyResults(8 of 8 fits, 0 not converged, 0 failed)
    """

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
        with self._store(path) as store:
            done = store.keys()
            blocks = blocks_of(self, (task for task in self.tasks if tuple(task) not in done))
            self._work(store, blocks, n_jobs, progress)
            return StudyResults.of(self, store.items())

    def _work(self, store: RecordStore, blocks: list[tuple[Task, ...]], n_jobs: int | None, progress: bool) -> None:
        total, count = sum(task.n for block in blocks for task in block), sum(map(len, blocks))
        with tqdm(total=total, disable=not progress, unit="obs", unit_scale=True, desc=f"{count} fits") as bar:
            for rows in as_completed(partial(run_block, self), blocks, n_jobs):
                store.append(row.to_record() for row in rows)
                bar.update(sum(row.task.n for row in rows))

    def _store(self, path: str | os.PathLike[str]) -> RecordStore:
        return RecordStore(path, self.identity(), content="rate study")

    def results(self, path: str | os.PathLike[str]) -> StudyResults:
        """What ``path`` holds of this study so far; nothing is run.

        Raises:
            ResultsFileError: as for :meth:`run`; also if there is no such file.
        """
        if not os.path.exists(path):
            raise ResultsFileError(f"path must be a results file, got {path}, which does not exist")
        with self._store(path) as store:
            return StudyResults.of(self, store.items())
