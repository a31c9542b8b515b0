"""Fits of the same observations side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.frames import new_frame
from ..results.fit_result import FitResult
from ..results.maximum import DataRemovedError
from ..results.summary_formats import Formatted, Words
from .likelihood_ratio import LikelihoodRatioTest, check_observations, likelihood_ratio_test
from .nested_fits import obstacle

__all__ = ["Comparison", "compare"]

_COLUMNS = ("k", "llf", "df", "AIC", "BIC", "ICL", "LR", "LR df", "P>LR")
_DECIMALS = (0, 3, 1, 2, 2, 2, 3, 0, 4)


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Formatted):
    """Criteria of several fits, and likelihood-ratio tests of each against the one above it.

    Attributes:
        names: of the fits ``(m,)``.
        fits: the fits.
        tests: of each fit against the one above, ``(m,)``: of the smaller of the two in the larger; None for the first,
            and where such a test is not to be trusted.
        notes: why not, in words.
    """

    names: tuple[str, ...]
    fits: tuple[FitResult, ...]
    tests: tuple[LikelihoodRatioTest | None, ...]
    notes: tuple[str, ...]

    @property
    def values(self) -> np.ndarray:
        """Experts, llf, df, AIC, BIC, ICL, and statistic, df and p value of the test; ``(m, 9)``, NaN for none."""
        return np.array([_figures(fit, test) for fit, test in zip(self.fits, self.tests, strict=True)])

    def to_frame(self) -> Any:
        """The table as a pandas frame, a row for each fit; ``ImportError`` without pandas."""
        return new_frame(self.values, index=list(self.names), columns=list(_COLUMNS))

    def words(self) -> Words:
        """The table in words."""
        cells = [
            ["" if np.isnan(value) else f"{value:.{digits}f}" for value, digits in zip(row, _DECIMALS, strict=True)]
            for row in self.values
        ]
        return Words("Comparison of Fits", [], _COLUMNS, list(zip(self.names, cells, strict=True)), self.notes)

    def __str__(self) -> str:
        """The table as text."""
        words = self.words()
        rows = [["", *words.columns], *([name, *cells] for name, cells in words.rows)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [f"{row[0]:<{widths[0]}}" + _right(row[1:], widths[1:]) for row in rows]
        return "\n".join([*lines, *(f"[{place}] {note}" for place, note in enumerate(words.notes, 1))])

    __repr__ = __str__


def _right(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True)).rstrip()


def _figures(fit: FitResult, test: LikelihoodRatioTest | None) -> list[float]:
    try:
        icl = fit.icl
    except DataRemovedError:
        icl = np.nan
    own = [fit.model.num_experts, fit.llf, fit.effective_df, fit.aic, fit.bic, icl]
    return [*own, *([np.nan] * 3 if test is None else [test.statistic, test.df, test.p_value])]


def _tested(small: FitResult, large: FitResult) -> tuple[LikelihoodRatioTest | None, str | None]:
    """The test, or why there is none."""
    reason = obstacle(small, large)
    if reason is not None:
        return None, reason
    try:
        return likelihood_ratio_test(small, large), None
    except ValueError as error:  # the larger fits worse
        return None, str(error)


def compare(*fits: FitResult, **named: FitResult) -> Comparison:
    """Criteria of fits side by side, with likelihood-ratio tests where they hold.

    Each fit is tested against the one above it, the smaller of the two in the larger, if the one is nested in the other
    by the names of their parameters and the statistic has a chi-square distribution; if not, a note says why. For fits
    that are nested in another way there is :func:`~estimators.inference.likelihood_ratio_test`, and
    :func:`~estimators.inference.bootstrap_lrt` for different numbers of experts.

    Args:
        *fits: two results or more of the same observations, in the order of the table; called 1, 2, ...
        **named: more of them, called as they are given.

    Raises:
        TypeError: if one is not a :class:`~estimators.FitResult`.
        ValueError: for fewer than two, or fits of different observations or weights.

    Example:
        >>> from estimators import fit_formula
        >>> from mixkit.datasets import load_tone
        >>> stretch, tuned = load_tone()
        >>> data = {"stretch": stretch[:, 0].numpy(), "tuned": tuned.numpy()}
        >>> formulas = {"constant": "tuned ~ stretch", "softmax": "tuned ~ stretch | stretch"}
        >>> compare(**{name: fit_formula(formula, data, 2, random_state=0) for name, formula in formulas.items()})
                  k      llf   df      AIC      BIC      ICL     LR  LR df    P>LR
        constant  2  141.198  7.0  -268.40  -247.32  -182.10
        softmax   2  142.848  8.0  -269.70  -245.61  -185.89  3.299      1  0.0693
    """
    table = {**{str(place): fit for place, fit in enumerate(fits, 1)}, **named}
    for name, fit in table.items():
        if not isinstance(fit, FitResult):
            raise TypeError(f"fits must be FitResults, got {type(fit).__name__} for {name}")
    if len(table) < 2:
        raise ValueError(f"fits must be two or more, got {len(table)}")
    names, results = tuple(table), tuple(table.values())
    tests: list[LikelihoodRatioTest | None] = [None]
    notes = []
    for place in range(1, len(results)):
        above, own = results[place - 1], results[place]
        check_observations(above, own)
        test, reason = _tested(*sorted((above, own), key=lambda fit: fit.df_model))
        tests.append(test)
        notes += [] if reason is None else [f"No test of {names[place]} against {names[place - 1]}: {reason}."]
    return Comparison(names, results, tuple(tests), tuple(notes))
