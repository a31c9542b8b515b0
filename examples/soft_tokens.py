"""Policy gradients through soft tokens: learn to say a mixture that no single token says.

Sixteen tokens have embeddings in the plane. The reward is the closeness of the embedding that is fed back to a target
that lies between three of them. The logits of the next token learn by REINFORCE, which needs nothing but each law's
exact ``log_prob``. One token (K = 1) cannot reach the target; the mixtures can. Run with ``--quick`` for fewer steps.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch

from samplers.soft_tokens import ComposedTokens, DirichletTokens, GumbelSoftmaxTokens, mixture_embedding

OUTPUT = Path(__file__).parent / "output"
LAWS = {
    "one token (K = 1)": ComposedTokens(1),
    "composed, K = 3": ComposedTokens(3),
    "composed, K = 12": ComposedTokens(12),
    "Gumbel-softmax, temperature 1": GumbelSoftmaxTokens(1.0),
    "Dirichlet, concentration 6": DirichletTokens(6.0),
}


def plane():
    """Embeddings ``(16, 2)`` on two circles, and the target, the mean of three of the outer ones."""
    angle = torch.arange(12) * 2 * torch.pi / 12
    inner = torch.arange(4) * 2 * torch.pi / 4 + 0.4
    circles = [radius * torch.stack((a.cos(), a.sin()), -1) for radius, a in ((1.0, angle), (0.25, inner))]
    embedding = torch.cat(circles)
    return embedding, embedding[[0, 2, 4]].mean(0)


def learn(law, num_steps, num_draws, generator):
    """REINFORCE with a leave-one-out baseline; returns the logits and the reward at each step."""
    embedding, target = plane()
    logits = torch.zeros(len(embedding), requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    rewards = []
    for _ in range(num_steps):
        log_weights = law.sample(logits.expand(num_draws, -1), generator=generator)
        reward = -(mixture_embedding(log_weights, embedding) - target).norm(dim=-1)
        advantage = (reward - reward.mean()) * num_draws / (num_draws - 1)
        loss = -(advantage * law.log_prob(log_weights, logits)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rewards.append(float(reward.mean()))
    return logits.detach(), rewards


def draw(results, path, generator):
    """Where the draws of each distribution lie before and after learning, and the way there."""
    embedding, target = plane()
    figure, axes = plt.subplots(2, 3, figsize=(12, 7.6), layout="constrained")
    for axis, (name, (logits, _)) in zip(axes.flat, results.items(), strict=False):
        for shade, label, scores in (("#c9ced6", "before", torch.zeros_like(logits)), ("#1f6feb", "after", logits)):
            points = mixture_embedding(LAWS[name].sample(scores.expand(400, -1), generator=generator), embedding)
            axis.scatter(*points.T, s=7, alpha=0.35, color=shade, label=label, linewidths=0)
        share = torch.softmax(logits, -1)
        axis.scatter(*embedding.T, s=20 + 400 * share, facecolors="none", edgecolors="k", linewidths=0.9)
        axis.plot(*target, "x", color="#d1603d", ms=10, mew=2.5)
        axis.set(title=name, xticks=[], yticks=[], aspect="equal")
    axes[0, 0].legend(loc="lower left", fontsize=8, markerscale=2)
    for name, (_, rewards) in results.items():
        smooth = np.convolve(rewards, np.ones(10) / 10, mode="valid")
        axes[1, 2].plot(-smooth, label=name)
    axes[1, 2].set(xlabel="step", title="mean distance from the target", ylim=(0, None))
    axes[1, 2].legend(fontsize=8)
    figure.suptitle(
        "Circles: tokens, as large as their probability after learning. Cross: the target. Dots: soft tokens."
    )
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main():
    """Learn with every distribution and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    quick = parser.parse_args().quick
    OUTPUT.mkdir(exist_ok=True)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    results = {name: learn(law, 150 if quick else 800, 64, generator) for name, law in LAWS.items()}
    for name, (_, rewards) in results.items():
        print(f"{name:30s} mean distance {-np.mean(rewards[:5]):.3f} -> {-np.mean(rewards[-20:]):.3f}")
    draw(results, OUTPUT / "soft_tokens.png", generator)


if __name__ == "__main__":
    main()
