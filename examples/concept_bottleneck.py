"""Classify wines through a few named concepts, chosen anew for each bottle, and read why.

The thirteen measurements of scikit-learn's wines give 26 concepts, "high proline", "low hue" and so on: how many
standard deviations a wine lies above, or below, the mean. A ``ConceptBottleneck`` may show its linear head only K of
them, another K for each wine. The report says which, and what each adds. Run with ``--quick`` for one seed.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn.functional import cross_entropy

from mixkit.relaxations.concepts import ConceptBottleneck

OUTPUT = Path(__file__).parent / "output"
CLASSES = ["cultivar A", "cultivar B", "cultivar C"]


def concepts(seed):
    """Concept activations and classes, to train on and to test on, and the names of the concepts."""
    wine = load_wine()
    x, x_test, y, y_test = train_test_split(
        wine.data, wine.target, test_size=0.4, random_state=seed, stratify=wine.target
    )
    scaler = StandardScaler().fit(x)
    names = [f"{side} {name.replace('_', ' ')}" for side in ("high", "low") for name in wine.feature_names]

    def activations(values):
        standard = torch.tensor(scaler.transform(values), dtype=torch.float32)
        return torch.cat((standard, -standard), -1).clamp_min(0)

    dense = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, y).score(x_test, y_test)
    return activations(x), activations(x_test), torch.tensor(y), torch.tensor(y_test), names, dense


def fit(layer, x, y, num_steps, generator):
    """Adam on the cross-entropy; the layer itself keeps each activation true to its name."""
    optimizer = torch.optim.AdamW(layer.parameters(), lr=2e-2, weight_decay=1e-2)
    layer.train()
    for _ in range(num_steps):
        loss = cross_entropy(layer(x, generator), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return layer.eval()


def study(sizes, seeds, num_steps):
    """Test accuracies for each number of concepts shown, those of logistic regression, and one layer to look at."""
    accuracy, dense_accuracy, shown = {size: [] for size in sizes}, [], None
    for seed in range(seeds):
        x, x_test, y, y_test, names, dense = concepts(seed)
        dense_accuracy.append(dense)
        for size in sizes:
            generator = torch.Generator().manual_seed(seed)
            layer = ConceptBottleneck(
                len(names), 3, size, concept_names=names, class_names=CLASSES, generator=generator
            )
            fit(layer, x, y, num_steps, generator)
            accuracy[size].append(float((layer(x_test).argmax(-1) == y_test).double().mean()))
            if size == 3 and shown is None:
                shown = (layer, x_test)
    return accuracy, dense_accuracy, shown


def draw(accuracy, dense_accuracy, layer, x, path):
    """Which concepts speak for which class, and what the choice costs."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.6), width_ratios=[2, 1], layout="constrained")
    frequency = layer.choice_frequency(x)
    used = frequency.nan_to_num().amax(0).argsort(descending=True)[:12]
    image = left.imshow(frequency[:, used], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    left.set_xticks(range(len(used)), [layer.concept_names[i] for i in used], rotation=40, ha="right")
    left.set_yticks(range(3), CLASSES)
    left.set_title("how often each concept is among the three shown")
    for row, column in np.ndindex(3, len(used)):
        share = float(frequency[row, used[column]])
        if share > 0.005:
            left.text(column, row, f"{share:.2f}", ha="center", va="center", color="w" if share > 0.5 else "k")
    figure.colorbar(image, ax=left)
    sizes = list(accuracy)
    scores = np.array([accuracy[size] for size in sizes])
    right.plot(np.repeat(sizes, scores.shape[1]), scores.ravel(), ".", color="#b0b7c3")
    right.plot(sizes, scores.mean(1), "o-", color="#1f6feb", label="concept bottleneck")
    right.axhline(np.mean(dense_accuracy), color="k", ls="--", lw=1, label="logistic regression,\nall measurements")
    right.set(xlabel="concepts shown for each wine", ylabel="test accuracy", xscale="log")
    right.set_xticks(sizes, sizes)
    right.minorticks_off()
    right.legend()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main():
    """Fit, report and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed, shorter training")
    quick = parser.parse_args().quick
    OUTPUT.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    accuracy, dense_accuracy, (layer, x) = study((1, 2, 3, 5, 26), 1 if quick else 5, 200 if quick else 400)
    for size, scores in accuracy.items():
        print(f"{size:2d} concepts: test accuracy {np.mean(scores):.3f}")
    print(f"logistic regression on all measurements: {np.mean(dense_accuracy):.3f}\n")
    print(f"correlation of activations with the concepts they are named after: {layer.alignment(x).item():.2f}")
    print(layer.report(x[:3]))
    draw(accuracy, dense_accuracy, layer, x, OUTPUT / "concept_bottleneck.png")


if __name__ == "__main__":
    main()
