"""How fast do the estimates of a softmax-gated mixture converge, with as many experts as the truth and with more?

The simulation of Nguyen, Nguyen and Ho (2023), arXiv 2305.03288: two crossing lines, with covariates drawn at random
or, as published, on a grid (--grid), fitted with two, three and (on the grid) four experts to the maximum of the
likelihood; and beside them with more than two the way published simulations do it, from a point near the truth by EM
until its relative gain falls below 1e-6.

Run: python examples/rate_study.py --jobs 2. Stop it at any moment and run it again: it goes on where it was.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import torch

from estimators import EM, RateStudy
from estimators.rates import (
    BlockLoss,
    Candidate,
    DataDriven,
    DensityLoss,
    GridCovariates,
    NearTruth,
    Oracle,
    OverspecifiedLoss,
    UniformCovariates,
)
from mixkit import MixingMeasure

SHOWN = ["D2", "hellinger", "gate", "slope shared", "intercept shared", "intercept farthest"]


def truth() -> MixingMeasure:
    """Gates (-8 + 25 x, 0), means 15 - 20 x and -5 + 20 x, standard deviations 0.3 and 0.4."""
    values = ([-8.0, 0.0], [[25.0], [0.0]], [[-20.0], [20.0]], [15.0, -5.0], [0.09, 0.16])
    return MixingMeasure(*(torch.tensor(value, dtype=torch.float64) for value in values))


def candidates(over: list[int]) -> dict[str, Candidate]:
    """Two experts from data alone; numbers above it to maxima, and stopped early."""
    maximum = EM(n_init=4, subsample=5000)
    stopping_early = EM(finish=False, em_iter=10_000, em_tol=1e-6, subsample=5000)
    found = {"k = 2": Candidate(maximum, 2, start=DataDriven())}
    for k in over:
        found[f"k = {k}"] = Candidate(maximum, k, start=Oracle())
    for k in over:
        found[f"k = {k}, stopped early near the truth"] = Candidate(stopping_early, k, start=NearTruth(0.1))
    return found


def design(quick: bool, replicates: int, grid: bool) -> RateStudy:
    """The study; small sizes and few replicates if quick."""
    return RateStudy(
        truth(),
        GridCovariates() if grid else UniformCovariates(),
        candidates([3, 4] if grid else [3]),
        [OverspecifiedLoss(), BlockLoss(), DensityLoss(points=32)],
        sample_sizes=[100, 200, 400] if quick else [250, 500, 1000, 2000, 4000, 8000, 16000],
        num_replicates=2 if quick else replicates,
        seed=20230505,
        batch_size=2 if quick else 8,
    )


def main(quick: bool, replicates: int, jobs: int, grid: bool) -> None:
    """Run or resume, print the rates, draw, write the report."""
    output = Path("examples/output")
    output.mkdir(parents=True, exist_ok=True)
    name = "rate_study" + ("_grid" if grid else "") + ("_quick" if quick else "")
    results = design(quick, replicates, grid).run(output / f"{name}.sqlite", n_jobs=jobs)
    print(results)
    columns = ["candidate", "loss", "slope", "std err", "theory", "verdict", "least AIC", "not converged"]
    table = results.table()
    print(table[table.loss.isin(SHOWN)][columns].to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    results.plot(SHOWN).savefig(output / f"{name}.png", dpi=150)
    results.report(output / f"{name}.html")
    print(f"Picture: {output / name}.png; report: {output / name}.html")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, two replicates")
    parser.add_argument("--replicates", type=int, default=20, help="more of them extend a finished study")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    parser.add_argument("--grid", action="store_true", help="covariates on a grid, and four experts too")
    options = parser.parse_args()
    main(options.quick, options.replicates, options.jobs, options.grid)
