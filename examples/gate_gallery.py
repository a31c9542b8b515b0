"""Nine gates on one set of parameters: how score, temperature, selection and normalizer shape the weights.

All but the Laplace gate share the scores s_j(x) = c_j x - c_j^2 / 2 of four experts with centers c_j; the Laplace gate
has its centers there. Prints how the data would be shared out and draws the weights as x moves.

Run ``python examples/gate_gallery.py``; the picture is ``examples/output/gate_gallery.png``.
"""

import argparse
from pathlib import Path

import matplotlib
import torch

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from mixkit.gates import Gate, activation_gate, laplace_gate, sigmoid_gate, softmax_gate, topk_gate
from mixkit.gates.normalizers import Entmax, Sparsemax
from mixkit.gates.scores import LinearScore
from mixkit.gates.selections import TopKByScore
from mixkit.gates.temperatures import FixedTemperature

OUTPUT = Path(__file__).parent / "output" / "gate_gallery.png"
CENTERS = torch.tensor([-2.4, -0.9, 0.8, 2.2], dtype=torch.float64)
K = len(CENTERS)
COLORS = ["#2f4b7c", "#7fa7d4", "#f2b279", "#c8553d"]
OPTIONS = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(0)}


@torch.no_grad()
def with_parameters(gate: Gate) -> Gate:
    """Write the shared parameters into a gate."""
    if hasattr(gate.score, "center"):
        gate.score.center.copy_(CENTERS.unsqueeze(-1))
        return gate
    gate.score.weight.copy_(CENTERS.unsqueeze(-1))
    gate.score.bias.copy_(-CENTERS.square() / 2)
    return gate


def linear() -> LinearScore:
    """A linear score, one covariate."""
    return LinearScore(1, K, **OPTIONS)


def gallery() -> dict[str, Gate]:
    """The gates, by title."""
    half = FixedTemperature(0.5)
    gates = {
        "softmax": softmax_gate(1, K, **OPTIONS),
        "softmax, temperature 0.2": Gate(linear(), temperature=FixedTemperature(0.2)),
        "normalized sigmoid": sigmoid_gate(1, K, **OPTIONS),
        "top-2, ranked on the score": Gate(linear(), selection=TopKByScore(2)),
        "top-2, ranked without the bias": topk_gate(1, K, 2, **OPTIONS),
        "activation (tanh), temperature 0.5": activation_gate(1, K, activation=torch.tanh, temperature=half, **OPTIONS),
        "entmax 1.5": Gate(linear(), normalizer=Entmax(1.5)),
        "sparsemax": Gate(linear(), normalizer=Sparsemax()),
        "Laplace, temperature 0.5": Gate(laplace_gate(1, K, **OPTIONS).score, temperature=half),
    }
    return {title: with_parameters(gate) for title, gate in gates.items()}


def report(gates: dict[str, Gate], x: torch.Tensor) -> None:
    """Print each gate's load and entropy."""
    print(f"{'gate':<40}{'share of the data by expert':<32}{'experts in use per row (exp of entropy)'}")
    for title, gate in gates.items():
        shares = "  ".join(f"{share:.3f}" for share in gate.load(x).tolist())
        print(f"{title:<40}{shares:<32}{gate.entropy(x).exp().item():.2f}")


def draw(gates: dict[str, Gate], x: torch.Tensor) -> None:
    """Stack the weights of each gate over x."""
    grid = x[:, 0].numpy()
    figure, axes = plt.subplots(3, 3, figsize=(10.5, 7.2), sharex=True, sharey=True, layout="constrained")
    for ax, (title, gate) in zip(axes.flat, gates.items(), strict=True):
        ax.stackplot(grid, gate(x).exp().detach().numpy().T, colors=COLORS, edgecolor="white", linewidth=0.4)
        ax.plot(CENTERS.numpy(), [-0.035] * K, "^", color="black", markersize=4, clip_on=False)
        ax.set_title(title, fontsize=10, loc="left")
        ax.set(xlim=(grid[0], grid[-1]), ylim=(0, 1))
        ax.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("x (triangles: the experts' centers)", fontsize=10)
    figure.supylabel("weights of the four experts, stacked", fontsize=10)
    OUTPUT.parent.mkdir(exist_ok=True)
    figure.savefig(OUTPUT, dpi=150)
    plt.close(figure)


def main() -> None:
    """Print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a coarser grid")
    n = 201 if parser.parse_args().quick else 2001
    x = torch.linspace(-4, 4, n, dtype=torch.float64).unsqueeze(-1)
    gates = gallery()
    report(gates, x)
    draw(gates, x)
    print(f"picture: {OUTPUT.relative_to(Path.cwd()) if OUTPUT.is_relative_to(Path.cwd()) else OUTPUT}")


if __name__ == "__main__":
    main()
