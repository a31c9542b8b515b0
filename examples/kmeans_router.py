"""A router that no gradient trains: centroids follow the data, and the temperature follows an entropy.

Directions in the plane come from three groups, two of which drift. ``OnlineKMeansScore`` moves one centroid to each
group as batches arrive; ``TargetEntropyTemperature`` then sets how sharply a gate of these scores decides, in nats and
not by trial; ``selected_distances`` says whether the gate tells its inputs apart. Run with ``--quick`` for fewer steps.
"""

import argparse
import math
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from mixkit.gates import Gate
from mixkit.gates.scores import LinearScore, OnlineKMeansScore
from mixkit.gates.separation import selected_distances
from mixkit.gates.tuned_temperatures import TargetEntropyTemperature

OUTPUT = Path(__file__).parent / "output" / "kmeans_router.png"
COLORS = ["#2f4b7c", "#c8553d", "#5a9367"]
TARGETS = (0.1, 0.5, 0.9)


def batch(share: float, generator: torch.Generator, n: int = 300) -> tuple[Tensor, Tensor]:
    """Rows of three groups at a time between 0 and 1, and the angle of each group's center."""
    centers = torch.tensor([0.3 + 0.9 * share, 2.4 - 0.4 * share, 4.4], dtype=torch.float64)
    angle = centers[torch.arange(n) % 3] + 0.22 * torch.randn(n, dtype=torch.float64, generator=generator)
    length = 0.6 + torch.rand(n, dtype=torch.float64, generator=generator)
    return torch.stack((length * angle.cos(), length * angle.sin()), -1), centers


def follow(num_steps: int) -> tuple[OnlineKMeansScore, Tensor, Tensor, Tensor]:
    """The score after all batches, the path of its centroids, the centers to follow, and the last batch."""
    generator = torch.Generator().manual_seed(0)
    score = OnlineKMeansScore(2, 3, decay=0.9, dtype=torch.float64)
    path, centers = [], []
    for step in range(num_steps):
        x, center = batch(step / (num_steps - 1), generator)
        score.update(x)
        path.append((torch.atan2(score.centroid[:, 1], score.centroid[:, 0]) + 1.0) % (2 * math.pi) - 1.0)
        centers.append(center)
    return score, torch.stack(path), torch.stack(centers), x


@torch.no_grad()
def draw(num_steps: int) -> None:
    """Three panels: what the centroids follow, how sharply the gate decides, and what it tells apart."""
    score, path, centers, x = follow(num_steps)
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    owner = [int((path[-1] - center).abs().argmin()) for center in centers[-1]]
    for group, j in enumerate(owner):
        left.plot(
            centers[:, group], color="#9aa3ad", lw=5, alpha=0.5, label="center of the group" if not group else None
        )
        left.plot(path[:, j], color=COLORS[group], label=f"centroid {j}")
        error = float((path[-1, j] - centers[-1, group]).abs())
        print(f"group {group}: centroid {j} ends {error:.3f} radians from the center it follows")
    left.set(xlabel="batches", ylabel="angle", title="centroids follow groups that drift")
    left.set_ylim(-1.0, 7.2)
    left.legend(fontsize="small", ncols=2, loc="upper left")
    around = torch.linspace(0, 2 * math.pi, 400, dtype=torch.float64)
    circle = torch.stack((around.cos(), around.sin()), -1)
    for target, style in zip(TARGETS, ("-", "--", ":"), strict=True):
        temperature = TargetEntropyTemperature(target, dtype=torch.float64)
        temperature.tune(score(x))
        gate = Gate(score, temperature=temperature)
        print(f"target {target} nats: temperature {float(temperature.value):.4f}, entropy {float(gate.entropy(x)):.4f}")
        for group, j in enumerate(owner):
            middle.plot(around, gate(circle)[:, j].exp(), style, color=COLORS[group])
        middle.plot([], [], style, color="k", label=f"{target} nats")
    middle.set(xlabel="angle of x", ylabel="weight", title="one temperature for an entropy")
    middle.set_ylim(-0.03, 1.25)
    middle.legend(fontsize="small", title="mean entropy", ncols=3, loc="upper center")
    compare(right, score, x, owner)
    OUTPUT.parent.mkdir(exist_ok=True)
    figure.savefig(OUTPUT, dpi=130)
    plt.close(figure)


def compare(axes: plt.Axes, score: OnlineKMeansScore, x: Tensor, owner: list[int]) -> None:
    """Distances within and between what is selected, for centroids and for directions drawn at random."""
    random = LinearScore(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    for offset, (name, part) in enumerate({"k-means": score, "random": random}.items()):
        best = torch.nn.functional.one_hot(part(x).argmax(-1), 3).bool()
        distance = selected_distances(x, best)
        for group, j in enumerate(owner):
            place = group + 0.36 * offset
            axes.bar(place, distance.within[j], width=0.3, color=COLORS[group], alpha=1.0 if not offset else 0.45)
            axes.plot([place - 0.15, place + 0.15], [distance.between[j]] * 2, color="k", lw=2)
        print(f"{name}: within {distance.within.mean():.2f}, between {distance.between.mean():.2f}")
    axes.set_xticks([0.18, 1.18, 2.18], [f"expert {j}" for j in owner])
    title = "within an expert (bars), to other inputs (lines)\nby k-means, and by random directions (pale)"
    axes.set_ylabel("mean distance of inputs")
    axes.set_title(title, fontsize="medium")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer batches")
    draw(40 if parser.parse_args().quick else 200)
