"""A study as one HTML page that needs nothing else: figures, tables, settings, versions, time."""

import base64
import html
import io
import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Page", "check_path", "write_report"]

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


class Page(NamedTuple):
    """What a report shows.

    Attributes:
        num_tasks: fits that the design asks for.
        num_done: those that are done.
        num_poor: of these, not converged.
        num_below: ended below the likelihood of the truth.
        seconds: that they took.
        gain_tol: largest predicted gain of a converged fit.
        figure: losses against n, a matplotlib figure; None where no loss is at two sizes, twice at each.
        slopes: the table of slopes, a frame; None likewise.
        sizes: the table by sizes, a frame.
        failures: a line for each failed fit.
        settings: of the study, by name.
    """

    num_tasks: int
    num_done: int
    num_poor: int
    num_below: int
    seconds: float
    gain_tol: float
    figure: Any
    slopes: Any
    sizes: Any
    failures: Sequence[str]
    settings: Mapping[str, str]


def check_path(path: str | os.PathLike[str]) -> None:
    """Raise ``ValueError`` if ``path`` is a directory, or in none that exists."""
    if Path(path).is_dir() or not Path(path).resolve().parent.is_dir():
        raise ValueError(f"path must be a file in a directory that exists, got {path}")


def write_report(page: Page, path: str | os.PathLike[str]) -> None:
    """Write the page as one HTML file.

    Raises:
        ValueError: if ``path`` is a directory, or in none that exists.
    """
    check_path(path)
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Rate study</title>",
        f"<style>{_STYLE}</style></head><body><h1>Convergence-rate study</h1>",
        _overview(page),
        *([f"<h2>Rates</h2><p>{_NO_SLOPES}</p>"] if page.slopes is None else _slopes(page)),
        "<h2>Fits by size</h2>",
        _table(page.sizes),
        _failures(page.failures),
        "<h2>Settings</h2>",
        _settings(page.settings),
        "</body></html>",
    ]
    Path(path).write_text("\n".join(parts), encoding="utf-8")


def _slopes(page: Page) -> list[str]:
    return [
        "<h2>Losses against sample size</h2>",
        "<p>Medians; bands from the 10% to the 90% quantile; solid lines fitted, dashed lines by theory.</p>",
        f"<img alt='losses against n' src='data:image/png;base64,{_encoded(page.figure)}'>",
        "<h2>Rates</h2>",
        _rates_note(),
        _table(page.slopes),
    ]


def _overview(page: Page) -> str:
    share = page.num_poor / max(page.num_done, 1)
    text = (
        f"{page.num_done} of {page.num_tasks} fits done, in {page.seconds:.0f} processor seconds. "
        f"<span class='{'warning' if page.num_poor else ''}'>{page.num_poor} ({share:.1%}) not converged</span> "
        f"(a step predicted to gain more than {page.gain_tol:g}, or so reported); "
        f"{page.num_below} ended below the likelihood of the truth; {len(page.failures)} failed."
    )
    return f"<p>{text}</p>"


def _rates_note() -> str:
    return (
        "<p>Slopes of the log of the median (and of the 10%-trimmed mean) on log n over the sizes shown; standard "
        "errors by the bootstrap over replicates. <em>agrees</em>, <em>slower</em> and <em>faster</em> compare with "
        "the exponent of theory by a two-sided test that a true slope fails once in a hundred times; "
        "<em>undecided</em> where the slope's 99% interval holds zero as well as the exponent. Theory bounds errors "
        "from above and for large n.</p>"
    )


def _encoded(figure: Any) -> str:
    from matplotlib import pyplot as plt  # an extra

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


def _failures(lines: Sequence[str]) -> str:
    return f"<h2>Failed fits</h2><pre>{html.escape(chr(10).join(lines))}</pre>" if lines else ""


def _settings(settings: Mapping[str, str]) -> str:
    machine = {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} processors",
        **{name: version(name) for name in _PACKAGES},
    }
    lines = [f"{name}: {value}" for name, value in ({**settings, **machine}).items()]
    return f"<pre>{html.escape(chr(10).join(lines))}</pre>"
