"""Three gates on the motorcycle data: softmax, top-K sparse softmax and activation gate, by held-out log-density.

The same four linear experts stand behind each gate. Time and acceleration are standardized: the activation gate has
no shift inside its activation, so where zero lies matters to it, and log-densities are in those units. The top-K gate
ranks experts on the slope part of the score alone; with one covariate that ranking can change only at zero.

Run: python examples/gates_compared.py
"""

import argparse
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")

import torch
from matplotlib import pyplot as plt
from torch import Tensor

from estimators import EM, FitResult, SingularInformationWarning
from mixkit import (
    Gate,
    MixtureOfExperts,
    activation_gate,
    linear_gaussian_experts,
    softmax_gate,
    topk_gate,
)
from mixkit.datasets import load_mcycle
from mixkit.gates import entropy
from mixkit.plotting import plot_fit, plot_gate

_EXPERTS, _SELECTED = 4, 2
_LEAST_VARIANCE = 3e-3  # before the impact nothing moves: without a floor an expert may fit those few rows too well
_GATES: dict[str, Callable[..., Gate]] = {
    "softmax": lambda **options: softmax_gate(1, _EXPERTS, **options),
    "top-2 of 4": lambda **options: topk_gate(1, _EXPERTS, _SELECTED, **options),
    "activation": lambda **options: activation_gate(1, _EXPERTS, **options),
}


class Comparison(NamedTuple):
    """One gate: the fit to all data, and the log-density of every row under a fit to the other folds."""

    result: FitResult
    held_out: Tensor
    seconds: float


def fit(gate: Callable[..., Gate], x: Tensor, y: Tensor, **search: int) -> FitResult:
    """Maximum likelihood from the default starts, as many as told."""
    options = {"generator": torch.Generator().manual_seed(0)}
    model = MixtureOfExperts(gate(**options), linear_gaussian_experts(1, _EXPERTS, **options))
    with warnings.catch_warnings():  # a gate that switches abruptly has no finite estimate
        warnings.simplefilter("ignore", SingularInformationWarning)
        return EM(**search, variance_floor=_LEAST_VARIANCE, max_iter=50, random_state=0).fit(model, x, y)


def cross_validate(gate: Callable[..., Gate], x: Tensor, y: Tensor, folds: int, **search: int) -> Comparison:
    """Fit to all data and without each fold."""
    started = time.perf_counter()
    fold = torch.randperm(len(y), generator=torch.Generator().manual_seed(0)) % folds
    held_out = torch.empty_like(y)
    for index in range(folds):
        test = fold == index
        model = fit(gate, x[~test], y[~test], **search).model
        with torch.no_grad():
            held_out[test] = model.log_prob(x[test], y[test])
    return Comparison(fit(gate, x, y, **search), held_out, time.perf_counter() - started)


def print_table(comparisons: dict[str, Comparison], x: Tensor) -> None:
    """In and out of sample, with the paired difference to the softmax gate."""
    base = comparisons["softmax"].held_out
    print(
        f"{'gate':<12}{'parameters':>11}{'log-lik.':>10}{'held-out':>10}{'gain':>8}{'(s.e.)':>8}{'in use':>8}{'s':>7}"
    )
    for name, (result, held_out, seconds) in comparisons.items():
        gain = held_out - base
        error = float(gain.std()) / len(gain) ** 0.5
        with torch.no_grad():
            in_use = float(entropy(result.model.gate(x)).exp().mean())
        line = f"{name:<12}{result.df_model:>11}{result.llf:>10.2f}{float(held_out.mean()):>10.3f}"
        print(f"{line}{float(gain.mean()):>8.3f}{error:>8.3f}{in_use:>8.2f}{seconds:>7.1f}")
    print("held-out: mean log-density of a row under a fit without its fold; gain: over the softmax gate, row by row;")
    print("in use: experts that share a row, exp of the gate's entropy.")


def draw(comparisons: dict[str, Comparison], x: Tensor, y: Tensor, path: Path) -> None:
    """Each fit above its gate."""
    figure, axes = plt.subplots(
        2, len(comparisons), figsize=(13, 6), sharex=True, sharey="row", height_ratios=(3, 1), layout="constrained"
    )
    for (top, bottom), (name, (result, held_out, _)) in zip(axes.T, comparisons.items(), strict=True):
        plot_fit(result.model, x, y, ax=top).set(xlabel="", ylabel="")
        top.set_title(f"{name} gate: held-out log-density {float(held_out.mean()):.3f}")
        top.get_legend().remove()
        plot_gate(result.model, x, ax=bottom).set(xlabel="time after impact (standardized)", ylabel="")
        bottom.get_legend().remove()
    axes[0, 0].set(ylabel="acceleration (standardized)", ylim=(-3.0, 2.6))
    axes[1, 0].set_ylabel("gate weight")
    axes[0, -1].legend(frameon=False, fontsize="small", loc="lower right")
    figure.savefig(path, dpi=150)


def main(quick: bool) -> None:
    """Compare, print, draw."""
    torch.set_num_threads(1)
    x, y = ((part - part.mean(0)) / part.std(0) for part in load_mcycle())
    folds, search = (2, {"n_init": 1, "n_moves": 0}) if quick else (5, {"n_init": 3})
    comparisons = {name: cross_validate(gate, x, y, folds, **search) for name, gate in _GATES.items()}
    print_table(comparisons, x)
    output = Path("examples/output")
    output.mkdir(parents=True, exist_ok=True)
    draw(comparisons, x, y, output / "gates_compared.png")
    print(f"Picture: {output / 'gates_compared.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer folds and starts, no moves")
    main(parser.parse_args().quick)
