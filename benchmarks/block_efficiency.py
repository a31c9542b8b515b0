"""Tokens per target call on real text, for every verifier, number of drafts and draft temperature.

Trains a small byte-level GPT-2 (the target) and a smaller one (the draft) on the English documentation that ships with
Python (`pydoc_data.topics`), counts n-grams of the same text, and decodes continuations of held-out topics (topics
repeat passages of each other, so these are easier than text from elsewhere). A number is block efficiency, tokens per
target call, with its standard error over the sequences; all verifiers see the same prompts, and each is compared with
the optimum of each node (or the weighted verifier) by paired differences. Drafts are identical (the
small model at one temperature) or different (the small model at another temperature a draft, or n-grams of another
order or smoothing a draft).

Run ``python benchmarks/block_efficiency.py`` (``--quick`` for half a minute; ``--prompts N`` for more or fewer
sequences; ``--output FILE`` to write each number as it is found, and to go on from there after an interruption;
``--only "temperature 1.5"`` for one kind of drafts; ``--rules "optimal;two-phase"`` and ``--num-drafts 2 4`` for
some settings; ``--plot PATH`` to draw it).
"""

import argparse
import csv
import math
import pydoc_data.topics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product
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
    MultiBlockVerifier,
    OptimalVerifier,
    RecursiveRejection,
    SampledTree,
    SamplerMatch,
    SpeculativeSampling,
    TraversalVerification,
    TreeVerifier,
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
    "traversal": TraversalVerification(),
    "optimal": OptimalVerifier(),
    "two-phase, K-SEQ": MultiBlockVerifier(budgets="k-seq"),
    "two-phase": MultiBlockVerifier(),
}
DIFFERENT: dict[str, Verifier] = {
    "sampler match": SamplerMatch(),
    "Gumbel list": GumbelListCoupling(),
    "recursive rejection": RecursiveRejection(),
    "importance weighted": ImportanceWeighted(),
    "weighted": WeightedVerifier(),
}
TREES: dict[str, Verifier] = {
    "recursive rejection": RecursiveRejection(),
    "traversal": TraversalVerification(),
    "optimal": OptimalVerifier(),
    "two-phase, K-SEQ": MultiBlockVerifier(budgets="k-seq"),
    "two-phase": MultiBlockVerifier(),
}
BRANCHINGS = [(2, 2, 2), (4, 2, 1), (8, 2, 1), (4, 1, 1, 1)]
ONE_DRAFT = {
    "traversal": "block",
    "two-phase": "block",
    "two-phase, K-SEQ": "block",
}  # with one draft; others are speculative
REFERENCE = {"identical": "optimal", "tree": "optimal", "temperatures": "weighted", "2- to 5-grams": "weighted"}


@dataclass(frozen=True)
class Plan:
    """How much to compute."""

    target_steps: int = 400
    draft_steps: int = 400
    num_prompts: int = 48
    new_tokens: int = 32
    draft_lengths: Sequence[int] = (4, 8)
    num_drafts: Sequence[int] = (1, 2, 4, 8, 3, 6, 5, 7)
    temperatures: Sequence[float] = (1.0, 1.5, 2.0)
    target: dict = field(default_factory=lambda: {"n_embd": 96, "n_layer": 2, "n_head": 4})
    draft: dict = field(default_factory=lambda: {"n_embd": 32, "n_layer": 1, "n_head": 2})


N_GRAMS = [(order, strength) for strength in (5.0, 0.5) for order in (3, 4, 2, 5)]
QUICK = Plan(target_steps=60, draft_steps=60, num_prompts=8, new_tokens=16, draft_lengths=(4,))
QUICK = replace(QUICK, num_drafts=(1, 2), temperatures=(1.0, 1.5))


class Text(NamedTuple):
    """Training text and held-out text as ids ``(n,)``, and the size of the alphabet."""

    train: Tensor
    held_out: Tensor
    size: int


class Result(NamedTuple):
    """Block efficiency of a setting, its gain over the rule it is compared with, and their standard errors.

    The gain's error is of the paired difference over prompts; both are NaN for the reference itself.
    """

    drafts: str
    verifier: str
    num_drafts: int
    mean: float
    error: float
    gain: float = math.nan
    gain_error: float = math.nan


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


