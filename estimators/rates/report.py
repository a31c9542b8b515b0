"""A study as one HTML page that needs nothing else: figures, tables, settings, versions, time."""

import base64
import html
import io
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .results import StudyResults

__all__ = ["write_report"]

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; border-bottom: 1px solid #ddd; }
table { border-collapse: collapse; font-size: 0.82rem; } .wide { overflow-x: auto; }
th, td { padding: 0.25rem 0.6rem; text-align: right; border-bottom: 1px solid #eee; white-space: nowrap; }
th { border-bottom: 1px solid #999; } td.text, th.text { text-align: left; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 0.8rem; background: #f6f6f6; padding: 0.6rem; }
img { max-width: 100%; } .warning { color: #a33; font-weight: 600; }
"""
_NO_SLOPES = "No slopes: they need a loss at two sample sizes or more, with two replicates or more at each."
_PACKAGES = ("torch", "numpy", "scipy", "scikit-learn", "joblib")


def write_report(results: "StudyResults", path: str | os.PathLike[str]) -> None:
    """Write the page.

    Args:
        results: a study's; where no loss is at two sizes, twice at each, there are no slopes and no picture, and the
            page says so.
        path: the HTML file.

    Raises:
        ValueError: if ``path`` is a directory, or in none that exists.
    """
    if Path(path).is_dir() or not Path(path).resolve().parent.is_dir():
        raise ValueError(f"path must be a file in a directory that exists, got {path}")
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Rate study</title>",
        f"<style>{_STYLE}</style></head><body><h1>Convergence-rate study</h1>",
        _overview(results),
        *(_slopes(results) if results.has_slopes else [f"<h2>Rates</h2><p>{_NO_SLOPES}</p>"]),
        "<h2>Fits by size</h2>",
        _table(results.sizes_table()),
        _failures(results),
        "<h2>Settings</h2>",
        _settings(results),
        "</body></html>",
    ]
    Path(path).write_text("\n".join(parts), encoding="utf-8")


def _slopes(results: "StudyResults") -> list[str]:
    return [
        "<h2>Losses against sample size</h2>",
        "<p>Medians; bands from the 10% to the 90% quantile; solid lines fitted, dashed lines declared by theory.</p>",
        f"<img alt='losses against n' src='data:image/png;base64,{_encoded(results.plot())}'>",
        "<h2>Rates</h2>",
        _rates_note(),
        _table(results.table()),
    ]


def _overview(results: "StudyResults") -> str:
    rows = list(results.rows.values())
    seconds = sum(row.seconds for row in rows)
    below = sum(row.llf < row.truth_llf for row in rows)
    poor = sum(not results.is_converged(row) for row in rows)
    text = (
        f"{len(rows)} of {len(results.study.tasks)} fits done, in {seconds:.0f} processor seconds. "
        f"<span class='{'warning' if poor else ''}'>{poor} ({poor / max(len(rows), 1):.1%}) not converged</span> "
        f"(a step predicted to gain more than {results.study.gain_tol:g}, or so reported); "
        f"{below} ended below the likelihood of the truth; {sum(bool(row.error) for row in rows)} failed."
    )
    return f"<p>{text}</p>"


def _rates_note() -> str:
    return (
        "<p>Slopes of the log of the median (and of the 10%-trimmed mean) on log n over the sizes shown; standard "
        "errors by the bootstrap over replicates. <em>agrees</em>, <em>slower</em> and <em>faster</em> compare with "
        "the declared exponent by a two-sided test that a true slope fails once in a hundred times; "
        "<em>undecided</em> where the slope's 99% interval holds zero as well as the exponent. Theory bounds errors "
        "from above and for large n.</p>"
    )


def _encoded(figure: Any) -> str:
    from matplotlib import pyplot as plt

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _table(frame: Any) -> str:
    text = [name for name in frame.columns if frame[name].map(lambda value: isinstance(value, str)).any()]
    head = "".join(f"<th{_class(name in text)}>{html.escape(name)}</th>" for name in frame.columns)
    body = [
        "<tr>" + "".join(f"<td{_class(name in text)}>{_cell(row[name])}</td>" for name in frame.columns) + "</tr>"
        for _, row in frame.iterrows()
    ]
    return f"<div class='wide'><table><tr>{head}</tr>{''.join(body)}</table></div>"


def _class(is_text: bool) -> str:
    return " class='text'" if is_text else ""


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, int | np.integer):
        return str(value)
    return "" if value != value else f"{value:.4g}"


def _failures(results: "StudyResults") -> str:
    failed = [row for row in results.rows.values() if row.error]
    if not failed:
        return ""
    lines = [f"{row.task.candidate}, n = {row.task.n}, replicate {row.task.replicate}: {row.error}" for row in failed]
    return f"<h2>Failed fits</h2><pre>{html.escape(chr(10).join(lines))}</pre>"


def _settings(results: "StudyResults") -> str:
    study = results.study
    settings = study.identity() | {
        "sample sizes": str(list(study.sample_sizes)),
        "replicates": str(study.replicates),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
    }
    settings |= {name: version(name) for name in _PACKAGES}
    lines = [f"{name}: {value}" for name, value in settings.items()]
    return f"<pre>{html.escape(chr(10).join(lines))}</pre>"
