"""Top-K gates fitted with more experts than the truth: does the density converge, and how many must be selected?

After Nguyen, Akbarian, Yan and Ho (2024), arXiv 2309.13850. The truth has two experts, and its gate selects K = 1 of
them by the slope of the score. It is fitted with two experts, and with three, of which 1 or 2 are selected. Where the
two atoms of a cell of three are near one true atom, the theory asks for 2: near the truth no density with a smaller
selection comes close to it. A maximum-likelihood fit may leave the neighbourhood, by an expert that is never
selected: the study shows what fits from data alone do.

Run: python examples/rate_study_topk.py --jobs 2. Stop it at any moment and run it again: it goes on where it was.
"""

import argparse
from functools import partial
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import torch

from estimators import EM, RateStudy
from estimators.rates import BlockLoss, Candidate, DataDriven, DensityLoss, UniformCovariates
from mixkit import MixingMeasure, topk_gate
from mixkit.gates import Gate

SHOWN = ["hellinger", "slope alone", "intercept alone", "variance alone", "slope shared", "intercept shared"]


def gate(num_selected: int, k: int) -> Gate:
    """Selects by the slope of the score."""
    return topk_gate(1, k, num_selected, generator=torch.Generator().manual_seed(0))


def design(quick: bool, replicates: int) -> RateStudy:
    """The study; small sizes and few replicates if quick."""
    values = ([0.0, 0.0], [[2.0], [-2.0]], [[3.0], [-2.0]], [0.5, -0.5], [0.1, 0.2])
    truth = MixingMeasure(*(torch.tensor(value, dtype=torch.float64) for value in values))
    estimator = EM(n_init=6)
    return RateStudy(
        truth,
        UniformCovariates(-1.0, 1.0),
        {
            "k = 2, selects 1": Candidate(estimator, 2, gate=partial(gate, 1)),
            "k = 3, selects 1": Candidate(estimator, 3, gate=partial(gate, 1)),
            "k = 3, selects 2": Candidate(estimator, 3, gate=partial(gate, 2)),
        },
        [BlockLoss(), DensityLoss(points=64)],
        sample_sizes=[100, 200] if quick else [250, 500, 1000, 2000],
        replicates=2 if quick else replicates,
        seed=20230924,
        start=DataDriven(),
        gate=gate(1, 2),
    )


def main(quick: bool, replicates: int, jobs: int) -> None:
    """Run or resume, print the rates, draw, write the report."""
    output = Path("examples/output")
    output.mkdir(parents=True, exist_ok=True)
    name = "rate_study_topk_quick" if quick else "rate_study_topk"
    results = design(quick, replicates).run(output / f"{name}.sqlite", n_jobs=jobs)
    print(results)
    columns = ["candidate", "loss", "median at largest n", "slope", "std err", "declared", "verdict", "not converged"]
    table = results.table()
    print(table[table.loss.isin(SHOWN)][columns].to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    results.plot([loss for loss in SHOWN if loss in set(table.loss)]).savefig(output / f"{name}.png", dpi=150)
    results.report(output / f"{name}.html")
    print(f"Picture: {output / name}.png; report: {output / name}.html")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two small sizes, two replicates")
    parser.add_argument("--replicates", type=int, default=10, help="more of them extend a finished study")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    options = parser.parse_args()
    main(options.quick, options.replicates, options.jobs)
