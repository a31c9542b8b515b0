"""A table of results as LaTeX, HTML and Markdown: pure functions of its words."""

import html
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Formatted", "Words", "as_html", "as_latex", "as_markdown"]

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": "{[}",  # after a line's end LaTeX would read what is in brackets as a length
    "]": "{]}",
}


class Words(NamedTuple):
    """A table in words: facts in pairs, a heading of q columns, rows of a name and q cells, remarks."""

    title: str
    head: Sequence[tuple[str, str]]
    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]
    notes: Sequence[str]


def as_latex(words: Words) -> str:
    r"""A ``table`` with ``booktabs`` rules: facts two a line, the rows, remarks below; special characters escaped.

    Example:
        >>> print(as_latex(Words("Results", [], ["coef"], [("a_1", ["0.5"])], [])))
        \begin{table}
        \centering
        \caption{Results}
        \begin{tabular}{lr}
        \toprule
         & coef \\
        \midrule
        a\_1 & 0.5 \\
        \bottomrule
        \end{tabular}
        \end{table}
    """
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_latex(words.title)}}}"]
    if words.head:
        facts = [" & ".join(map(_latex, row)) + r" \\" for row in _two_a_line(words.head)]
        lines += [r"\begin{tabular}{lrlr}", r"\toprule", *facts, r"\bottomrule", r"\end{tabular}", "", r"\medskip"]
    lines += [rf"\begin{{tabular}}{{l{'r' * len(words.columns)}}}", r"\toprule"]
    lines.append(" & " + " & ".join(map(_latex, words.columns)) + r" \\")
    lines.append(r"\midrule")
    lines += [" & ".join(map(_latex, [name, *cells])) + r" \\" for name, cells in words.rows]
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [rf"\par {_latex(note)}" for note in words.notes]
    return "\n".join([*lines, r"\end{table}"])


def as_html(words: Words) -> str:
    """Two HTML tables and a list of remarks, characters of markup escaped; what a notebook shows.

    Example:
        >>> as_html(Words("Results", [], ["coef"], [("a", ["0.5"])], [])).count("<td>")
        1
    """
    lines = [f"<h4>{html.escape(words.title)}</h4>"]
    if words.head:
        rows = [
            "".join(_html(cell, "th" if i % 2 == 0 else "td") for i, cell in enumerate(row))
            for row in _two_a_line(words.head)
        ]
        lines += ["<table>", *(f"<tr>{row}</tr>" for row in rows), "</table>"]
    heading = "".join(_html(column, "th") for column in ["", *words.columns])
    lines += ["<table>", f"<thead><tr>{heading}</tr></thead>", "<tbody>"]
    for name, cells in words.rows:
        lines.append(f"<tr>{_html(name, 'th')}{''.join(_html(cell, 'td') for cell in cells)}</tr>")
    lines += ["</tbody>", "</table>"]
    if words.notes:
        lines += ["<ol>", *(f"<li>{html.escape(note)}</li>" for note in words.notes), "</ol>"]
    return "\n".join(lines)


def as_markdown(words: Words) -> str:
    r"""Pipe tables, as GitHub and pandoc read them, and a numbered list of remarks.

    Example:
        >>> print(as_markdown(Words("Results", [], ["P>|z|"], [("a", ["0.5"])], [])))
        **Results**
        <BLANKLINE>
        |  | P>\|z\| |
        |:--|--:|
        | a | 0.5 |
    """
    lines = [f"**{_markdown(words.title)}**", ""]
    if words.head:
        lines += ["|  |  |  |  |", "|:--|--:|:--|--:|", *(_piped(row) for row in _two_a_line(words.head)), ""]
    lines += [_piped(["", *words.columns]), f"|:--|{'--:|' * len(words.columns)}"]
    lines += [_piped([name, *cells]) for name, cells in words.rows]
    if words.notes:
        lines += ["", *(f"{place}. {_markdown(note)}" for place, note in enumerate(words.notes, 1))]
    return "\n".join(lines)


def _two_a_line(head: Sequence[tuple[str, str]]) -> list[list[str]]:
    """The first half of the facts on the left, the second on the right."""
    half = (len(head) + 1) // 2
    right = [*head[half:], ("", "")][:half]
    return [[*left, *other] for left, other in zip(head[:half], right, strict=True)]


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _html(text: str, tag: str) -> str:
    return f"<{tag}>{html.escape(text)}</{tag}>"


def _markdown(text: str) -> str:
    return "".join(f"\\{character}" if character in r"\`*_|<[]" else character for character in text)


def _piped(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_markdown, cells))} |"


class Formatted(ABC):
    """A table that is also LaTeX, HTML and Markdown, and HTML in a notebook."""

    @abstractmethod
    def words(self) -> Words:
        """The table in words."""

    def as_latex(self) -> str:
        """The table in LaTeX, with the rules of ``booktabs``."""
        return as_latex(self.words())

    def as_html(self) -> str:
        """The table in HTML."""
        return as_html(self.words())

    def as_markdown(self) -> str:
        """The table in Markdown."""
        return as_markdown(self.words())

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return self.as_html()