def efficiency(statistics: Statistics) -> tuple[float, Tensor]:
    """Ratio of tokens to target calls, and each sequence's part in its error, by the delta method."""
    tokens, calls = statistics.emitted.double(), statistics.target_calls.double()
    mean = tokens.sum() / calls.sum()
    return float(mean), (tokens - mean * calls) / calls.mean()


def standard_error(parts: Tensor) -> float:
    """Standard error of a mean over sequences, from each one's part."""
    return float(parts.square().mean().sqrt() / len(parts) ** 0.5)


class Results:
    """What was measured: printed, and kept in a file if there is one."""

    def __init__(self, path: Path | None) -> None:
        self.path, self.found = path, []
        if path is not None and path.exists():
            with path.open(newline="") as file:
                rows = list(csv.reader(file))
            self.found = [Result(kind, name, int(count), *map(float, rest)) for kind, name, count, *rest in rows]

    def has(self, drafts: str, verifier: str, num_drafts: int) -> bool:
        """Whether a setting was measured before."""
        return any(result[:3] == (drafts, verifier, num_drafts) for result in self.found)

    def add(self, result: Result) -> None:
        """Print and keep a result."""
        self.found.append(result)
        gain = "" if math.isnan(result.gain) else f"   gain {result.gain:+.3f} +- {result.gain_error:.3f}"
        shown = (
            f"{result.drafts:34} {result.verifier:26} {result.num_drafts:2}  {result.mean:.3f} +- {result.error:.3f}"
        )
        print(shown + gain, flush=True)
        if self.path is not None:
            with self.path.open("a", newline="") as file:
                csv.writer(file).writerow(result)


class Study:
    """Models and prompts; ``only`` picks kinds of drafts by a part of their names."""

    def __init__(self, plan: Plan, results: Results, only: str = "", only_rules: str = "") -> None:
        self.plan, self.text, self.results, self.only = plan, load_text(), results, only
        self.only_rules = {name for name in only_rules.split(";") if name}
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

    def measure(self, label: str, rules: dict[str, Any], count: int, drafts: Any, **settings: Any) -> None:
        """Decode under each rule; all are compared with one of them, prompt by prompt."""
        if self.only not in label:
            return
        reference = next(name for kind, name in REFERENCE.items() if label.startswith(kind))
        rules = {name: rules[name] for name in sorted(rules, key=lambda name: name != reference)}
        if self.only_rules:
            rules = {name: rule for name, rule in rules.items() if name in self.only_rules}
        base: tuple[float, Tensor] | None = None
        for name, verifier in rules.items():
            is_base = name == reference
            if self.results.has(label, name, count) and not is_base:
                continue
            if is_base and all(self.results.has(label, other, count) for other in rules):
                return
            mean, parts = self.decode(verifier, drafts, settings)
            gain = (math.nan, math.nan) if base is None else (mean - base[0], standard_error(parts - base[1]))
            base = (mean, parts) if is_base else base
            if not self.results.has(label, name, count):
                self.results.add(Result(label, name, count, mean, standard_error(parts), *gain))

    def decode(self, verifier: Any, drafts: Any, settings: dict[str, Any]) -> tuple[float, Tensor]:
        """Decode all prompts under one rule."""
        decoder = SpeculativeDecoder(KeyValueScorer(self.target), drafts(), verifier, **settings)
        generator = torch.Generator().manual_seed(3)
        return efficiency(
            decoder.decode(self.prompts, max_new_tokens=self.plan.new_tokens, generator=generator).statistics
        )

    def small_model(self) -> KeyValueScorer:
        """The small model with a fresh cache."""
        return KeyValueScorer(self.draft)

    def identical(self) -> None:
        """The small model at one temperature."""
        for temperature, size, count in product(self.plan.temperatures, self.plan.draft_lengths, self.plan.num_drafts):
            label = f"identical, temperature {temperature}, t = {size}"
            settings = {"num_drafts": count, "draft_length": size, "draft_processors": Temperature(temperature)}
            rules = SINGLE if count == 1 else IDENTICAL
            self.measure(label, rules, count, self.small_model, **settings)

    def trees(self) -> None:
        """Trees of the small model's tokens at temperature 1."""
        for branching in BRANCHINGS:
            leaves = math.prod(branching)
            rules = {name: TreeVerifier(rule) for name, rule in TREES.items()}
            label = f"tree {branching}"
            self.measure(label, rules, leaves, lambda shape=branching: SampledTree(KeyValueScorer(self.draft), shape))

    def different(self) -> None:
        """The small model at temperatures from the first to the last, and n-grams of different orders."""
        low, high = self.plan.temperatures[0], self.plan.temperatures[-1]
        for size, count in product(self.plan.draft_lengths, self.plan.num_drafts):
            rules = SINGLE if count == 1 else DIFFERENT
            spread = one_or_all([Temperature(value) for value in torch.linspace(low, high, count).tolist()])
            settings = {"num_drafts": count, "draft_length": size}
            label = f"temperatures {low} to {high}, t = {size}"
            self.measure(label, rules, count, self.small_model, draft_processors=spread, **settings)
            n_grams = self.n_grams[:count]
            self.measure(f"2- to 5-grams, t = {size}", rules, count, lambda n_grams=n_grams: n_grams, **settings)


