"""What a study found: losses by candidate, size and replicate, and the tables, slopes and reports made of them."""

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..data.frames import new_frame
from ..replication.record_store import Key
from .design import StudyDesign, Task
from .laws import compare_laws
from .plotting import Curve, plot_losses
from .replicates import Row
from .report import Page, check_path, write_report
from .slopes import Slope, Statistic, fit_slope, judge, median, trimmed_mean
from .theory import TheoreticalRate, theoretical_rates

__all__ = ["StudyResults"]

Array = NDArray[np.float64]
_QUANTILES = (0.1, 0.9)


@dataclass(frozen=True, eq=False, repr=False)
class StudyResults:
    """The fits of a study that are done.

    Attributes:
        design: of the study.
        rows: one a fit, in no order; without the parameters, which stay in the file.

    Example:
        >>> import tempfile, torch
        >>> from estimators import EM
        >>> from estimators.rates import DensityLoss, Oracle, RateStudy, UniformCovariates
        >>> from mixkit import MixingMeasure
        >>> truth = MixingMeasure(*(torch.tensor(v).double() for v in ([0.0, 0.0], [[4.0], [0.0]], [[2.0], [-2.0]],
        ...     [0.0, 1.0], [0.1, 0.1])))
        >>> study = RateStudy(truth, UniformCovariates(), EM(), [DensityLoss(points=4)], [100, 400], num_replicates=8,
        ...                   seed=0, start=Oracle())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     results = study.run(folder + "/study.sqlite", progress=False)
        >>> slope = results.slope("fit", "hellinger")
        >>> slope.num_sizes, -1 < slope.value < 0
        (2, True)
    """

    design: StudyDesign
    rows: Mapping[Task, Row]

    @classmethod
    def of(cls, design: StudyDesign, records: Iterable[tuple[Key, dict[str, Any]]]) -> "StudyResults":
        """Those of the design's fits that are among the records of a file."""
        wanted = {tuple(task) for task in design.tasks}
        rows = (Row.of_record(key, record) for key, record in records if key in wanted)
        return cls(design, {row.task: replace(row, parameters={}) for row in rows})

    def __repr__(self) -> str:
        """How many fits there are, and how many of them to mistrust."""
        failed = sum(bool(row.error) for row in self.rows.values())
        poor = sum(not self.is_converged(row) for row in self.rows.values()) - failed
        done, total = len(self.rows), len(self.design.tasks)
        return f"StudyResults({done} of {total} fits, {poor} not converged, {failed} failed)"

    def is_converged(self, row: Row) -> bool:
        """Whether the estimator says so and the predicted gain is within the study's tolerance."""
        return row.converged and not row.error and row.predicted_gain <= self.design.gain_tol

    @property
    def loss_names(self) -> list[str]:
        """The names of all losses, in the order in which they were asked for."""
        return list(dict.fromkeys(name for row in self.rows.values() for name in row.losses))

    def rows_of(self, candidate: str, n: int) -> list[Row]:
        """The fits of one candidate at one size, by replicate."""
        tasks = (Task(candidate, int(n), r) for r in range(self.design.num_replicates))
        return [self.rows[task] for task in tasks if task in self.rows]

    def losses(self, candidate: str, name: str) -> tuple[list[int], list[Array]]:
        """Sizes, and the values of one loss at each; sizes at which fewer than two fits have it are left out.

        A value is missing only where a fit failed or the loss is not defined for it: :meth:`table` counts these. Zero
        losses, which have no logarithm, are raised to the smallest positive number.

        Raises:
            ValueError: if the study has no such candidate, or no fit such a loss.
        """
        sizes, samples = self._by_replicate(candidate, name)
        return sizes, [values[~np.isnan(values)] for values in samples]

    def _by_replicate(self, candidate: str, name: str) -> tuple[list[int], list[Array]]:
        """The same with a place for each replicate that has the loss at any size, NaN where it has none."""
        self._check_names(candidate, name)
        found: dict[int, Array] = {}
        for n in self.design.sample_sizes:
            values = np.full(self.design.num_replicates, np.nan)
            for row in self.rows_of(candidate, n):
                values[row.task.replicate] = row.losses.get(name, math.nan)
            values = np.where(np.isfinite(values), np.maximum(values, np.finfo(np.float64).tiny), np.nan)
            if np.count_nonzero(~np.isnan(values)) > 1:
                found[int(n)] = values
        is_there = ~np.isnan(np.array(list(found.values()))).all(0) if found else []
        return list(found), [values[is_there] for values in found.values()]

    def slope(self, candidate: str, name: str, *, statistic: Statistic = median) -> Slope:
        """The slope of one loss; see :func:`~estimators.rates.fit_slope`. Nested samples are paired by replicate.

        Raises:
            ValueError: if fewer than two sizes have the loss, or as for :meth:`losses`.
        """
        sizes, samples = (self._by_replicate if self.design.nested else self.losses)(candidate, name)
        if len(sizes) < 2:
            raise ValueError(
                f"name must be a loss that {candidate!r} has at two sizes or more, twice at each, for a slope; got "
                f"{name!r}, which it has at sizes {sizes}"
            )
        return fit_slope(sizes, samples, statistic=statistic, paired=self.design.nested)

    @property
    def has_slopes(self) -> bool:
        """Whether some candidate has a loss at two sizes or more, twice at each: without it there are no slopes."""
        return any(len(self.losses(c, name)[0]) > 1 for c in self.design.candidates for name in self.loss_names)

    def _check_names(self, candidate: str, name: str) -> None:
        candidates, losses = list(self.design.candidates), self.loss_names
        if candidate not in candidates:
            raise ValueError(f"candidate must be among {candidates}, got {candidate!r}")
        if name not in losses:
            raise ValueError(f"name must be among the losses {losses}, got {name!r}")

    def theoretical_rates(self, candidate: str) -> Mapping[str, TheoreticalRate]:
        """The exponents that theory has for a candidate, by loss; none where its gate is not of the true kind."""
        k, d = self.design.experts_of(candidate), self.design.truth.num_features
        gate = self.design.candidates[candidate].template(d, k).gate
        return theoretical_rates(gate, k, self.design.truth.num_experts, true_gate=self.design.truth_model.gate)

    def sizes_table(self) -> Any:
        """A pandas frame with a row for each candidate, loss and size: counts, median, means, quantiles."""
        records = [
            _size_record(self, candidate, name, int(n))
            for candidate in self.design.candidates
            for name in self.loss_names
            for n in self.design.sample_sizes
        ]
        return new_frame([record for record in records if record is not None])

    def table(self, *, false_alarm_rate: float = 0.01) -> Any:
        """A pandas frame with a row for each candidate and loss.

        Slopes of medians and of trimmed means with their bootstrap standard errors, the range of n, the exponent of
        theory and its source, the verdict (:func:`~estimators.rates.judge`), the law of least AIC, and the shares of
        fits not converged, failed, and without this loss.

        Args:
            false_alarm_rate: of each verdict.

        Raises:
            ValueError: if no candidate has a loss at two sizes or more, so that there are no slopes.
        """
        records = [
            _record(self, candidate, name, false_alarm_rate)
            for candidate in self.design.candidates
            for name in self.loss_names
        ]
        found = [record for record in records if record is not None]
        if not found:
            raise ValueError(
                "results must have a loss at two sizes or more, twice at each, for a table of slopes (sizes_table "
                f"needs no more than one); got {self!r} of sample_sizes {list(self.design.sample_sizes)}"
            )
        return new_frame(found)

    def plot(self, names: list[str] | None = None) -> Any:
        """A matplotlib figure with a panel for each loss; see :func:`~estimators.rates.plotting.plot_losses`.

        Args:
            names: losses to draw; all that two sizes have if None.

        Raises:
            ValueError: if there is nothing to draw, or a name is not that of a loss.
        """
        known = self.loss_names
        for name in names or []:
            if name not in known:
                raise ValueError(f"names must be among {known}, got {name!r}")
        panels = {name: curves for name in names or known if (curves := self._curves(name))}
        if not panels:
            raise ValueError("results must have a loss at two sizes or more to be drawn, got none")
        return plot_losses(panels, list(self.design.candidates), self.design.sample_sizes)

    def _curves(self, name: str) -> dict[str, Curve]:
        """Those of the candidates that have a loss at two sizes or more."""
        found = {}
        for candidate in self.design.candidates:
            sizes, samples = self.losses(candidate, name)
            if len(sizes) > 1:
                rate = self.theoretical_rates(candidate).get(name, TheoreticalRate(None, ""))
                found[candidate] = Curve(sizes, samples, self.slope(candidate, name), rate.exponent)
        return found

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write one self-contained HTML page; where no loss is at two sizes, twice at each, it says so.

        Raises:
            ValueError: if ``path`` is a directory, or in none that exists.
        """
        check_path(path)
        rows, design = list(self.rows.values()), self.design
        failed = [(row.task, row.error) for row in rows if row.error]
        page = Page(
            num_tasks=len(design.tasks),
            num_done=len(rows),
            num_poor=sum(not self.is_converged(row) for row in rows),
            num_below=sum(row.llf < row.truth_llf for row in rows),
            seconds=sum(row.seconds for row in rows),
            gain_tol=design.gain_tol,
            figure=self.plot() if self.has_slopes else None,
            slopes=self.table() if self.has_slopes else None,
            sizes=self.sizes_table(),
            failures=[f"{task.candidate}, n = {task.n}, replicate {task.replicate}: {why}" for task, why in failed],
            settings=design.identity()
            | {"sample sizes": str(list(design.sample_sizes)), "replicates": str(design.num_replicates)},
        )
        write_report(page, path)


def _size_record(results: StudyResults, candidate: str, name: str, n: int) -> dict[str, Any] | None:
    rows = results.rows_of(candidate, n)
    values = np.array([row.losses.get(name, math.nan) for row in rows])
    present = values[np.isfinite(values)]
    if not len(present):
        return None
    low, high = np.quantile(present, _QUANTILES)
    return {
        "candidate": candidate,
        "loss": name,
        "n": n,
        "fits": len(rows),
        "missing": len(rows) - len(present),
        "median": float(median(present)),
        "trimmed mean": float(trimmed_mean(present)),
        "mean": float(present.mean()),
        "q10": float(low),
        "q90": float(high),
        "not converged": sum(not results.is_converged(row) for row in rows),
    }


def _record(results: StudyResults, candidate: str, name: str, false_alarm_rate: float) -> dict[str, Any] | None:
    sizes, samples = results.losses(candidate, name)
    if len(sizes) < 2:
        return None
    slope = results.slope(candidate, name)
    trimmed = results.slope(candidate, name, statistic=trimmed_mean)
    theory = results.theoretical_rates(candidate).get(name, TheoreticalRate(None, ""))
    medians = np.array([float(median(values)) for values in samples])
    laws = compare_laws(np.array(sizes, dtype=float), medians)
    exponent = math.nan if theory.exponent is None else theory.exponent
    verdict = judge(slope, exponent, false_alarm_rate=false_alarm_rate).text if theory.exponent is not None else ""
    return {
        "candidate": candidate,
        "loss": name,
        "n from": slope.smallest,
        "n to": slope.largest,
        "median at largest n": medians[-1],
        "slope": slope.value,
        "std err": slope.std_error,
        "slope of trimmed mean": trimmed.value,
        "std err of trimmed": trimmed.std_error,
        "theory": exponent,
        "verdict": verdict,
        "least AIC": laws[0].law.name if laws else "",
        **_shares(results, candidate, name),
        "source": theory.source,
    }


def _shares(results: StudyResults, candidate: str, name: str) -> dict[str, float]:
    rows = [row for task, row in results.rows.items() if task.candidate == candidate]
    missing = sum(not math.isfinite(row.losses.get(name, math.nan)) for row in rows)
    return {
        "not converged": sum(not results.is_converged(row) for row in rows) / len(rows),
        "failed": sum(bool(row.error) for row in rows) / len(rows),
        "missing": missing / len(rows),
    }
