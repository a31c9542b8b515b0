"""What a selection found: the fits, the criteria, the choice; as a table and as a picture."""

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixkit._validation import check_choice

from ..data.frames import new_frame
from ..plotting.selection import plot_selection
from ..results.fit_result import FitResult
from .cross_validation import HeldOut
from .path import is_at_least

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CV_NAMES", "ExpertSelection"]

Array = NDArray[np.float64]
CV_NAMES = ("cv", "cv-max")


@dataclass(frozen=True, eq=False, repr=False)
class ExpertSelection:
    """Fits with several numbers of experts and what each criterion makes of them; prints as a table.

    Attributes:
        num_experts: the numbers of experts k.
        criterion: the name of the criterion that chose.
        fits: a :class:`~estimators.results.fit_result.FitResult` for each k.
        values: criteria by name, each an array with an entry for each k, smaller is better.
        origins: where each maximum was found: "starts", or "nested" if only from the smaller fit.
        held_out: log-densities of observations left out, with criterion "cv" or "cv-max"; else None.
    """

    num_experts: tuple[int, ...]
    criterion: str
    fits: tuple[FitResult, ...]
    values: dict[str, Array]
    origins: tuple[str, ...]
    held_out: HeldOut | None = None

    @property
    def best_num_experts(self) -> int:
        """The chosen number of experts."""
        return self.choose(self.criterion)

    @property
    def best(self) -> FitResult:
        """The fit with the chosen number of experts."""
        return self.fits[self.num_experts.index(self.best_num_experts)]

    @property
    def is_monotone(self) -> bool:
        """Whether the maximized log-likelihood never falls as k grows."""
        llf = [fit.llf for fit in self.fits]
        return all(is_at_least(later, earlier) for earlier, later in pairwise(llf))

    @property
    def criteria(self) -> list[str]:
        """Names that :meth:`choose` knows."""
        return [*self.values, *(CV_NAMES if self.held_out is not None else ())]

    def choose(self, criterion: str) -> int:
        """The number of experts by one of ``criteria``; the smallest of equals.

        Raises:
            ValueError: for a criterion that was not computed.
        """
        check_choice("criterion", criterion, self.criteria)
        if criterion in CV_NAMES and self.held_out is not None:
            held = self.held_out
            return self.num_experts[held.best if criterion == "cv-max" else held.one_standard_error()]
        return self.num_experts[int(np.argmin(self.values[criterion]))]

    def above_best(self, criterion: str) -> tuple[Array, Array | None]:
        """How far each number of experts lies above the best one by a criterion, and standard errors of that.

        Cross-validated log-densities count ``2 n`` times what they lie below the best, the scale of the others; only
        they have standard errors.

        Raises:
            ValueError: for a criterion that was not computed.
        """
        check_choice("criterion", criterion, self.criteria)
        if criterion not in CV_NAMES or self.held_out is None:
            values = self.values[criterion]
            return values - values.min(), None
        scale = 2.0 * self.fits[0].nobs
        gaps = np.array([self.held_out.deficit(index) for index in range(len(self.num_experts))])
        return scale * gaps[:, 0], scale * gaps[:, 1]

    def columns(self) -> dict[str, list[Any]]:
        """The table by columns: k, log-likelihood, parameters, criteria, whether the fit converged, its origin."""
        columns: dict[str, list[Any]] = {
            "k": list(self.num_experts),
            "llf": [fit.llf for fit in self.fits],
            "df": [fit.effective_df if fit.is_penalized else fit.df_model for fit in self.fits],
            **{name: value.tolist() for name, value in self.values.items()},
        }
        if self.held_out is not None:
            gaps = [self.held_out.deficit(index) for index in range(len(self.num_experts))]
            columns["cv"], columns["std err"] = self.held_out.mean.tolist(), self.held_out.std_error.tolist()
            columns["below best"], columns["its s.e."] = ([gap[part] for gap in gaps] for part in (0, 1))
        columns["converged"] = [fit.converged for fit in self.fits]
        columns["origin"] = list(self.origins)
        return columns

    def remove_data(self) -> None:
        """Let all fits forget the observations, for a small pickle; see :meth:`~estimators.FitResult.remove_data`."""
        for fit in self.fits:
            fit.remove_data()

    def table(self) -> Any:
        """:meth:`columns` as a pandas frame, a row for each k.

        Raises:
            ImportError: without pandas (extra ``rates``).
        """
        return new_frame(self.columns()).set_index("k")

    def plot(self, criteria: list[str] | None = None, *, ax: "Axes | None" = None) -> "Axes":
        """Criteria against k, see :func:`estimators.plotting.plot_selection`."""
        return plot_selection(self, criteria, ax=ax)

    def __repr__(self) -> str:
        """The table as text, the chosen k marked."""
        columns = self.columns()
        rows = [["", *columns]]
        for index, size in enumerate(self.num_experts):
            mark = "*" if size == self.best_num_experts else ""
            rows.append([mark, *(_cell(name, values[index]) for name, values in columns.items())])
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        return "\n".join([f"ExpertSelection({self.best_num_experts} experts, criterion={self.criterion!r})", *lines])


def _cell(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4f}" if name in ("cv", "std err", "below best", "its s.e.") else f"{value:.2f}"
    return str(value)
