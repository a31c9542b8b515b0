"""Tokens per target call on real text, for every verifier, number of drafts and draft temperature.

Trains a small byte-level GPT-2 (the target) and a smaller one (the draft) on the English documentation that ships with
Python (`pydoc_data.topics`), counts n-grams of the same text, and decodes continuations of held-out topics (topics
repeat passages of each other, so these are easier than text from elsewhere). A number is block efficiency, tokens per
target call, with its standard error over the sequences; all verifiers see the same prompts. Drafts are identical (the
small model at one temperature) or different (the small model at another temperature a draft, or n-grams of another
order or smoothing a draft).

Run ``python benchmarks/block_efficiency.py`` (``--quick`` for half a minute; ``--prompts N`` for more or fewer
sequences; ``--output FILE`` to write each number as it is found, and to go on from there after an interruption;
``--only "temperature 1.5"`` for one kind of drafts; ``--plot PATH`` to draw it).
"""

import argparse
import csv
import pydoc_data.topics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

from samplers import (
    BlockVerification,
    GumbelListCoupling,
    ImportanceWeighted,
    KSequential,
    OptimalVerifier,
    RecursiveRejection,
    SamplerMatch,
    SpeculativeSampling,
    Verifier,
    WeightedVerifier,
)
from samplers.adapters.huggingface import KeyValueScorer
from samplers.decoding import SpeculativeDecoder, Statistics
from samplers.decoding.ngrams import NGramModel
from samplers.processors import Temperature

CONTEXT = 128
SINGLE: dict[str, Verifier] = {
    "speculative": SpeculativeSampling(),  # what the rules below come to with one draft, but the next two
    "sampler match": SamplerMatch(),
    "Gumbel list": GumbelListCoupling(),
    "block": BlockVerification(),
}
IDENTICAL: dict[str, Verifier] = {
    "sampler match": SamplerMatch(),
    "K-SEQ": KSequential(),
    "Gumbel list": GumbelListCoupling(),
    "recursive rejection": RecursiveRejection(),
    "recursive, no replacement": RecursiveRejection(with_replacement=False),
    "importance weighted": ImportanceWeighted(),
    "optimal": OptimalVerifier(),
}
DIFFERENT: dict[str, Verifier] = {
    "sampler match": SamplerMatch(),
    "Gumbel list": GumbelListCoupling(),
    "recursive rejection": RecursiveRejection(),
    "importance weighted": ImportanceWeighted(),
    "weighted": WeightedVerifier(),
}


@dataclass(frozen=True)
class Plan:
    """How much to compute."""

    target_steps: int = 400
    draft_steps: int = 400
    num_prompts: int = 48
    new_tokens: int = 32
    draft_length: int = 4
    num_drafts: Sequence[int] = (1, 2, 4, 8, 3, 6, 5, 7)
    temperatures: Sequence[float] = (1.0, 1.5, 2.0)
    target: dict = field(default_factory=lambda: {"n_embd": 96, "n_layer": 2, "n_head": 4})
    draft: dict = field(default_factory=lambda: {"n_embd": 32, "n_layer": 1, "n_head": 2})


N_GRAMS = [(order, strength) for strength in (5.0, 0.5) for order in (3, 4, 2, 5)]
QUICK = Plan(target_steps=60, draft_steps=60, num_prompts=8, new_tokens=16, num_drafts=(1, 2), temperatures=(1.0, 1.5))


class Text(NamedTuple):
    """Training text and held-out text as ids ``(n,)``, and the size of the alphabet."""

    train: Tensor
    held_out: Tensor
    size: int


class Result(NamedTuple):
    """Block efficiency of a setting, and its standard error."""

    drafts: str
    verifier: str
    num_drafts: int
    mean: float
    error: float


def load_text() -> Text:
    """Return the documentation, every seventeenth topic held out."""
    topics = [pydoc_data.topics.topics[name] for name in sorted(pydoc_data.topics.topics)]
    parts = ["".join(topics[i] for i in range(len(topics)) if (i % 17 == 8) == held) for held in (False, True)]
    alphabet = {symbol: code for code, symbol in enumerate(sorted(set("".join(parts))))}
    train, held_out = (torch.tensor([alphabet[symbol] for symbol in part]) for part in parts)
    return Text(train, held_out, len(alphabet))


def windows(ids: Tensor, count: int, length: int, generator: torch.Generator) -> Tensor:
    start = torch.randint(len(ids) - length, (count,), generator=generator)
    return ids[start[:, None] + torch.arange(length)]


