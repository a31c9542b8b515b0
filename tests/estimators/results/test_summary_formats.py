"""A summary in four forms says the same, with the special characters of each escaped."""

import re
from html.parser import HTMLParser

import numpy as np
import pytest

from estimators import EM
from estimators.results.summary import Summary
from mixkit.datasets import load_tone
from tests.estimators.models import softmax_model

NAMES = ["slope[0,a_b & 50%]", "slope[1,C(x)[T.<|>]]"]
VALUES = np.array([[1.5, 0.25, 6.0, 0.0, 1.0, 2.0], [-0.5, np.nan, np.nan, np.nan, np.nan, np.nan]])
TABLE = Summary([("Experts", "2 x A_B"), ("No.", "3"), ("Odd", "yes")], NAMES, VALUES, ["A note_1."])
CELLS = ["1.5000", "0.250", "6.000", "0.000", "1.000", "2.000"]


def test_latex_escapes_and_aligns():
    text = TABLE.as_latex()
    assert r"slope{[}0,a\_b \& 50\%{]} & " + " & ".join(CELLS) + r" \\" in text
    assert r"slope{[}1,C(x){[}T.\textless{}\textbar{}\textgreater{}{]}{]} & -0.5000 &  &  &  &  &  \\" in text
    assert r"Experts & 2 x A\_B & Odd & yes \\" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    body = text.split(r"\begin{tabular}{lrrrrrr}")[1].split(r"\end{tabular}")[0]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert [len(re.findall(r"(?<!\\)&", row)) for row in rows] == [6, 6, 6]


class Tables(HTMLParser):
    def __init__(self):
        super().__init__()
        self.rows, self.open = [], []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


def test_html_is_well_formed_and_says_the_same():
    page = Tables()
    page.feed(TABLE.as_html())
    assert not page.open
    assert [NAMES[0], *CELLS] in page.rows
    assert [NAMES[1], "-0.5000", *[""] * 5] in page.rows
    assert ["Experts", "2 x A_B", "Odd", "yes"] in page.rows
    assert TABLE._repr_html_() == TABLE.as_html()


def test_markdown_has_as_many_cells_in_every_row():
    lines = TABLE.as_markdown().splitlines()
    rows = [line for line in lines if line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)\|", row)) for row in rows] == [5] * 4 + [8] * 4
    assert r"slope\[1,C(x)\[T.\<\|>\]\]" in TABLE.as_markdown()
    assert lines[-1] == r"1. A note\_1."


@pytest.mark.parametrize("form", [str, Summary.as_latex, Summary.as_html, Summary.as_markdown])
def test_every_form_has_the_figures_of_a_fit(form):
    fit = EM(random_state=0, n_init=2, n_moves=0).fit(softmax_model(1, 2), *load_tone())
    text = form(fit.summary())
    for value in fit.params:
        assert f"{value:.4f}" in text
    assert f"{fit.bic:.3f}" in text


def test_a_table_without_facts_and_notes_has_no_empty_parts():
    table = Summary([], ["a"], VALUES[:1], [], title="Some")
    assert "Notes" not in str(table)
    assert str(table).splitlines()[0].strip() == "Some"
    assert table.as_latex().count(r"\begin{tabular}") == table.as_html().count("<table>") == 1
    assert table.as_markdown().splitlines()[2].startswith("|  | coef |")
