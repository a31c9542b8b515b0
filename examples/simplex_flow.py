"""Write digits as sequences of 64 tokens with a guided flow on the simplex.

scikit-learn's 8 x 8 digits become sequences of 64 tokens, each one of four gray levels. A flow is trained on the
sequences without their labels. A classifier that has only ever seen clean digits then guides it to each class in turn
(straight-through guidance), and an unrelated classifier, which took no part, says whether the digits came out right.
Run with ``--quick`` for a shorter training.
"""

import argparse
import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.svm import SVC
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from mixkit.relaxations.flows import Heun, StraightThroughGuidance, denoising_loss, gumbel_softmax_path, sample_flow

OUTPUT = Path(__file__).parent / "output"
LENGTH, LEVELS, CLASSES = 64, 4, 10


def data():
    """Sequences ``(1797, 64)`` of gray levels 0 to 3, and their digits."""
    images, labels = load_digits(return_X_y=True)
    return torch.tensor(np.digitize(images, [2, 7, 12])), torch.tensor(labels)


def dense(inputs, outputs, generator):
    """A linear layer with weights from the generator."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    nn.init.normal_(layer.weight, std=inputs**-0.5, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


class Denoiser(nn.Module):
    """A residual network over the whole sequence: points of the simplex and the time in, logits of every token out."""

    def __init__(self, width, generator):
        super().__init__()
        self.enter = dense(LENGTH * LEVELS + 16, width, generator)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), dense(width, width, generator), nn.SiLU(), dense(width, width, generator)
            )
            for _ in range(3)
        )
        self.leave = dense(width, LENGTH * LEVELS, generator)

    def forward(self, log_x, t):
        """Logits ``(*batch, length, v)``."""
        angles = t.unsqueeze(-1) * math.pi * torch.arange(1, 9)
        hidden = self.enter(torch.cat((log_x.exp().flatten(-2), angles.sin(), angles.cos()), -1))
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.leave(hidden).unflatten(-1, (LENGTH, LEVELS))


def batches(num_steps, size, count, generator):
    """Rows to train on at each step."""
    return (torch.randint(size, (count,), generator=generator) for _ in range(num_steps))


def train(model, loss, num_steps, size, generator, lr=2e-3):
    """Adam with a cosine schedule; returns the losses."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    losses = []
    for rows in batches(num_steps, size, 128, generator):
        value = loss(rows)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        losses.append(float(value.detach()))
    return losses


def train_classifier(tokens, labels, num_steps, generator):
    """A small network on clean one-hot sequences."""
    clean = one_hot(tokens, LEVELS).float().flatten(1)
    model = nn.Sequential(dense(LENGTH * LEVELS, 64, generator), nn.Tanh(), dense(64, CLASSES, generator))
    train(model, lambda rows: cross_entropy(model(clean[rows]), labels[rows]), num_steps, len(tokens), generator)
    return model


def guided(classifier, wanted, scale):
    """Guidance of each sequence to its own class."""

    def log_probability(sequences):
        logits = classifier(sequences.flatten(-2)).log_softmax(-1)
        return logits.gather(-1, wanted.expand(logits.shape[:-1]).unsqueeze(-1)).squeeze(-1)

    return StraightThroughGuidance(log_probability, scale=scale, num_samples=4)


def generate(denoiser, path, count, guidance, generator, steps):
    """Sequences and the trajectory they came by."""
    return sample_flow(
        denoiser,
        path,
        (count, LENGTH),
        num_categories=LEVELS,
        guidance=guidance,
        integrator=Heun(steps),
        generator=generator,
    )


def diversity(tokens):
    """Mean share of pixels in which two sequences of a set differ."""
    return float((tokens[:, None] != tokens).double().mean()) * len(tokens) / (len(tokens) - 1)


def draw(rows, agreement, trajectory, times, path):
    """Digits of each scale of guidance, who agrees with them, and one sequence on its way out of the noise."""
    figure = plt.figure(figsize=(13, 6.4), layout="constrained")
    top, bottom = figure.subfigures(2, 1, height_ratios=[2.1, 1])
    left, right = top.subfigures(1, 2, width_ratios=[2.1, 1])
    axes = left.subplots(len(rows), CLASSES)
    for line, (name, tokens) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for axis, sequence in zip(line, tokens, strict=True):
            axis.imshow(sequence.reshape(8, 8), cmap="gray_r", vmin=0, vmax=LEVELS - 1)
            axis.set(xticks=[], yticks=[])
    left.suptitle("guided to 0, 1, ..., 9 (first row: not guided)")
    axis = right.subplots()
    scales, right_class, spread = zip(*agreement, strict=True)
    axis.plot(scales, right_class, "o-", color="#1f6feb", label="an SVM reads the wanted digit")
    axis.plot(scales, spread, "s--", color="#d1603d", label="pixels that differ between two\nsequences of one class")
    axis.axhline(1 / CLASSES, color="k", lw=0.8, ls=":")
    axis.set(xlabel="scale of guidance", ylim=(0, 1.02))
    axis.legend(fontsize=8, loc="center right")
    moments = np.linspace(0, len(times) - 1, 11).astype(int)
    for axis, moment in zip(bottom.subplots(1, len(moments)), moments, strict=True):
        mean = trajectory[moment].exp() @ torch.arange(LEVELS, dtype=torch.float32)
        axis.imshow(mean.reshape(8, 8), cmap="gray_r", vmin=0, vmax=LEVELS - 1)
        axis.set(xticks=[], yticks=[], title=f"t = {times[moment]:.1f}")
    bottom.suptitle("one sequence on the simplex: the mean gray level of every token's weights")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def main():
    """Train, generate, judge and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter training")
    quick = parser.parse_args().quick
    OUTPUT.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    tokens, labels = data()
    path = gumbel_softmax_path(signal_end=8.0)
    denoiser = Denoiser(128 if quick else 256, generator)
    losses = train(
        denoiser,
        lambda rows: denoising_loss(denoiser, tokens[rows], path, num_categories=LEVELS, generator=generator),
        500 if quick else 4000,
        len(tokens),
        generator,
    )
    classifier = train_classifier(tokens, labels, 400, generator)
    judge = SVC().fit(tokens.numpy(), labels.numpy())
    print(f"denoising loss, nats per token: {np.mean(losses[:50]):.3f} at first, {np.mean(losses[-50:]):.3f} at last")
    wanted = torch.arange(CLASSES).repeat(5 if quick else 40)
    rows, agreement = {}, []
    for scale in (0.0, 1.0, 3.0, 10.0):
        guidance = guided(classifier, wanted, scale) if scale else None
        sample = generate(denoiser, path, len(wanted), guidance, generator, 20 if quick else 40)
        right = float(np.mean(judge.predict(sample.tokens.numpy()) == wanted.numpy()))
        spread = np.mean([diversity(sample.tokens[wanted == label]) for label in range(CLASSES)])
        agreement.append((scale, right, spread))
        rows[f"scale {scale:g}"] = sample.tokens[:CLASSES]
        print(f"scale {scale:4g}: wanted digit {right:.2f} of the time, diversity {spread:.2f}")
    by_class = np.mean([diversity(tokens[labels == label]) for label in range(CLASSES)])
    print(f"real digits: diversity within a class {by_class:.2f}")
    draw(rows, agreement, [log_x[3] for log_x in sample.trajectory], sample.times, OUTPUT / "simplex_flow.png")


if __name__ == "__main__":
    main()
