"""Speculative decoding of Hugging Face models: through ``model.generate`` and through a decoder of one's own.

Builds a GPT-2 and a smaller one from their configurations (nothing is downloaded), trains both for a moment on the
documentation that ships with Python, and decodes a batch of prompts of different lengths with several drafts a round.
It shows that greedy generation is unchanged to the token, streams a text, and draws where drafts are accepted.

Run: python examples/huggingface_speculative.py [--quick]
"""

import argparse
import pydoc_data.topics
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import torch
from matplotlib import pyplot as plt
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

from samplers import OptimalVerifier, SpeculativeSampling, Verifier
from samplers.adapters.huggingface import KeyValueScorer, speculative_generate
from samplers.decoding import SpeculativeDecoder, Statistics
from samplers.processors import Chain, Temperature, TopP

CONTEXT, DRAFT_LENGTH = 128, 5
TEXT = "".join(pydoc_data.topics.topics.values())
LETTERS = sorted(set(TEXT))
SETTINGS: list[tuple[str, Verifier, int, str]] = [
    ("one draft, speculative sampling", SpeculativeSampling(), 1, "#999999"),
    ("two drafts, optimal verifier", OptimalVerifier(), 2, "#56b4e9"),
    ("four drafts, optimal verifier", OptimalVerifier(), 4, "#0072b2"),
]


def encode(text: str) -> list[int]:
    """Letters to ids."""
    return [LETTERS.index(letter) for letter in text]


def decode(ids: Tensor) -> str:
    """Ids to letters."""
    return "".join(LETTERS[token] for token in ids.tolist())


def train(width: int, layers: int, steps: int, seed: int) -> GPT2LMHeadModel:
    """Train a GPT-2 of the given size."""
    config = GPT2Config(
        vocab_size=len(LETTERS),
        n_positions=CONTEXT,
        n_embd=width,
        n_layer=layers,
        n_head=4,
        bos_token_id=0,
        eos_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(config).eval()
    ids, generator = torch.tensor(encode(TEXT[:200_000])), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(steps):
        start = torch.randint(len(ids) - 64, (16, 1), generator=generator)
        batch = ids[start + torch.arange(64)]
        optimizer.zero_grad()
        cross_entropy(model(batch).logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten()).backward()
        optimizer.step()
    return model


def compare_greedy(target: GPT2LMHeadModel, draft: GPT2LMHeadModel) -> None:
    """Greedy generation with and without drafts, on left-padded prompts."""
    prompts = [encode("The class "), encode("If the object has a method "), encode("A list ")]
    longest = max(map(len, prompts))
    ids = torch.tensor([[0] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    settings = {"attention_mask": mask, "max_new_tokens": 60, "do_sample": False, "pad_token_id": 0}
    plain = target.generate(ids, **settings)
    statistics: list[Statistics] = []
    ours = target.generate(
        ids,
        custom_generate=speculative_generate,
        draft=draft,
        draft_length=DRAFT_LENGTH,
        on_statistics=statistics.append,
        generator=torch.Generator().manual_seed(0),
        **settings,
    )
    print(f"greedy: the same tokens: {torch.equal(plain, ours)}, {statistics[0].block_efficiency:.2f} tokens per call")


def sample(
    target: GPT2LMHeadModel, draft: GPT2LMHeadModel, verifier: Verifier, num_drafts: int, rows: int
) -> Statistics:
    """Sample a batch of texts, with one generator a row, and print the first as it is decoded."""
    decoder = SpeculativeDecoder(
        KeyValueScorer(target),
        KeyValueScorer(draft),
        verifier,
        num_drafts=num_drafts,
        draft_length=DRAFT_LENGTH,
        processors=Chain(Temperature(0.9), TopP(0.95)),
    )
    pieces: list[str] = []
    out = decoder.decode(
        [encode(TEXT[start : start + 10 + row]) for row, start in enumerate(range(1000, 1000 + 700 * rows, 700))],
        max_new_tokens=60,
        generator=[torch.Generator().manual_seed(row) for row in range(rows)],
        on_tokens=lambda row, tokens: pieces.append(decode(tokens)) if row == 0 else None,
    )
    print(" | ".join(pieces).replace("\n", "~"))
    return out.statistics


def draw(results: dict[str, Statistics], path: Path) -> None:
    """Draw the share of drafts that are still accepted at each position."""
    figure, axis = plt.subplots(figsize=(7, 4.2), layout="constrained")
    positions = range(1, DRAFT_LENGTH + 1)
    for (name, statistics), (_, _, _, color) in zip(results.items(), SETTINGS, strict=True):
        survival = statistics.accepted.sum(0) / statistics.target_calls.sum()
        label = f"{name}: {statistics.block_efficiency:.2f} tokens per call"
        axis.plot(positions, survival, marker="o", linewidth=2, color=color, label=label)
    axis.set(
        xlabel="position in the draft",
        ylabel="share of rounds accepted up to here",
        title="More drafts reach further, for the same law",
        ylim=(0, 1),
        xticks=list(positions),
    )
    axis.grid(axis="y", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Train, compare, sample, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="less training, fewer texts")
    quick = parser.parse_args().quick
    steps, rows = (50, 4) if quick else (500, 24)
    started = time.perf_counter()
    target, draft = train(64, 2, steps, seed=0), train(32, 1, steps, seed=1)
    print(f"trained both models in {time.perf_counter() - started:.0f} s")
    compare_greedy(target, draft)
    results = {}
    for name, verifier, num_drafts, _ in SETTINGS:
        print(f"\n{name}; one text, a bar between target calls:")
        results[name] = sample(target, draft, verifier, num_drafts, rows)
        print(f"{results[name].block_efficiency:.2f} tokens per target call")
    path = Path(__file__).parent / "output" / "huggingface_speculative.png"
    draw(results, path)
    print(f"\npicture: {path}")


if __name__ == "__main__":
    main()