def train(text: Text, shape: dict, steps: int, seed: int) -> GPT2LMHeadModel:
    """Train a GPT-2 of the given shape by AdamW with a linear decay."""
    config = GPT2Config(vocab_size=text.size, n_positions=CONTEXT, bos_token_id=0, eos_token_id=0, **shape)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(config).eval()  # no dropout: the text is seen about once
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        batch = windows(text.train, 16, CONTEXT, generator)
        logits = model(batch).logits[:, :-1]
        optimizer.zero_grad()
        cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model


@torch.no_grad()
def bits_per_symbol(model: object, text: Text) -> float:
    """Cross-entropy on held-out text, in bits."""
    batch = windows(text.held_out, 32, CONTEXT, torch.Generator().manual_seed(0))
    output = model(batch)
    logits = output if isinstance(output, Tensor) else output.logits
    return float(cross_entropy(logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten())) / 0.6931471805599453


def efficiency(statistics: Statistics) -> tuple[float, float]:
    """Ratio of tokens to target calls, and its standard error by the delta method over sequences."""
    tokens, calls = statistics.emitted.double(), statistics.target_calls.double()
    mean = tokens.sum() / calls.sum()
    spread = (tokens - mean * calls).square().mean().sqrt() / calls.mean()
    return float(mean), float(spread / len(calls) ** 0.5)


