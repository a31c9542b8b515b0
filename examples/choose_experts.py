"""How many experts? Criteria along a path of fits, and the dendrogram of one large fit, with and without outliers.

Two lines cross behind a sharp gate. On clean data every consistent criterion finds two experts. With 5% of outliers in
the box of the data, likelihood criteria ask for a third expert that describes them, and are right to; the dendrogram
shows that it is a light one, far below the merge of the two lines, and still reads off two.

Run: python examples/choose_experts.py
"""

import argparse
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from torch import Tensor

from estimators import EM
from estimators.model_selection import Dendrogram, ExpertSelection, mixing_dendrogram, select_experts
from mixkit import MixingMeasure
from mixkit.plotting import plot_fit

TRUTH = MixingMeasure(
    gate_bias=torch.tensor([-8.0, 0.0], dtype=torch.float64),
    gate_weight=torch.tensor([[25.0], [0.0]], dtype=torch.float64),
    slope=torch.tensor([[-20.0], [20.0]], dtype=torch.float64),
    intercept=torch.tensor([15.0, -5.0], dtype=torch.float64),
    variance=torch.tensor([0.3, 0.4], dtype=torch.float64).square(),
)


def sample(n: int, outliers: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Rows of the truth, and a share of outliers, uniform over their box."""
    generator = torch.Generator().manual_seed(seed)
    x, y = TRUTH.sample_xy(n, generator=generator)
    extra = torch.rand(round(outliers * n), 2, dtype=x.dtype, generator=generator)
    return torch.cat([x, extra[:, :1]]), torch.cat([y, y.min() + (y.max() - y.min()) * extra[:, 1]])


def choose(x: Tensor, y: Tensor, quick: bool) -> tuple[ExpertSelection, Dendrogram]:
    """A path of fits from one to five experts, and the dendrogram of the largest."""
    estimator = EM(n_init=3 if quick else 10)
    found = select_experts(x, y, range(1, 6), criterion="bic" if quick else "cv", estimator=estimator, random_state=0)
    return found, mixing_dendrogram(found.fits[-1], x, y)


def draw(axes: list[Axes], x: Tensor, y: Tensor, found: ExpertSelection, tree: Dendrogram, title: str) -> None:
    """The fit that BIC chooses, the criteria, the dendrogram."""
    best = found.choose("bic")
    plot_fit(found.fits[found.num_experts.index(best)].model, x, y, ax=axes[0])
    axes[0].set_title(f"{title}: k = {best} by BIC")
    axes[0].get_legend().remove()
    found.plot(ax=axes[1]).set_title("rings mark the choices")
    tree.plot(ax=axes[2])


def main(quick: bool) -> None:
    """Fit, print, draw."""
    torch.set_num_threads(1)
    figure, axes = plt.subplots(2, 3, figsize=(14, 7.5), layout="constrained")
    for row, (title, outliers) in zip(axes, {"clean": 0.0, "5% outliers": 0.05}.items(), strict=True):
        x, y = sample(500 if quick else 2000, outliers)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found, tree = choose(x, y, quick)
        print(f"{title}\n{found}\n{tree}")
        print({name: found.choose(name) for name in found.criteria} | {"dendrogram": tree.choose()}, "\n")
        draw(list(row), x, y, found, tree, title)
    output = Path("examples/output")
    output.mkdir(parents=True, exist_ok=True)
    figure.savefig(output / "choose_experts.png", dpi=150)
    print(f"Picture: {output / 'choose_experts.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rows and starts, no cross-validation")
    main(parser.parse_args().quick)
