"""The pictures of a fit: what it looks like, whether it is right, and how it was found.

Top row: exhaust of an ethanol engine against two covariates, two experts. Middle row: patents against research
spending, three Poisson experts, checked by quantile residuals. Bottom row: responsibilities, the ascent, the starts.

Run: python examples/pictures.py
"""

import argparse
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from estimators import EM, FitResult
from estimators.model_selection import select_experts
from estimators.plotting import plot_history, plot_starts
from mixkit.datasets import load_ethanol, load_patents
from mixkit.plotting import (
    plot_calibration,
    plot_fit,
    plot_gate,
    plot_gate_map,
    plot_qq,
    plot_residuals,
    plot_responsibilities,
)

ETHANOL = ["compression ratio", "equivalence ratio"]


def engine(axes: list[Axes], n_init: int) -> FitResult:
    """Two experts on the ethanol data: the map of experts and slices through it."""
    x, y = load_ethanol()
    fit = select_experts(x, y, num_experts=[2], estimator=EM(n_init=n_init), random_state=0).best
    plot_gate_map(fit.model, x, y, names=ETHANOL, ax=axes[0])
    plot_gate(fit.model, x, feature="equivalence ratio", names=ETHANOL, ax=axes[1])
    axes[1].set_title("gate, at the median compression")
    plot_fit(fit.model, x, y, feature="equivalence ratio", names=ETHANOL, response="nitrogen oxides", ax=axes[2])
    axes[2].set_title("slice, at the median compression")
    return fit


def patents(axes: list[Axes], n_init: int) -> FitResult:
    """Three Poisson experts on the patents: three checks of the fitted distribution."""
    x, y = load_patents()
    fit = select_experts(x, y, num_experts=[3], experts="poisson", estimator=EM(n_init=n_init), random_state=0).best
    plot_calibration(fit.model, x, y, bins=10, ax=axes[0])
    plot_qq(fit.model, x, y, ax=axes[1])
    plot_residuals(fit.model, x, y, ax=axes[2])
    return fit


def main(quick: bool) -> None:
    """Fit and draw."""
    torch.set_num_threads(1)
    n_init = 10 if quick else 30
    figure, axes = plt.subplots(3, 3, figsize=(14, 12), layout="constrained")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second = engine(list(axes[0]), n_init), patents(list(axes[1]), n_init)
    plot_responsibilities(second.model, *load_patents(), ax=axes[2, 0])
    plot_history(second, ax=axes[2, 1])
    plot_starts(second, ax=axes[2, 2])
    print(f"ethanol: {first}\npatents: {second}")
    output = Path("examples/output")
    output.mkdir(parents=True, exist_ok=True)
    figure.savefig(output / "pictures.png", dpi=150)
    print(f"Picture: {output / 'pictures.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer starts")
    main(parser.parse_args().quick)
