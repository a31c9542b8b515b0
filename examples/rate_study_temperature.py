"""What a gate's temperature does to the estimates: a linear gate beside activation gates.

After Nguyen, Akbarian and Ho (2024), arXiv 2401.13875. Both gates divide their scores by a temperature tau that is
learned. A linear gate, (beta_1 x + beta_0) / tau, identifies beta / tau and nothing more: beta_1 and tau alone stay
where the optimiser left them, however large n is, though the density and beta / tau converge as n^-1/2. An
activation gate, (act(beta_1 x) + beta_0) / tau, identifies them apart. Panels "beta_1" and "tau" show the parameters as
written, "beta_1 / tau" what the linear gate identifies.

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
from estimators.rates import Candidate, DensityLoss, NearTruth, StudyResults, TemperatureLoss, UniformCovariates
from mixkit import MixingMeasure, activation_gate, dense_to_sparse_gate
from mixkit.gates import Gate
from mixkit.temperature import LearnableTemperature

SHOWN = ["hellinger", "beta_1 / tau", "beta_1", "tau"]
ACTIVATIONS = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "GELU": torch.nn.functional.gelu}


def linear(k: int) -> Gate:
    """(beta_1 x + beta_0) / tau."""
    temperature = LearnableTemperature(0.4)
    return dense_to_sparse_gate(1, k, temperature=temperature, generator=torch.Generator().manual_seed(0))


def activated(name: str, k: int) -> Gate:
    """(act(beta_1 x) + beta_0) / tau."""
    return activation_gate(
        1,
        k,
        activation=ACTIVATIONS[name],
        temperature=LearnableTemperature(0.4),
        generator=torch.Generator().manual_seed(0),
    )


def design(gate: partial[Gate], quick: bool, replicates: int) -> RateStudy:
    """A truth of two experts with tau = 0.4, fitted by its own gate from points near the truth."""
    values = ([0.2, 0.0], [[1.5], [-1.0]], [[2.0], [-1.0]], [1.0, -1.0], [0.05, 0.1])
    truth = MixingMeasure(*(torch.tensor(value, dtype=torch.float64) for value in values))
    return RateStudy(
        truth,
        UniformCovariates(-2.0, 2.0),
        {"fit": Candidate(EM(em_iter=0), 2, gate=gate)},
        [TemperatureLoss(), DensityLoss(points=16)],
        sample_sizes=[200, 400, 800] if quick else [250, 500, 1000, 2000, 4000],
        replicates=2 if quick else replicates,
        seed=20240113,
        start=NearTruth(0.3),
        gate=gate(2),
    )


def draw(found: dict[str, StudyResults], path: Path) -> None:
    """A panel for each loss, a line for each gate."""
    figure, axes = plt.subplots(2, 2, figsize=(9, 7), layout="constrained")
    for ax, name in zip(axes.flat, SHOWN, strict=True):
        for gate, results in found.items():
            sizes, samples = results.losses("fit", name)
            slope = results.slope("fit", name)
            label = f"{gate}: {slope.value:.2f} ± {slope.std_error:.2f}"
            ax.loglog(sizes, [np.median(values) for values in samples], "o-", markersize=4, label=label)
        ax.set(title=name, xlabel="n", ylabel="median error")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.grid(True, linewidth=0.4, alpha=0.5)
        ax.legend(frameon=False, fontsize="small")
    figure.savefig(path, dpi=150)


def main(quick: bool, replicates: int, jobs: int) -> None:
    """Run or resume a study for each gate, print the rates, draw."""
    output = Path("examples/output")
    output.mkdir(parents=True, exist_ok=True)
    name = "rate_study_temperature" + ("_quick" if quick else "")
    gates = {"linear": partial(linear), **{f"act: {act}": partial(activated, act) for act in ACTIVATIONS}}
    gates = dict(list(gates.items())[:2]) if quick else gates
    found = {}
    for label, gate in gates.items():
        path = output / f"{name}_{label.replace(': ', '_')}.sqlite"
        found[label] = design(gate, quick, replicates).run(path, n_jobs=jobs)
        table = found[label].table()
        columns = ["loss", "slope", "std err", "declared", "verdict", "least AIC", "not converged"]
        text = table[table.loss.isin(SHOWN)][columns].to_string(index=False, float_format=lambda v: f"{v:.3f}")
        print(f"{label} gate: {found[label]}\n{text}")
    draw(found, output / f"{name}.png")
    print(f"Picture: {output / name}.png")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two gates, small sizes, two replicates")
    parser.add_argument("--replicates", type=int, default=8, help="more of them extend a finished study")
    parser.add_argument("--jobs", type=int, default=1, help="worker processes")
    options = parser.parse_args()
    main(options.quick, options.replicates, options.jobs)