class Results:
    """What was measured: printed, and kept in a file if there is one."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.found = path, []
        if path is not None and path.exists():
            with path.open(newline="") as file:
                rows = list(csv.reader(file))
            self.found = [Result(kind, name, int(count), float(x), float(y)) for kind, name, count, x, y in rows]

    def has(self, drafts: str, verifier: str, num_drafts: int) -> bool:
        """Whether a setting was measured before."""
        return any(result[:3] == (drafts, verifier, num_drafts) for result in self.found)

    def add(self, result: Result) -> None:
        """Print and keep a result."""
        self.found.append(result)
        print(
            f"{result.drafts:26} {result.verifier:26} {result.num_drafts:2}  {result.mean:.3f} +- {result.error:.3f}",
            flush=True,
        )
        if self.path is not None:
            with self.path.open("a", newline="") as file:
                csv.writer(file).writerow(result)


class Study:
    """Models and prompts; ``only`` picks kinds of drafts by a part of their names."""

    def __init__(self, plan: Plan, results: Results, only: str = "") -> None:
        self.plan, self.text, self.results, self.only = plan, load_text(), results, only
        started, worked = time.perf_counter(), time.process_time()
        self.target = train(self.text, plan.target, plan.target_steps, seed=0)
        self.draft = train(self.text, plan.draft, plan.draft_steps, seed=1)
        spent = time.perf_counter() - started, time.process_time() - worked
        print(f"training took {spent[0]:.0f} s, {spent[1]:.0f} s of processor time")
        self.n_grams = [NGramModel(self.text.train, self.text.size, order, strength) for order, strength in N_GRAMS]
        generator = torch.Generator().manual_seed(2)
        self.prompts = windows(self.text.held_out, plan.num_prompts, 32, generator)
        models = {"target": self.target, "draft": self.draft}
        models |= {f"{model.order}-gram, strength {model.strength:g}": model for model in self.n_grams}
        for name, model in models.items():
            print(f"{name:20} {bits_per_symbol(model, self.text):.2f} bits per symbol on held-out text")

    def measure(
        self, drafts: str, name: str, verifier: Verifier, models: object, temperatures: Sequence[float]
    ) -> None:
        """Decode with one setting; one temperature a draft."""
        if self.only not in drafts or self.results.has(drafts, name, len(temperatures)):
            return
        decoder = SpeculativeDecoder(
            KeyValueScorer(self.target),
            models,
            verifier,
            num_drafts=len(temperatures),
            draft_length=self.plan.draft_length,
            draft_processors=one_or_all([Temperature(value) for value in temperatures], temperatures),
        )
        out = decoder.decode(
            self.prompts, max_new_tokens=self.plan.new_tokens, generator=torch.Generator().manual_seed(3)
        )
        self.results.add(Result(drafts, name, len(temperatures), *efficiency(out.statistics)))

    def identical(self) -> None:
        """The small model at one temperature."""
        for temperature in self.plan.temperatures:
            label = f"identical, temperature {temperature}"
            for count in self.plan.num_drafts:
                for name, verifier in (SINGLE if count == 1 else IDENTICAL).items():
                    self.measure(label, name, verifier, KeyValueScorer(self.draft), [temperature] * count)

    def different(self) -> None:
        """The small model at temperatures from the first to the last, and n-grams of different orders."""
        low, high = self.plan.temperatures[0], self.plan.temperatures[-1]
        for count in self.plan.num_drafts:
            for name, verifier in (SINGLE if count == 1 else DIFFERENT).items():
                spread = torch.linspace(low, high, count).tolist()
                self.measure(f"temperatures {low} to {high}", name, verifier, KeyValueScorer(self.draft), spread)
                self.measure("2- to 5-grams", name, verifier, self.n_grams[:count], [1.0] * count)


def one_or_all(processors: list, temperatures: Sequence[float]) -> object:
    """One processor where all are the same: the drafts are then scored and processed together."""
    return processors[0] if len(set(temperatures)) == 1 else processors


def curve(results: list[Result], drafts: str, verifier: str) -> list[Result]:
    """Results of one verifier by number of drafts; with one draft most rules come to speculative sampling."""
    first = [] if verifier in SINGLE else [r for r in results if (r.drafts, r.verifier) == (drafts, "speculative")]
    line = sorted(result for result in results if (result.drafts, result.verifier) == (drafts, verifier))
    return [*first, *line] if line else []


def table(results: list[Result]) -> str:
    """A table in Markdown for each kind of drafts, a column for each number of drafts."""
    counts = sorted({result.num_drafts for result in results})
    names = list(dict.fromkeys([*SINGLE, *IDENTICAL, *DIFFERENT]))
    lines = []
    for kind in dict.fromkeys(result.drafts for result in results):
        header = " | ".join(f"m = {count}" for count in counts)
        lines += [f"\n{kind}\n", f"| verifier | {header} |", "|---" * (len(counts) + 1) + "|"]
        for name in names:
            by_count = {r.num_drafts: f"{r.mean:.2f} ± {r.error:.2f}" for r in curve(results, kind, name)}
            if by_count:
                lines.append(f"| {name} | {' | '.join(by_count.get(count, '') for count in counts)} |")
    return "\n".join(lines)


def plot(results: list[Result], path: Path) -> None:
    """Draw block efficiency against the number of drafts, one panel a kind of drafts."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    kinds = list(dict.fromkeys(result.drafts for result in results))
    names = list(dict.fromkeys([*IDENTICAL, *DIFFERENT, "speculative", "block"]))
    figure, axes = plt.subplots(1, len(kinds), figsize=(3.4 * len(kinds), 4.2), sharey=True, layout="constrained")
    for axis, kind in zip(axes, kinds, strict=True):
        for index, name in enumerate(names):
            draw(axis, curve(results, kind, name), name, f"C{index}")
        axis.set(title=kind, xlabel="number of drafts")
        axis.set_xticks(sorted({result.num_drafts for result in results}))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("tokens per target call")
    handles = {name: handle for axis in axes for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=5, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    print(f"plot: {path}")


def draw(axis: Any, points: list[Result], name: str, color: str) -> None:
    """Draw one verifier's curve with its standard errors."""
    is_ours = name in ("optimal", "weighted")
    if points:
        axis.errorbar(
            [point.num_drafts for point in points],
            [point.mean for point in points],
            [point.error for point in points],
            label=name,
            color=color,
            marker="o" if is_ours or len(points) == 1 else ".",
            linewidth=2.2 if is_ours else 1.0,
            capsize=2,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a small target, few settings")
    parser.add_argument("--prompts", type=int, help="number of sequences decoded in each setting")
    parser.add_argument("--output", type=Path, help="where to keep the numbers, one line each")
    parser.add_argument("--only", default="", help="measure the kinds of drafts whose name holds this")
    parser.add_argument("--plot", type=Path, help="where to write the picture")
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else Plan()
    results = Results(arguments.output)
    started = time.process_time()
    plan = plan if arguments.prompts is None else replace(plan, num_prompts=arguments.prompts)
    study = Study(plan, results, arguments.only)
    print(f"{'drafts':26} {'verifier':26} {'m':>2}  tokens per target call")
    study.identical()
    study.different()
    print(table(results.found))
    print(f"\n{time.process_time() - started:.0f} s of processor time in all")
    if arguments.plot is not None:
        plot(results.found, arguments.plot)


if __name__ == "__main__":
    main()
