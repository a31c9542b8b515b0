"""Learn which weights of a digit classifier to keep: N:M masks against magnitude pruning.

A small network is trained on scikit-learn's digits. At most N of every M consecutive weights may then stay,
a pattern that sparse hardware runs fast. Magnitude pruning keeps the largest; a ``PatternMask`` learns a distribution
over the patterns of every group from the training loss, the weights frozen.
Run with ``--quick`` for one seed and a shorter training.
"""

import argparse
import copy
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn.functional import cross_entropy

from mixkit.gates.temperatures import ScheduledTemperature
from mixkit.relaxations import GumbelSoftmax
from mixkit.relaxations.masks import (
    PatternMask,
    SubsetMask,
    add_masks,
    advance_masks,
    harden_masks,
    magnitude_mask,
    masked_layers,
    retained_energy,
)
from mixkit.schedules import LinearSchedule

OUTPUT = Path(__file__).parent / "output"
PATTERNS = [(2, 4), (1, 4), (8, 32), (1, 8)]


def data():
    """Pixels in [0, 1] and digits, 70 % to train on and 30 % to test on."""
    images, labels = load_digits(return_X_y=True)
    images = torch.tensor(images / 16, dtype=torch.float32)
    split = train_test_split(images, torch.tensor(labels), test_size=0.3, random_state=0, stratify=labels)
    return dict(zip(("x", "x_test", "y", "y_test"), split, strict=True))


def network(generator):
    """64 pixels, hidden layers of 32 and 16, and 10 digits; the last layer stays dense."""
    sizes = [(64, 32), (32, 16), (16, 10)]
    layers = []
    for inputs, outputs in sizes:
        layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
        nn.init.normal_(layer.weight, std=(2 / inputs) ** 0.5, generator=generator)
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(nn.Sequential(*layers[:-2]), layers[-2])


def fit(model, digits, num_steps, lr, after_step=lambda step: None, penalty=lambda: 0.0):
    """Minimize the cross-entropy over all training digits with Adam."""
    model.train()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=lr)
    for step in range(num_steps):
        loss = cross_entropy(model(digits["x"]), digits["y"]) + penalty()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        after_step(step)
    return model.eval()


@torch.no_grad()
def accuracy(model, digits):
    """Share of the test digits that are right."""
    return float((model(digits["x_test"]).argmax(-1) == digits["y_test"]).double().mean())


def pruned_by_magnitude(model, num_kept, group_size):
    """A copy of the model that keeps the largest weights of each group."""
    model = copy.deepcopy(model)
    for layer in model[0]:
        if isinstance(layer, nn.Linear):
            layer.weight.data *= magnitude_mask(layer.weight, num_kept, group_size)
    return model


def pruned_by_learning(model, num_kept, group_size, digits, num_steps, generator):
    """Learn the masks with the weights frozen; returns the hard model and how decided the masks were on the way."""
    model, decided = copy.deepcopy(model), []

    def make(weight):
        nm = (num_kept, group_size)
        settings = {
            "prior": magnitude_mask(weight, *nm),
            "scale": LinearSchedule(100.0, 500.0, num_steps),
            "generator": generator,
        }
        if group_size > 8:  # more patterns than can be listed: one logit for each weight
            return SubsetMask(weight.shape, *nm, **settings)
        temperature = ScheduledTemperature(LinearSchedule(4.0, 0.05, num_steps))
        return PatternMask(weight.shape, *nm, estimator=GumbelSoftmax(temperature), **settings)

    add_masks(model.requires_grad_(False)[0], make)

    def after_step(step):
        advance_masks(model)
        if step % max(num_steps // 50, 1) == 0:
            largest = torch.cat([mask.marginals().detach().flatten() for _, _, mask in masked_layers(model)])
            decided.append((step, float(torch.maximum(largest, 1 - largest).mean())))

    fit(model, digits, num_steps, lr=2e-3, after_step=after_step, penalty=lambda: -1e-5 * retained_energy(model))
    harden_masks(model)
    return model, decided


def study(seeds, num_steps, digits):
    """Test accuracies of every way to prune, and the models of the last seed."""
    results = {"dense": [], **{(kind, nm): [] for nm in PATTERNS for kind in ("magnitude", "learned")}}
    shown = {}
    for seed in range(seeds):
        generator = torch.Generator().manual_seed(seed)
        dense = fit(network(generator), digits, 300, lr=1e-2)
        results["dense"].append(accuracy(dense, digits))
        for nm in PATTERNS:
            magnitude = pruned_by_magnitude(dense, *nm)
            learned, decided = pruned_by_learning(dense, *nm, digits, num_steps, generator)
            results["magnitude", nm].append(accuracy(magnitude, digits))
            results["learned", nm].append(accuracy(learned, digits))
            shown[nm] = (magnitude, learned, decided)
    return results, shown


def draw(results, shown, path):
    """Accuracies, the pixels that survive, and how the masks decide."""
    figure, axes = plt.subplots(1, 4, figsize=(14, 3.6), width_ratios=[1.5, 1, 1, 1.2], layout="constrained")
    position = np.arange(len(PATTERNS))
    for offset, kind, color in ((-0.18, "magnitude", "#b0b7c3"), (0.18, "learned", "#1f6feb")):
        scores = np.array([results[kind, nm] for nm in PATTERNS])
        axes[0].bar(position + offset, scores.mean(1), 0.34, color=color, label=kind)
        axes[0].plot(np.repeat(position + offset, scores.shape[1]), scores.ravel(), "k.", ms=4)
    axes[0].axhline(np.mean(results["dense"]), color="k", ls="--", lw=1, label="dense")
    axes[0].set_xticks(position, [f"{n}:{m}" for n, m in PATTERNS])
    axes[0].set(ylabel="test accuracy", ylim=(0, 1.2), title="Same weights, same sparsity")
    axes[0].legend(loc="upper center", ncols=3, fontsize=8)
    magnitude, learned, _ = shown[1, 4]
    for axis, model, name in ((axes[1], magnitude, "magnitude"), (axes[2], learned, "learned")):
        kept = (model[0][0].weight != 0).sum(0).reshape(8, 8)
        image = axis.imshow(kept.numpy(), cmap="magma", vmin=0, vmax=20)
        axis.set(title=f"1:4, {name}: units that\nread each pixel", xticks=[], yticks=[])
    figure.colorbar(image, ax=axes[2], shrink=0.8)
    for nm in PATTERNS:
        steps, share = zip(*shown[nm][2], strict=True)
        axes[3].plot(steps, share, label=f"{nm[0]}:{nm[1]}")
    axes[3].set(xlabel="step", title="How decided: mean of\nmax(P(kept), 1 - P(kept))", ylim=(0.85, 1.005))
    axes[3].legend(fontsize=8)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main():
    """Run the study and report it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed, shorter training")
    quick = parser.parse_args().quick
    OUTPUT.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    results, shown = study(1 if quick else 3, 200 if quick else 800, data())
    print(f"dense        {np.mean(results['dense']):.3f}")
    for n, m in PATTERNS:
        magnitude, learned = (np.array(results[kind, (n, m)]) for kind in ("magnitude", "learned"))
        print(
            f"{n}:{m}  magnitude {magnitude.mean():.3f} +- {magnitude.std():.3f}   "
            f"learned {learned.mean():.3f} +- {learned.std():.3f}   ({len(learned)} seeds)"
        )
    draw(results, shown, OUTPUT / "nm_mask_digits.png")


if __name__ == "__main__":
    main()
