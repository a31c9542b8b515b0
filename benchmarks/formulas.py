"""Models as formulas: seconds of ``fit_formula`` beside R's, and what common terms cost beside a plain model.

R's seconds are processor time of flexmix 2.3-18 on R 4.2.2, 5 to 10 starts, tolerance 1e-10, as recorded when the
values of ``tests/estimators/formula`` were made; a range where only that was kept. Ours are processor seconds here, on
one thread with the default ten starts and the moves after them, encoding included, the least of three runs.

The second table fits one model twice: with every coefficient of its own, and with one coefficient in common, which is a
pattern. The ratio is of the least seconds of three runs.

Run: python benchmarks/formulas.py
"""

import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from estimators import FitResult, fit_formula

DATA = Path(__file__).parents[1] / "tests" / "estimators" / "reference" / "flexmix"
POISSON = {"family": "poisson"}
# name of the data, formula, number of experts, settings, seconds of flexmix
ROWS: list[tuple[str, str, int, dict[str, Any], str]] = [
    ("NPreg", "yn ~ x + I(x**2)", 2, {}, ".1 to .8"),
    ("NPreg", "yn ~ x + I(x**2)", 2, {"groups": "id2"}, ".1 to .8"),
    ("NPreg", "yp ~ x", 2, POISSON, ".1 to .8"),
    ("NPreg", "yp ~ x", 2, {**POISSON, "groups": "id2"}, ".1 to .8"),
    ("patent", "Patents ~ lgRD", 3, POISSON, ".1 to .8"),
    ("seizure", "Seizures ~ Treatment * log(Day)", 2, {**POISSON, "offset": "log(Hours)"}, ".1 to .8"),
    (
        "betablocker",
        "Deaths ~ 1",
        3,
        {"family": "binomial", "trials": "Total", "common": "Treatment", "groups": "Center"},
        ".1 to .8",
    ),
    ("dmft", "End ~ 1", 2, {**POISSON, "common": "log(Begin + 0.5) + Gender + Ethnic + Treatment"}, "5.9"),
    ("fabricfault", "Faults ~ 1", 2, {**POISSON, "common": "log(Length)"}, ".1 to .8"),
    ("tribolium", "Remaining ~ 1 | Species", 2, {"family": "binomial", "trials": "Total"}, ".1 to .8"),
    ("salmonellaTA98", "y ~ 1", 2, {**POISSON, "common": "x + log(x + 10)"}, ".1 to .8"),
    ("bioChemists", "art ~ fem + mar + kid5 + phd + ment", 2, POISSON, ".1 to .8"),
    ("bioChemists", "art ~ fem + mar + kid5 + phd + ment | ment + phd", 2, POISSON, "4 to 20"),
    ("NregFix", "y ~ 1", 3, {"common": {"x1 + x2": (0, 1), "w": (0, 1, 2)}}, ".1 to .8"),
    ("Insurance", "Claims ~ C(District) + C(Group) + C(Age)", 2, {**POISSON, "offset": "log(Holders)"}, ".1 to .8"),
    ("NOdata", "Equivalence ~ NO", 2, {}, ".1 to .8"),
    ("CO2data", "CO2 ~ GNP | GNP", 2, {}, ".1 to .8"),
]
PLAIN = ("bioChemists", "art ~ fem + mar + kid5 + phd + ment", "art ~ fem + mar + phd + ment", "kid5")


def seconds(function: Callable[[], FitResult], repeats: int = 3) -> tuple[float, FitResult]:
    """The least processor seconds of some runs, and the last result."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        result = function()
        found.append(time.process_time() - start)
    return min(found), result


def main() -> None:
    """Both tables."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"{'data':<16}{'log-likelihood':>16}{'seconds':>9}{'flexmix':>10}  model")
    for name, formula, k, settings, theirs in ROWS:
        data = pd.read_csv(DATA / f"{name}.csv")
        took, fit = seconds(partial(fit_formula, formula, data, k, random_state=0, **settings))
        print(f"{name:<16}{fit.llf:>16.4f}{took:>9.2f}{theirs:>10}  {fit.formula}, k = {k}", flush=True)

    name, whole, part, common = PLAIN
    data = pd.read_csv(DATA / f"{name}.csv")
    plain, _ = seconds(partial(fit_formula, whole, data, 2, random_state=0, **POISSON))
    pattern, _ = seconds(partial(fit_formula, part, data, 2, common=common, random_state=0, **POISSON))
    print(f"\n{common} in common: {pattern:.2f} s, of each expert: {plain:.2f} s, ratio {pattern / plain:.2f}")


if __name__ == "__main__":
    main()