def one_or_all(processors: list) -> Any:
    """One processor where there is one: the drafts are then scored and processed together."""
    return processors[0] if len(processors) == 1 else processors


def curve(results: list[Result], drafts: str, verifier: str) -> list[Result]:
    """Results of one verifier by number of drafts; with one draft most rules come to speculative sampling."""
    one = ONE_DRAFT.get(verifier, "speculative")
    first = [] if verifier in SINGLE else [r for r in results if (r.drafts, r.verifier) == (drafts, one)]
    line = sorted(result for result in results if (result.drafts, result.verifier) == (drafts, verifier))
    return [*first, *line] if line else []


def table(results: list[Result]) -> str:
    """A table in Markdown for each kind of drafts, a column for each number of drafts."""
    names = list(dict.fromkeys([*SINGLE, *IDENTICAL, *DIFFERENT]))
    lines = []
    for kind in dict.fromkeys(result.drafts for result in results):
        counts = sorted({result.num_drafts for result in results if result.drafts == kind})
        header = " | ".join(f"m = {count}" for count in counts)
        lines += [f"\n{kind}\n", f"| verifier | {header} |", "|---" * (len(counts) + 1) + "|"]
        for name in names:
            by_count = {r.num_drafts: cell(r) for r in curve(results, kind, name)}
            if by_count:
                lines.append(f"| {name} | {' | '.join(by_count.get(count, '') for count in counts)} |")
    return "\n".join(lines)


def cell(result: Result) -> str:
    """A result as it is shown in a table: the mean, and the gain with its paired error."""
    if math.isnan(result.gain):
        return f"{result.mean:.2f} ± {result.error:.2f}"
    return f"{result.mean:.2f} ({result.gain:+.2f} ± {result.gain_error:.2f})"


def plot(results: list[Result], path: Path) -> None:
    """Draw block efficiency against the number of drafts, one panel a kind of drafts."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    kinds = [kind for kind in dict.fromkeys(result.drafts for result in results) if not kind.startswith("tree")]
    names = list(dict.fromkeys([*IDENTICAL, *DIFFERENT, "speculative", "block"]))
    wide = min(len(kinds), 5)
    tall = -(-len(kinds) // wide)
    figure, axes = plt.subplots(
        tall, wide, figsize=(3.4 * wide, 4.2 * tall), sharey=True, layout="constrained", squeeze=False
    )
    axes = axes.ravel()
    for axis, kind in zip(axes, kinds, strict=False):
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
    is_ours = name in ("two-phase", "two-phase, K-SEQ", "weighted")
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
    parser.add_argument("--rules", default="", help="measure these rules, separated by semicolons")
    parser.add_argument("--num-drafts", type=int, nargs="+", help="numbers of drafts")
    parser.add_argument("--plot", type=Path, help="where to write the picture")
    arguments = parser.parse_args()
    plan = QUICK if arguments.quick else Plan()
    results = Results(arguments.output)
    started = time.process_time()
    plan = plan if arguments.prompts is None else replace(plan, num_prompts=arguments.prompts)
    plan = plan if arguments.num_drafts is None else replace(plan, num_drafts=arguments.num_drafts)
    study = Study(plan, results, arguments.only, arguments.rules)
    print(f"{'drafts':26} {'verifier':26} {'m':>2}  tokens per target call")
    study.identical()
    study.trees()
    study.different()
    print(table(results.found))
    print(f"\n{time.process_time() - started:.0f} s of processor time in all")
    if arguments.plot is not None:
        plot(results.found, arguments.plot)


if __name__ == "__main__":
    main()
