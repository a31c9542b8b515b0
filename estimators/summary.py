"""A fit as a table."""

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import norm

if TYPE_CHECKING:
    from .result import FitResult

__all__ = ["Summary", "build_summary"]

_COLUMNS = ("estimate", "std err", "z", "P>|z|", "[0.025", "0.975]")
_RULE = 88


@dataclass(frozen=True, repr=False)
class Summary:
    """Estimates in rows, statistics in columns; ``print`` shows a table, :meth:`to_frame` gives a pandas frame.

    Attributes:
        head: facts on the fit, pairs of a label and a value.
        names: parameter names ``(P,)``.
        values: ``(P, 6)``: estimate, standard error, z, p value and the ends of a 95% interval. Intervals of positive
            parameters (``std``, ``scale``, ``df``) are computed on the log scale, and have no z or p value.
        notes: remarks below the table.
    """

    head: list[tuple[str, str]]
    names: list[str]
    values: np.ndarray
    notes: list[str]

    def to_frame(self) -> Any:
        """The table as a pandas frame."""
        import pandas as pd

        return pd.DataFrame(self.values, index=self.names, columns=list(_COLUMNS))

    def __str__(self) -> str:
        """The table as text."""
        half = (len(self.head) + 1) // 2
        left, right = self.head[:half], [*self.head[half:], ("", "")]
        lines = ["Mixture of experts".center(_RULE), "=" * _RULE]
        for (label, value), (label_2, value_2) in zip(left, right, strict=False):
            lines.append(f"{label:<18}{value:>24}    {label_2:<18}{value_2:>24}")
        width = max(24, *(len(name) for name in self.names))
        lines += ["-" * _RULE, " " * width + "".join(f"{column:>10}" for column in _COLUMNS), "-" * _RULE]
        for name, row in zip(self.names, self.values, strict=True):
            lines.append(f"{name:<{width}}" + "".join(f"{_number(value):>10}" for value in row))
        notes = [textwrap.fill(note, _RULE) for note in self.notes]
        return "\n".join([*lines, "=" * _RULE, *notes])

    __repr__ = __str__


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.4g}"


def _is_positive(name: str) -> bool:
    return name.split("[")[0] in ("std", "scale", "df")


def _rows(names: list[str], estimates: np.ndarray, errors: np.ndarray) -> np.ndarray:
    quantile = norm.ppf(0.975)
    positive = np.array([_is_positive(name) for name in names])
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        z = np.where(positive, np.nan, estimates / errors)
        p_value = 2.0 * norm.sf(np.abs(z))
        factor = np.exp(quantile * errors / estimates)
        low = np.where(positive, estimates / factor, estimates - quantile * errors)
        high = np.where(positive, estimates * factor, estimates + quantile * errors)
    return np.column_stack([estimates, errors, z, p_value, low, high])


def build_summary(result: "FitResult") -> Summary:
    """The table of a result."""
    head = [
        ("Experts", f"{type(result.model.experts).__name__} x {result.model.num_experts}"),
        ("Observations", str(result.nobs)),
        ("Free parameters", str(result.df_model)),
        ("Converged", "yes" if result.converged else "no"),
        ("Gradient per obs.", f"{result.grad_norm:.1e}"),
        ("Log-likelihood", f"{result.llf:.4f}"),
        ("AIC", f"{result.aic:.4f}"),
        ("BIC", f"{result.bic:.4f}"),
        ("Starts at this maximum", _share(result)),
        ("Time (s)", f"{result.seconds:.2f}"),
    ]
    reference = result.model.num_experts - 1
    notes = [f"Expert {reference} is the gate's reference. Standard errors: observed information."]
    rows = _rows(result.param_names, result.params, result.bse)
    return Summary(head, result.param_names, rows, [*notes, *(f"Note: {remark}." for remark in result.warnings)])


def _share(result: "FitResult") -> str:
    near = np.abs(result.start_llf - result.start_llf.max()) < 1e-6 * (1.0 + abs(result.llf))
    return f"{int(near.sum())} of {len(near)}"
