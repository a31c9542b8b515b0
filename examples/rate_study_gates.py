"""Which gate lets experts be estimated faster? Softmax, sigmoid and Laplace gates, with as many experts and with more.

Each gate fits data of its own kind, two linear experts on [-2, 2]^2, with two experts and with three. A softmax
gate's derivatives mix with those of the experts, so that atoms that share a cell are estimated at n^-1/8 (gate,
intercept) and n^-1/4 (slope, variance); a Laplace gate's do not, and gate and slope are at n^-1/4 (arXiv 2402.03226).
The sigmoid gate is that of arXiv 2405.13997, normalized as in 2505.10860.

Fits start near the truth, of three experts at three points, and the best end counts: the question here is the
estimator, not how to find it. Two covariates, because in one a Laplace gate has a kink at every observation.

Run: python examples/rate_study_gates.py --jobs 2. Stop it at any moment and run it again: it goes on where it was.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from estimators import EM, RateStudy
from estimators.rates import BlockLoss, Candidate, DensityLoss, NearTruth, StudyResults, UniformCovariates
from mixkit import MixingMeasure, laplace_gate, sigmoid_gate, softmax_gate
from mixkit.gates import Gate

PANELS = {
    "hellinger": "Hellinger distance",
    "gate": "gate weight",
    "slope alone": "slope, atom alone",
    "slope shared": "slope, shared cell",
    "intercept shared": "intercept, shared cell",
    "variance shared": "variance, shared cell",
}
GATES: dict[str, tuple[Callable[..., Gate], float, tuple[float, float]]] = {
    "softmax": (softmax_gate, 1.5, (0.5, 0.0)),
    "sigmoid": (sigmoid_gate, 1.5, (1.0, 1.0)),
    "laplace": (laplace_gate, 0.8, (0.5, 0.0)),
}
COLORS = {"softmax": "#0072B2", "sigmoid": "#D55E00", "laplace": "#009E73"}


def build(kind: str, k: int) -> Gate:
    """A gate of k experts on two covariates."""
    return GATES[kind][0](2, k, generator=torch.Generator().manual_seed(0))


def design(kind: str, quick: bool, replicates: int, exact: bool = False) -> RateStudy:
    """Two experts, four intercepts apart; gate weights or centers of opposite directions. No fits of three if exact."""
    _, length, bias = GATES[kind]
    weight = [[length, 0.5 * length], [-length, 0.0]]
    values = (bias, weight, [[2.0, 0.0], [-1.0, 1.0]], [2.0, -2.0], [0.25, 0.5])
    estimator = EM(em_iter=0, max_iter=100, subsample=100_000)
    candidates = {"k = 2": Candidate(estimator, 2, gate=partial(build, kind), start=NearTruth(0.1))}
    if not exact:
        start = NearTruth(0.3, draws=1 if quick else 3)
        candidates["k = 3"] = Candidate(estimator, 3, gate=partial(build, kind), start=start)
    return RateStudy(
        MixingMeasure(*(torch.tensor(value, dtype=torch.float64) for value in values)),
        UniformCovariates(-2.0, 2.0),
        candidates,
        [BlockLoss(), DensityLoss(points=16)],
        sample_sizes=[200, 400] if quick else [1000, 2000, 4000, 8000, 16000],
        num_replicates=2 if quick else replicates,
        seed=20240514,
        gate=build(kind, 2),
    )


def draw(found: dict[str, StudyResults], path: Path) -> None:
    """A panel for each loss; a color for each gate, solid for two experts and dashed for three."""
    figure, axes = plt.subplots(2, 3, figsize=(11.5, 7), layout="constrained", sharex=True)
    for ax, (name, title) in zip(axes.flat, PANELS.items(), strict=True):
        for kind, results in found.items():
            _draw_lines(ax, results, name, kind)
        ax.set(title=title, xscale="log", yscale="log")
        sizes = next(iter(found.values())).design.sample_sizes
        ax.set_xticks(sizes, [f"{n:,}" for n in sizes])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.grid(True, which="both", linewidth=0.4, alpha=0.4)
        ax.set_visible(bool(ax.lines))  # two experts share no cell
    for ax in axes[1]:
        ax.set_xlabel("n")
    for ax in axes[:, 0]:
        ax.set_ylabel("median error")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False)
    figure.savefig(path, dpi=150)


def _draw_lines(ax: Axes, results: StudyResults, name: str, kind: str) -> None:
    for candidate, line in zip(results.design.candidates, ("o-", "s--"), strict=False):
        sizes, samples = results.losses(candidate, name)
        if len(sizes) > 1:
            medians = [np.median(values) for values in samples]
            ax.plot(sizes, medians, line, color=COLORS[kind], markersize=4, label=f"{kind}, {candidate}")


def main(quick: bool, replicates: int, jobs: int, exact: bool) -> None:
    """Run or resume a study for each gate, print the rates, draw."""
    output = Path("examples/output")
    output.mkdir(parents=True, exist_ok=True)
    name = "rate_study_gates" + ("_exact" if exact else "") + ("_quick" if quick else "")
    found = {}
    for kind in ["softmax", "laplace"] if quick else list(GATES):
        found[kind] = design(kind, quick, replicates, exact).run(output / f"{name}_{kind}.sqlite", n_jobs=jobs)
        columns = ["candidate", "loss", "slope", "std err", "theory", "verdict", "not converged", "missing"]
        table = found[kind].table()
        text = table[table.loss != "kl"][columns].to_string(index=False, float_format=lambda value: f"{value:.3f}")
        print(f"{kind} gate: {found[kind]}\n{text}")
    draw(found, output / f"{name}.png")
    print(f"Picture: {output / name}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two gates, two small sizes, two replicates")
    parser.add_argument("--replicates", type=int, default=40, help="more of them extend a finished study")
    parser.add_argument("--exact", action="store_true", help="fits of two experts alone, which are quick")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    options = parser.parse_args()
    main(options.quick, options.replicates, options.jobs, options.exact)
