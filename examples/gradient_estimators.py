"""Bias and spread of every gradient estimator against the exact gradient, and what they cost an optimizer.

1. Four categorical choices of eight values feed a small tanh network. The gradient of the expected output is known by
   enumeration; each estimator's bias and standard deviation are relative to its norm.
2. Polynomial programming (Liu et al. 2023, arXiv 2304.08612): 128 binary choices, loss
   mean |X - 0.45|^p. A biased estimator settles on a wrong answer.

Run: python examples/gradient_estimators.py [--quick]
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib
import matplotlib.ticker

matplotlib.use("Agg")

import torch
from matplotlib import pyplot as plt
from torch import Tensor

from mixkit.relaxations import (
    Enumeration,
    GradientEstimator,
    GumbelRao,
    LeaveOneOut,
    Rebar,
    ReinMax,
    StraightThrough,
    StraightThroughGumbelSoftmax,
    expectation,
)

CHOICES, VALUES = 4, 8
ESTIMATORS: dict[str, tuple[GradientEstimator, int, str]] = {  # the estimator, its samples, its color
    "leave-one-out": (LeaveOneOut(), 4, "#56b4e9"),
    "REBAR (0.5)": (Rebar(0.5), 1, "#009e73"),
    "ReinMax": (ReinMax(), 1, "#d55e00"),
    "straight-through": (StraightThrough(), 1, "#000000"),
    "Gumbel-Rao (0.5)": (GumbelRao(0.5, num_samples=10), 1, "#cc79a7"),
    "straight-through Gumbel (0.5)": (StraightThroughGumbelSoftmax(0.5), 1, "#e69f00"),
    "straight-through Gumbel (1)": (StraightThroughGumbelSoftmax(1.0), 1, "#0072b2"),
}
PATH_TEMPERATURES = (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5)
POWERS = (2.0, 1.5, 3.0)
TARGET, LATENTS, BATCH, WINDOW = 0.45, 128, 64, 200
EXPECTED = {  # what the authors' protocol (Adam, rate 1e-3, batch 64) leads to
    "ReinMax": (0.2038, 0.3054, 0.0916),
    "straight-through": (0.2476, 0.3523, 0.1213),
    "straight-through Gumbel (1)": (0.2459, 0.3514, 0.1189),
    "leave-one-out": (0.2032, 0.3026, 0.0916),
}


def problem(seed: int) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """A random tanh network of one hidden layer, and random logits of scale 1."""
    generator = torch.Generator().manual_seed(seed)
    hidden = 16
    inner = 0.45 * torch.randn(CHOICES * VALUES, hidden, generator=generator)
    bias = 0.5 * torch.randn(hidden, generator=generator)
    outer = torch.randn(hidden, generator=generator) / hidden**0.5
    logits = torch.randn(CHOICES, VALUES, generator=generator)
    return lambda choices: torch.tanh(choices.flatten(-2) @ inner + bias) @ outer, logits


def bias_and_spread(estimator: GradientEstimator, num_samples: int, seed: int, replicates: int) -> tuple[float, float]:
    """Squared bias and variance of the gradient, relative to the exact one; the bias is freed of Monte Carlo noise."""
    function, logits = problem(seed)
    generator = torch.Generator().manual_seed(100 + seed)
    exact = gradient(function, logits, Enumeration(), 1, generator)
    draws = gradient(function, logits.expand(replicates, -1, -1), estimator, num_samples, generator)
    variance = draws.var(0).sum()
    bias = ((draws.mean(0) - exact).square().sum() - variance / replicates).clamp(min=0.0)
    norm = exact.square().sum()
    return float(bias / norm), float(variance / norm)


def gradient(
    function: Callable[[Tensor], Tensor],
    logits: Tensor,
    estimator: GradientEstimator,
    num_samples: int,
    generator: torch.Generator,
) -> Tensor:
    """One gradient estimate for every leading index of the logits: all replicates are one call."""
    leaf = logits.clone().requires_grad_()
    value = expectation(
        function, leaf, estimator=estimator, num_samples=num_samples, choice_dims=1, generator=generator
    )
    return torch.autograd.grad(value.sum(), leaf)[0]


def average(estimator: GradientEstimator, num_samples: int, networks: int, replicates: int) -> tuple[float, float]:
    """Root mean square of bias and spread over random networks."""
    rows = torch.tensor([bias_and_spread(estimator, num_samples, seed, replicates) for seed in range(networks)])
    bias, spread = rows.mean(0).sqrt().tolist()
    return bias, spread


def bias_table(networks: int, replicates: int) -> dict[str, tuple[float, float]]:
    """Print and return bias and spread of every estimator."""
    print(f"Relative bias and spread of one gradient ({networks} networks, {replicates} replicates each)")
    print(f"{'estimator':<32}{'bias':>8}{'spread':>9}{'seconds':>9}")
    table = {}
    for name, (estimator, num_samples, _) in ESTIMATORS.items():
        begun = time.perf_counter()
        bias, spread = table[name] = average(estimator, num_samples, networks, replicates)
        print(f"{name:<32}{bias:>8.3f}{spread:>9.2f}{time.perf_counter() - begun:>9.1f}")
    return table


def polynomial_programming(name: str, steps: int, generator: torch.Generator) -> Tensor:
    """Loss at every step for the three powers at once, ``(steps, 3)``."""
    estimator = ESTIMATORS[name][0]
    logits = torch.empty(len(POWERS), LATENTS, 2).uniform_(-0.01, 0.01, generator=generator).requires_grad_()
    optimizer, powers = torch.optim.Adam([logits], lr=1e-3), torch.tensor(POWERS)
    losses = torch.empty(steps, len(POWERS))

    def loss(choices: Tensor) -> Tensor:  # (batch, powers, latents, 2)
        return (choices[..., 0] - TARGET).abs().pow(powers.unsqueeze(-1)).mean(-1)

    for step in range(steps):
        optimizer.zero_grad()
        value = expectation(loss, logits, estimator=estimator, num_samples=BATCH, choice_dims=1, generator=generator)
        value.sum().backward()
        optimizer.step()
        losses[step] = value.detach()
    return losses


def polynomial_table(steps: int) -> dict[str, Tensor]:
    """Print the final losses beside the expected ones; return the paths."""
    print(f"\nPolynomial programming, mean loss of the last {min(WINDOW, steps)} of {steps} steps")
    print("(in brackets: what the authors' protocol leads to after 8000)")
    print(f"{'estimator':<32}" + "".join(f"{f'p = {power:g}':>18}" for power in POWERS) + f"{'seconds':>9}")
    paths = {}
    for name, expected in EXPECTED.items():
        begun = time.perf_counter()
        paths[name] = polynomial_programming(name, steps, torch.Generator().manual_seed(0))
        final = paths[name][-WINDOW:].mean(0).tolist()
        cells = "".join(f"{f'{ours:.4f} ({theirs:.4f})':>18}" for ours, theirs in zip(final, expected, strict=True))
        print(f"{name:<32}{cells}{time.perf_counter() - begun:>9.1f}")
    best = [min(TARGET**power, (1 - TARGET) ** power) for power in POWERS]
    print(f"{'(the optimum)':<32}" + "".join(f"{value:>18.4f}" for value in best))
    return paths


def draw_bias(axes: plt.Axes, table: dict[str, tuple[float, float]], path: list[tuple[float, float]]) -> None:
    """Bias against spread, with the road the temperature of straight-through Gumbel travels."""
    road, floor = [point for point in path if point[0] > 0.0], 1e-3
    axes.plot(*zip(*road, strict=True), color="#bbbbbb", zorder=0)
    for temperature, point in zip(PATH_TEMPERATURES, path, strict=True):
        offset = {"xytext": (4, 4), "textcoords": "offset points"}
        axes.annotate(f"{temperature:g}", point, color="#999999", fontsize=7, **offset)
    for name, (bias, spread) in table.items():
        axes.scatter(max(bias, floor), spread, s=55, color=ESTIMATORS[name][2], label=name, zorder=2)
    axes.set(xscale="log", yscale="log", xlabel="bias", ylabel="standard deviation")
    axes.set(xlim=(0.6 * floor, 1.0), ylim=(0.4, 6.0))
    ticks = [0.5, 1.0, 2.0, 5.0]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)
    axes.axvspan(0.6 * floor, 1.5e-2, color="#f2f2f2", zorder=-1)
    axes.text(0.7 * floor, 5.6, "no bias, up to\nMonte Carlo error", fontsize=8, color="#777777", va="top")
    axes.set_title("Four choices of eight values: one gradient against the exact one", fontsize=10)
    axes.text(0.95, 0.42, "gray: temperatures of\nstraight-through Gumbel", fontsize=7, color="#999999", ha="right")
    axes.legend(frameon=False, fontsize=8, loc="lower left")


def draw_paths(panels: list[plt.Axes], paths: dict[str, Tensor]) -> None:
    """Distance of the loss from its optimum, by power."""
    for column, (axes, power) in enumerate(zip(panels, POWERS, strict=True)):
        best = min(TARGET**power, (1 - TARGET) ** power)
        for name, losses in paths.items():
            smooth = losses[: len(losses) // 50 * 50, column].reshape(-1, 50).mean(1) - best
            axes.plot(torch.arange(len(smooth)) * 50 + 25, smooth, color=ESTIMATORS[name][2], label=name, linewidth=1.5)
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
        axes.text(0.02, 0.08, f"p = {power:g}", transform=axes.transAxes, fontsize=9)
        axes.tick_params(labelbottom=axes is panels[-1])
    panels[0].set_title("Polynomial programming: loss above the optimum", fontsize=10)
    panels[-1].set_xlabel("step")


def draw(table: dict[str, tuple[float, float]], path: list[tuple[float, float]], paths: dict[str, Tensor]) -> None:
    """The bias-spread map beside the three learning curves."""
    figure = plt.figure(figsize=(11, 5.5), layout="constrained")
    grid = figure.add_gridspec(3, 2, width_ratios=(1.2, 1))
    draw_bias(figure.add_subplot(grid[:, 0]), table, path)
    draw_paths([figure.add_subplot(grid[row, 1]) for row in range(3)], paths)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    output = Path("examples/output/gradient_estimators.png")
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=150)
    print(f"\nPicture: {output}")


def main(quick: bool) -> None:
    """Both tables and the picture."""
    networks, replicates = (1, 1500) if quick else (5, 20_000)
    table = bias_table(networks, replicates)
    roads = [StraightThroughGumbelSoftmax(temperature) for temperature in PATH_TEMPERATURES]
    path = [average(estimator, 1, networks, replicates) for estimator in roads]
    draw(table, path, polynomial_table(150 if quick else 8000))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small samples, few steps")
    main(parser.parse_args().quick)
