"""Fit a mixture of four linear experts to the motorcycle data; print the estimates, draw the fit.

Run: python examples/quickstart.py
"""

import argparse
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import torch
from matplotlib import pyplot as plt

from estimators import EM, SingularInformationWarning
from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
from mixkit.datasets import load_mcycle
from mixkit.plotting import plot_fit, plot_gate


def main(quick: bool) -> None:
    """Fit, print, draw."""
    x, y = load_mcycle()
    generator = torch.Generator().manual_seed(0)
    model = MixtureOfExperts(
        softmax_gate(num_features=1, num_experts=4, generator=generator),
        linear_gaussian_experts(num_features=1, num_experts=4, generator=generator),
    )
    with warnings.catch_warnings():  # the regimes change so abruptly that some gates have no finite estimate
        warnings.simplefilter("ignore", SingularInformationWarning)
        result = EM(n_init=10 if quick else 50, random_state=0).fit(model, x, y)
    print(result.summary())

    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 6), sharex=True, height_ratios=(3, 1), layout="constrained")
    plot_fit(result.model, x, y, ax=top).set(xlabel="", ylabel="head acceleration (g)")
    top.set_title("Simulated motorcycle crash: four linear experts behind a softmax gate")
    plot_gate(result.model, x, ax=bottom).set(xlabel="time after impact (ms)")
    bottom.get_legend().remove()  # the colors are named above
    output = Path("examples/output")
    output.mkdir(parents=True, exist_ok=True)
    figure.savefig(output / "quickstart.png", dpi=150)
    print(f"\nPicture: {output / 'quickstart.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer starts")
    main(parser.parse_args().quick)
