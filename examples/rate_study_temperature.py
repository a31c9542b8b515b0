"""What a gate's temperature does to the estimates: a linear gate beside activation gates.

After Nguyen, Akbarian and Ho (2024), arXiv 2401.13875. Both gates divide their scores by a temperature tau that is
learned. A linear gate, (beta_1 x + beta_0) / tau, identifies beta / tau and nothing more: beta_1 and tau alone stay
where the optimizer left them, however large n is, though the density and beta / tau converge as n^-1/2. An
activation gate, (act(beta_1 x) + beta_0) / tau, identifies them apart. Panels "beta_1" and "tau" show the parameters as
written, "beta_1 / tau" what the linear gate identifies. Two experts are fitted with two and with three.

Run: python examples/rate_study_temperature.py --jobs 2. Stop it at any moment and run it again: it goes on.
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
    BlockLoss,
    Candidate,
    DensityLoss,
    NearTruth,
    StudyResults,
    TemperatureLoss,
    UniformCovariates,
)
from mixkit import MixingMeasure, activation_gate, dense_to_sparse_gate
from mixkit.gates import Gate
from mixkit.gates.temperatures import LearnableTemperature

SHOWN = ["hellinger", "beta_1 / tau", "beta_1", "tau"]
ACTIVATIONS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "GELU": torch.nn.functional.gelu}
COLORS = {"linear": "#0072B2", "sigmoid": "#D55E00", "tanh": "#009E73", "GELU": "#CC79A7"}
TAU = 0.2


def linear(k: int) -> Gate:
    """(beta_1 x + beta_0) / tau."""
    temperature = LearnableTemperature(TAU)
    return dense_to_sparse_gate(1, k, temperature=temperature, generator=torch.Generator().manual_seed(0))


def activated(name: str, k: int) -> Gate:
    """(act(beta_1 x) + beta_0) / tau."""
    return activation_gate(
        1,
        k,
        activation=ACTIVATIONS[name],
        temperature=LearnableTemperature(TAU),
        generator=torch.Generator().manual_seed(0),
    )


def design(gate: partial[Gate], quick: bool, replicates: int) -> RateStudy:
    """A truth of two experts, fitted by its own gate from points near the truth.

    Both gate weights are positive and far apart, where an activation bends enough for tau to be told from beta_1.
    """
    values = ([0.1, 0.0], [[2.0], [0.5]], [[2.0], [-1.0]], [1.0, -1.0], [0.05, 0.1])
    truth = MixingMeasure(*(torch.tensor(value, dtype=torch.float64) for value in values))
    estimator = EM(em_iter=0, max_iter=200, subsample=100_000)
    return RateStudy(
        truth,
        UniformCovariates(-3.0, 3.0),
        {
            "k = 2": Candidate(estimator, 2, gate=gate, start=NearTruth(0.3)),
            "k = 3": Candidate(estimator, 3, gate=gate, start=NearTruth(0.3, draws=2)),
        },
        [TemperatureLoss(), BlockLoss(), DensityLoss(points=16)],
        sample_sizes=[200, 400] if quick else [2000, 4000, 8000, 16000, 32000],
        num_replicates=2 if quick else replicates,
        seed=20240113,
        gate=gate(2),
    )


def draw(found: dict[str, StudyResults], path: Path) -> None:
    """A panel for each loss; a color for each gate, solid for two experts and dashed for three."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 8), layout="constrained", sharex=True)
    for ax, name in zip(axes.flat, SHOWN, strict=True):
        for gate, results in found.items():
            for candidate, line in (("k = 2", "o-"), ("k = 3", "s--")):
                sizes, samples = results.losses(candidate, name)
                medians = [np.median(values) for values in samples]
                ax.loglog(sizes, medians, line, color=COLORS[gate], markersize=4, label=f"{gate}, {candidate}")
        ax.set(title=name.replace("hellinger", "Hellinger distance"), ylabel="median error")
        ax.set_xticks(sizes, [f"{n:,}" for n in sizes])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.grid(True, which="both", linewidth=0.4, alpha=0.4)
    for ax in axes[1]:
        ax.set_xlabel("n")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=130)


def main(quick: bool, replicates: int, jobs: int) -> None:
    """Run or resume a study for each gate, print the rates, draw."""
    output = Path("examples/output")
    output.mkdir(parents=True, exist_ok=True)
    name = "rate_study_temperature" + ("_quick" if quick else "")
    gates = {"linear": partial(linear), **{name: partial(activated, name) for name in ACTIVATIONS}}
    gates = dict(list(gates.items())[:2]) if quick else gates
    found = {}
    for label, gate in gates.items():
        path = output / f"{name}_{label}.sqlite"
        found[label] = design(gate, quick, replicates).run(path, n_jobs=jobs)
        table = found[label].table()
        columns = ["candidate", "loss", "slope", "std err", "theory", "verdict", "least AIC", "not converged"]
        text = table[table.loss.isin(SHOWN)][columns].to_string(index=False, float_format=lambda v: f"{v:.3f}")
        print(f"{label} gate: {found[label]}\n{text}")
    draw(found, output / f"{name}.png")
    print(f"Picture: {output / name}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two gates, small sizes, two replicates")
    parser.add_argument("--replicates", type=int, default=40, help="more of them extend a finished study")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    options = parser.parse_args()
    main(options.quick, options.replicates, options.jobs)
