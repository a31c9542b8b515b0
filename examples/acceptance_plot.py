"""Acceptance against the number of drafts: every rule beside the optimum, for distributions like a language model's.

    python examples/acceptance_plot.py [--quick]

Acceptance is computed exactly, not simulated; the picture goes to examples/output/acceptance.png.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch

from samplers import (
    ImportanceWeighted,
    KSequential,
    OptimalVerifier,
    RecursiveRejection,
    SamplerMatch,
    WeightedVerifier,
)
from samplers.acceptance.plotting import acceptance_curves, plot_acceptance

RULES = {
    "optimal verifier": OptimalVerifier(),
    "optimal, 256 bins": OptimalVerifier(bins=256),
    "weighted": WeightedVerifier(),
    "K-SEQ": KSequential(),
    "importance, guarded": ImportanceWeighted(),
    "recursive rejection": RecursiveRejection(),
    "sampler match": SamplerMatch(),
}


def laws(num_nodes: int, v: int, noise: float, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Target and draft distributions: the draft sees the target's scores through noise, and has temperature 1.2."""
    scores = 3 * torch.randn(num_nodes, v, generator=generator, dtype=torch.float64)
    seen = scores + noise * torch.randn(num_nodes, v, generator=generator, dtype=torch.float64)
    return scores.softmax(-1), (seen / 1.2).softmax(-1)


def main() -> None:
    """Print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer nodes and a smaller vocabulary")
    quick = parser.parse_args().quick
    generator = torch.Generator().manual_seed(0)
    num_nodes, v, counts = (3, 300, [1, 2, 4, 8]) if quick else (20, 2000, range(1, 9))
    figure, axes = plt.subplots(1, 2, figsize=(13, 5), layout="constrained", sharey=True)
    for ax, noise, kind in zip(axes, (0.8, 1.6), ("a good draft", "a poor draft"), strict=True):
        target, draft = laws(num_nodes, v, noise, generator)
        plot_acceptance(target, draft, RULES, counts, ax)
        ax.set_title(kind, loc="left")
        ax.label_outer()
        for name, curve in acceptance_curves(target, draft, RULES, counts).items():
            print(f"{kind:13s} {name:20s} " + " ".join(f"{value:.3f}" for value in curve.tolist()))
    title = f"Probability that one of the drafts is accepted at a node, {v:,} tokens (gray: the optimum)"
    figure.suptitle(title, x=0.01, ha="left")
    output = Path(__file__).parent / "output"
    output.mkdir(exist_ok=True)
    figure.savefig(output / "acceptance.png", dpi=150)
    print(f"wrote {output / 'acceptance.png'}")


if __name__ == "__main__":
    main()
