"""A verifier in a ten-line loop of one's own: no decoder, no framework, two callables ``ids -> logits``.

Two toy models of English letters: the target knows four letters of context, the draft knows two. The loop in `decode`
is all that speculative decoding needs; the rest trains the toys, shows which letters each call of the target gave, and
draws how the letters per call grow with the number of drafts.

Run: python examples/handwritten_loop.py [--quick]
"""

import argparse
import pydoc_data.topics
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import torch
from matplotlib import pyplot as plt
from torch import Generator, Tensor

from samplers import OptimalVerifier, RecursiveRejection, SamplerMatch, Verifier
from samplers.decoding.ngrams import NGramModel

VERIFIERS: dict[str, Verifier] = {
    "optimal": OptimalVerifier(),
    "recursive rejection": RecursiveRejection(),
    "sampler match": SamplerMatch(),
}
COLORS = {"optimal": "#0072b2", "recursive rejection": "#d55e00", "sampler match": "#999999"}


def decode(
    target: NGramModel, draft: NGramModel, verifier: Verifier, ids: Tensor, m: int, t: int, calls: int, g: Generator
) -> tuple[Tensor, list[int]]:
    """Continue ``ids (n,)`` by a number of target calls; return the ids and how many tokens each call gave."""
    gained = []
    for _ in range(calls):
        rows = ids.repeat(m, 1)  # m drafts of t tokens
        for _ in range(t):
            rows = torch.cat([rows, torch.multinomial(draft(rows)[:, -1].exp(), 1, generator=g)], dim=1)
        laws = target(rows)[:, -t - 1 :], draft(rows)[:, -t - 1 : -1]  # one call of the target
        out = verifier.verify(laws[0][None], laws[1][None], rows[None, :, -t:], generator=g)
        ids = torch.cat([ids, out.tokens[0, : out.num_accepted[0] + 1]])
        gained.append(int(out.num_accepted[0]) + 1)
    return ids, gained


def draw(curves: dict[str, list[float]], counts: list[int], path: Path) -> None:
    """Draw tokens per call against the number of drafts."""
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, values in curves.items():
        axis.plot(counts, values, marker="o", color=COLORS[name], linewidth=2)
        axis.annotate(
            name, (counts[-1], values[-1]), (6, 0), textcoords="offset points", va="center", color=COLORS[name]
        )
    axis.set(
        xlabel="drafts", ylabel="letters per target call", title="The same drafts, the same law, more letters a call"
    )
    axis.set_xlim(counts[0] - 0.2, counts[-1] * 1.35)
    axis.set_xticks(counts)
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(axis="y", alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train the toys, decode, and compare verifiers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer calls and drafts")
    quick = parser.parse_args().quick
    text = "".join(pydoc_data.topics.topics.values()).replace("\n", " ")
    letters = sorted(set(text))
    ids = torch.tensor([letters.index(letter) for letter in text[:60_000]])
    target, draft = (NGramModel(ids, len(letters), order, strength=2.0) for order in (5, 3))
    generator = torch.Generator().manual_seed(0)

    prompt = ids[:8]
    continued, gained = decode(target, draft, VERIFIERS["optimal"], prompt, 4, 4, 40, generator)
    pieces = torch.split(continued[len(prompt) :], gained)
    print("the prompt, then what each call of the target gave:")
    print(" | ".join("".join(letters[token] for token in piece.tolist()) for piece in (prompt, *pieces)))

    counts, num_prompts = ([1, 2, 4], 6) if quick else ([1, 2, 4, 8], 25)
    curves: dict[str, list[float]] = {name: [] for name in VERIFIERS}
    for name, verifier in VERIFIERS.items():
        for m in counts:
            gained = []
            for start in torch.arange(num_prompts) * 900:
                gained += decode(target, draft, verifier, ids[start : start + 8], m, 4, 10, generator)[1]
            curves[name].append(sum(gained) / len(gained))
        print(f"{name:20} letters per call with {counts} drafts: {[round(value, 2) for value in curves[name]]}")
    path = Path(__file__).parent / "output" / "handwritten_loop.png"
    draw(curves, counts, path)
    print(f"picture: {path}")


if __name__ == "__main__":
    main()
