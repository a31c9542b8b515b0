"""Train a top-2 gate over six experts on the motorcycle data, with the hard top-2 rule and with sampled subsets.

A hard top-K gate only ever trains the experts it already prefers: some never see an observation. A gate that draws its
subset while it learns, and keeps the best K in use, gives every expert its chance. Five-fold cross-validation from
several random starts, all fitted as one batch of models.

Run: python examples/sampled_topk_gate.py [--quick]
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import matplotlib

matplotlib.use("Agg")

import torch
from matplotlib import pyplot as plt
from torch import Tensor

from mixkit import ExpertMixture, Gate, linear_gaussian_experts
from mixkit.datasets import load_mcycle
from mixkit.gates.scores import LinearScore
from mixkit.gates.selections import Selection, TopKByScore
from mixkit.relaxations import RelaxedSubset, SampledTopK, Simple, SoftTopK

NUM_EXPERTS, NUM_SELECTED, FOLDS = 6, 2, 5
SELECTIONS = {
    "hard top-2": lambda: TopKByScore(NUM_SELECTED),
    "sampled: SIMPLE": lambda: SampledTopK(NUM_SELECTED, Simple()),
    "sampled: Gumbel top-2": lambda: SampledTopK(NUM_SELECTED, RelaxedSubset(0.5, hard=True)),
    "soft top-2": lambda: SampledTopK(NUM_SELECTED, SoftTopK(0.5)),
}
COLORS = {
    "hard top-2": "#d55e00",
    "sampled: SIMPLE": "#0072b2",
    "sampled: Gumbel top-2": "#009e73",
    "soft top-2": "#999999",
}
EXPERT_COLORS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9"]


class Fit(NamedTuple):
    """What training leaves behind: one row per start, one column per fold."""

    gate: Gate
    experts: torch.nn.Module
    held_out: Tensor  # (starts, folds) mean log-likelihood of the observations left out
    shares: Tensor  # (starts, folds, k) weight of each expert, averaged over the data


def standardized_mcycle() -> tuple[Tensor, Tensor]:
    """Times ``(133, 1)`` and accelerations ``(133,)`` with mean 0 and standard deviation 1, in float32."""
    x, y = (value.float() for value in load_mcycle())
    return (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()


def scattered(selection: Selection, starts: int, generator: torch.Generator) -> tuple[Gate, torch.nn.Module]:
    """A gate and experts with spread-out random parameters, one model per start and fold."""
    batch = (starts, FOLDS)
    gate = Gate(LinearScore(1, NUM_EXPERTS, batch_shape=batch, generator=generator), selection=selection)
    experts = linear_gaussian_experts(1, NUM_EXPERTS, batch_shape=batch, generator=generator)
    with torch.no_grad():
        for parameter in (gate.score.weight, gate.score.bias, *experts.predictor.parameters()):
            start = torch.randn((starts, 1, *parameter.shape[2:]), generator=generator)
            parameter.copy_(start.expand(parameter.shape))  # the folds of a start begin alike
    return gate, experts


def log_likelihood(gate: Gate, experts: torch.nn.Module, x: Tensor, y: Tensor, generator: torch.Generator) -> Tensor:
    """Log-density of every observation under every model, ``(starts, folds, n)``."""
    return ExpertMixture(gate(x, generator), experts(x), validate_args=False).log_prob(y)


def fit(selection: Selection, starts: int, steps: int) -> Fit:
    """Maximize the likelihood of the training folds by Adam; measure the fold left out with the deterministic gate."""
    generator = torch.Generator().manual_seed(0)
    x, y = standardized_mcycle()
    fold = torch.randperm(len(y), generator=generator) % FOLDS
    train = (fold != torch.arange(FOLDS).unsqueeze(-1)).float()
    gate, experts = scattered(selection, starts, generator)
    optimizer = torch.optim.Adam([*gate.parameters(), *experts.parameters()], lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        (-(log_likelihood(gate, experts, x, y, generator) * train).sum() / train.sum(-1).mean()).backward()
        optimizer.step()
        with torch.no_grad():
            experts.log_std.clamp_(min=-3.0)  # keep an expert off single observations
    gate.eval()
    with torch.no_grad():
        held_out = (log_likelihood(gate, experts, x, y, generator) * (1 - train)).sum(-1) / (1 - train).sum(-1)
        return Fit(gate, experts, held_out, gate(x).exp().mean(-2))


def draw_fit(axes: plt.Axes, name: str, result: Fit) -> None:
    """The model of median held-out likelihood: data colored by leading expert, lines as strong as their weight."""
    x, y = standardized_mcycle()
    grid = torch.linspace(x.min(), x.max(), 400).unsqueeze(-1)
    order = result.held_out.flatten().argsort()
    start, fold = divmod(int(order[len(order) // 2]), FOLDS)
    with torch.no_grad():
        lines, weights = result.experts(grid).mean[start, fold], result.gate(grid)[start, fold].exp()
        leading = result.gate(x)[start, fold].argmax(-1)
    for expert, color in enumerate(EXPERT_COLORS):
        rgba = [(*matplotlib.colors.to_rgb(color), float(weight)) for weight in weights[:, expert]]
        axes.scatter(grid.squeeze(-1), lines[:, expert], c=rgba, s=5, linewidths=0)
    axes.scatter(x.squeeze(-1), y, c=[EXPERT_COLORS[int(expert)] for expert in leading], s=9, alpha=0.55, linewidths=0)
    axes.plot(grid, (lines * weights).sum(-1), color="black", linewidth=1.2)
    used = int((result.shares[start, fold] > 0.02).sum())
    axes.set(
        title=f"{name}: {used} of {NUM_EXPERTS} experts in use", ylim=(-3.2, 2.6), xlabel="time", ylabel="acceleration"
    )


def draw_shares(axes: plt.Axes, results: dict[str, Fit]) -> None:
    """Weight of the experts from the busiest to the idlest, averaged over all models."""
    for name, result in results.items():
        shares = result.shares.sort(-1, descending=True).values.mean((0, 1))
        axes.plot(range(1, NUM_EXPERTS + 1), shares, "o-", color=COLORS[name], label=name, markersize=4)
    axes.set(xlabel="expert, busiest first", ylabel="mean weight", title="How the work is shared", ylim=(0, None))
    axes.legend(frameon=False)


def draw_held_out(axes: plt.Axes, results: dict[str, Fit]) -> None:
    """One dot per start, its mean over the five folds; a bar for the median."""
    for row, (name, result) in enumerate(results.items()):
        values = result.held_out.mean(-1)
        height = torch.linspace(-0.22, 0.22, len(values)) + row
        axes.scatter(values, height, color=COLORS[name], s=18, alpha=0.8, linewidths=0)
        axes.vlines(values.median(), row - 0.35, row + 0.35, color=COLORS[name], linewidth=2)
    axes.set_yticks(range(len(results)), list(results))
    axes.invert_yaxis()
    axes.set(xlabel="held-out log-likelihood per observation", title="Five-fold cross-validation, one dot per start")


def draw(results: dict[str, Fit], path: Path) -> None:
    """Two fits above; shares and held-out likelihoods below."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 7), layout="constrained")
    for panel, name in zip(axes[0], list(results)[:2], strict=True):
        draw_fit(panel, name, results[name])
    draw_shares(axes[1, 0], results)
    draw_held_out(axes[1, 1], results)
    for panel in axes.flat:
        panel.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main(quick: bool) -> None:
    """Fit every selection, print a table, draw."""
    starts, steps = (3, 120) if quick else (10, 1500)
    results: dict[str, Fit] = {}
    print(f"{'selection':<24}{'held-out':>10}{'worst start':>13}{'experts used':>14}{'seconds':>9}")
    for name, make in SELECTIONS.items():
        begun = time.perf_counter()
        result = results[name] = fit(make(), starts, steps)
        by_start, used = result.held_out.mean(-1), (result.shares > 0.02).sum(-1).float().mean()
        seconds = time.perf_counter() - begun
        print(f"{name:<24}{by_start.mean():>10.3f}{by_start.min():>13.3f}{used:>14.2f}{seconds:>9.1f}")
    path = Path("examples/output/sampled_topk_gate.png")
    draw(results, path)
    print(f"\nPicture: {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few starts, few steps")
    main(parser.parse_args().quick)
