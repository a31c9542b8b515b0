"""Top-K gates fitted with more experts than the truth: how many must be selected for the density to converge?

After Nguyen, Akbarian, Yan and Ho (2024), arXiv 2309.13850: near the truth, a fit must select at least as many
experts as the Voronoi cells of the true selected atoms hold. Two truths: K = 1 of two experts, and K = 2 of three; each
fitted with its own number of experts and with one more, selecting K (below the bound) or K + 1 (at it).

"Near the truth" is not where maximum likelihood stays. So two kinds of fit: free ones, from data alone; and fits in
which the masses exp(beta_0) are held at those of the truth, that of one true atom shared by the two that split it,
which keeps them where the theorem speaks. All but the masses is learned from five points near the truth.

On one covariate a gate that selects a single expert by the slopes of the scores splits the line at 0, whatever its
parameters: with K = 1, fits that select one expert differ in nothing that the data see.

Run: python examples/rate_study_topk.py --jobs 2. Stop it at any moment and run it again: it goes on where it was.
"""

import argparse
from functools import partial
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.ticker import NullFormatter

from estimators import EM, RateStudy
from estimators.rates import (
    Candidate,
    DataDriven,
    DensityLoss,
    NearTruth,
    OverspecifiedLoss,
    StudyResults,
    UniformCovariates,
)
from mixkit import MixingMeasure, topk_gate
from mixkit.gates import Gate

TRUTHS = {
    1: ([0.0, 0.0], [[2.0], [-2.0]], [[3.0], [-2.0]], [0.5, -0.5], [0.1, 0.2]),
    2: ([0.0, 0.0, 0.0], [[0.0], [3.0], [-3.0]], [[1.0], [-2.0], [2.0]], [0.0, 4.0, -4.0], [0.1, 0.1, 0.1]),
}
SPLIT = (0,)  # for K = 2 the atom that every x selects, beside the second for x > 0 and the third for x < 0
LOSSES = {"hellinger": "Hellinger distance", "D2": "Voronoi loss D2"}


def build(num_selected: int, is_held: bool, k: int) -> Gate:
    """Selects by the slope of the score; the masses are learned unless held."""
    gate = topk_gate(1, k, num_selected, generator=torch.Generator().manual_seed(0))
    gate.score.bias.requires_grad_(not is_held)
    return gate


def candidates(num_selected: int, k: int, quick: bool) -> dict[str, Candidate]:
    """Free fits of k and of k + 1 experts; then those that stay near the truth."""
    free, near = EM(n_init=2 if quick else 6), EM(em_iter=0, max_iter=100, subsample=100_000)
    found = {f"k = {k}, selects {num_selected}": Candidate(free, k, partial(build, num_selected, False), DataDriven())}
    for is_held in (False, True):
        for count in (num_selected, num_selected + 1):
            name = f"k = {k + 1}, selects {count}" + (", masses held" if is_held else "")
            gate, start = partial(build, count, is_held), NearTruth(0.1, draws=2 if quick else 5, split=SPLIT)
            found[name] = Candidate(near if is_held else free, k + 1, gate, start if is_held else DataDriven())
    return found


def design(num_selected: int, quick: bool, replicates: int) -> RateStudy:
    """The study of one truth; small sizes and few replicates if quick."""
    truth = MixingMeasure(*(torch.tensor(value, dtype=torch.float64) for value in TRUTHS[num_selected]))
    return RateStudy(
        truth,
        UniformCovariates(-1.0, 1.0),
        candidates(num_selected, truth.num_experts, quick),
        [OverspecifiedLoss(), DensityLoss(points=32)],
        sample_sizes=[100, 200] if quick else [500, 1000, 2000, 4000, 8000],
        num_replicates=2 if quick else replicates,
        seed=20230924,
        batch_size=2 if quick else 8,
        gate=build(num_selected, False, truth.num_experts),
    )


def draw(found: dict[int, StudyResults], path: Path) -> None:
    """A row for each truth: the density, and the Voronoi loss."""
    figure, axes = plt.subplots(len(found), 2, figsize=(10.5, 4 * len(found)), layout="constrained", squeeze=False)
    for row, (num_selected, results) in zip(axes, found.items(), strict=True):
        for ax, (name, title) in zip(row, LOSSES.items(), strict=True):
            for candidate in results.design.candidates:
                sizes, samples = results.losses(candidate, name)
                line = "s--" if "held" in candidate else "o-"
                ax.loglog(sizes, [np.median(values) for values in samples], line, markersize=4, label=candidate)
            ax.set(title=f"{title}, true K = {num_selected}", xlabel="n", ylabel="median")
            ax.set_xticks(sizes, [f"{n:,}" for n in sizes])
            ax.xaxis.set_minor_formatter(NullFormatter())
            ax.grid(True, which="both", linewidth=0.4, alpha=0.4)
        row[0].legend(frameon=False, fontsize="x-small", loc="lower left")
    figure.savefig(path, dpi=150)


def main(quick: bool, replicates: int, jobs: int) -> None:
    """Run or resume both studies, print the rates, draw."""
    output = Path("examples/output")
    output.mkdir(parents=True, exist_ok=True)
    name, found = "rate_study_topk" + ("_quick" if quick else ""), {}
    for num_selected in TRUTHS:
        study = design(num_selected, quick, replicates)
        found[num_selected] = study.run(output / f"{name}_{num_selected}.sqlite", n_jobs=jobs)
        table = found[num_selected].table()
        columns = ["candidate", "loss", "median at largest n", "slope", "std err", "verdict", "not converged"]
        text = table[table.loss.isin(LOSSES)][columns].to_string(index=False, float_format=lambda v: f"{v:.3f}")
        print(f"true K = {num_selected}: {found[num_selected]}\n{text}")
    draw(found, output / f"{name}.png")
    print(f"Picture: {output / name}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two small sizes, two replicates")
    parser.add_argument("--replicates", type=int, default=24, help="more of them extend a finished study")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    options = parser.parse_args()
    main(options.quick, options.replicates, options.jobs)
