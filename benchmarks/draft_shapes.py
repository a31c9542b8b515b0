"""Which rule, number of drafts and draft length give the most tokens a second, by the cost of a target call.

Target calls are counted in real decodings (the models of ``block_efficiency.py``). Time is a model: a target call costs
what is given, a call of the draft a twentieth of it, and a verification what it takes here at a vocabulary of 32,000 on
one thread. Nothing sleeps. The second table sets tokens a call beside what `samplers.acceptance.expected_tokens`
expects from rows of the two models on held-out text.

    python benchmarks/draft_shapes.py [--prompts 48] [--plot docs/images/draft_shapes.png]
"""

import argparse
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import torch
from block_efficiency import CONTEXT, Plan, Results, Study, windows
from verifiers import block, clock, verify_with

from samplers import BlockVerification, MultiBlockVerifier, OptimalVerifier, SpeculativeSampling, Verifier
from samplers.acceptance import RoundCost, expected_tokens

CALLS = (0.01, 0.03, 0.1)
DRAFT_SHARE = 0.05
VOCABULARY = 32_000
LENGTHS, COUNTS = (2, 4, 8), (1, 2, 4, 8)
ONE: dict[str, Verifier] = {"speculative": SpeculativeSampling(), "block": BlockVerification()}
MANY: dict[str, Verifier] = {
    "optimal": OptimalVerifier(),
    "two-phase, K-SEQ": MultiBlockVerifier(budgets="k-seq"),
    "two-phase": MultiBlockVerifier(),
}


class Setting(NamedTuple):
    """A rule with a number of drafts and a draft length."""

    rule: str
    m: int
    t: int


def measure(study: Study) -> dict[Setting, tuple[float, float]]:
    """Tokens a target call, and seconds of a verification, of every setting."""
    found = {}
    for m, t in product(COUNTS, LENGTHS):
        rules = ONE if m == 1 else MANY
        works = {name: verify_with(rule, "cpu") for name, rule in rules.items()}
        spent = clock(works, [block(VOCABULARY, m, "cpu", seed, length=t) for seed in range(3)], 3, "cpu")
        for name, rule in rules.items():
            tokens, _ = study.decode(rule, study.small_model, {"num_drafts": m, "draft_length": t})
            found[Setting(name, m, t)] = tokens, spent[name] / 1e3
    return found


def speed(setting: Setting, tokens: float, verify: float, call: float) -> float:
    """Tokens a second."""
    cost = RoundCost(target=call, draft=DRAFT_SHARE * call, verify=verify)
    return tokens / cost.seconds((setting.m, *[1] * (setting.t - 1)))


def best_table(found: dict[Setting, tuple[float, float]]) -> None:
    """The best m and t of each rule, by the cost of a target call."""
    print("\n| rule |" + "".join(f" target call {1e3 * call:.0f} ms |" for call in CALLS))
    print("|---" * (1 + len(CALLS)) + "|")
    print("| none |" + "".join(f" {1 / call:.0f} |" for call in CALLS))
    for rule in (*ONE, *MANY):
        cells = []
        for call in CALLS:
            speeds = {s: speed(s, *values, call) for s, values in found.items() if s.rule == rule}
            best = max(speeds, key=speeds.__getitem__)
            cells.append(f" {speeds[best]:.1f} (m = {best.m}, t = {best.t}) |")
        print(f"| {rule} |" + "".join(cells))


@torch.no_grad()
def forecast_table(study: Study, found: dict[Setting, tuple[float, float]]) -> None:
    """Tokens a target call, counted and expected from rows."""
    ids = windows(study.text.held_out, 16, CONTEXT, torch.Generator().manual_seed(4))
    target, draft = (model(ids).logits[:, 32::8].flatten(0, 1).softmax(-1) for model in (study.target, study.draft))
    print("\n| rule | m | t | counted | expected |\n|---|---|---|---|---|")
    for setting, (tokens, _) in found.items():
        rule = ONE.get(setting.rule, MANY.get(setting.rule))
        if setting.t == 4 and not isinstance(rule, BlockVerification):
            expected = expected_tokens(rule, target, draft, (setting.m, 1, 1, 1), num_samples=512)
            mean = f"{expected.mean:.2f} ± {expected.error:.2f}"
            print(f"| {setting.rule} | {setting.m} | {setting.t} | {tokens:.2f} | {mean} |")


def plot(found: dict[Setting, tuple[float, float]], path: Path) -> None:
    """Tokens a second over plain decoding, against the number of drafts at the best length."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(CALLS), figsize=(4 * len(CALLS), 3.6), sharey=True, layout="constrained")
    for axis, call in zip(axes, CALLS, strict=True):
        for rule in (*ONE, *MANY):
            best: dict[int, float] = {}
            for setting, values in found.items():
                if setting.rule == rule:
                    best[setting.m] = max(best.get(setting.m, 0.0), call * speed(setting, *values, call))
            axis.plot(list(best), list(best.values()), marker="o", label=rule)
        axis.set(title=f"target call {1e3 * call:.0f} ms", xlabel="number of drafts", xticks=COUNTS)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("speed over plain decoding")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    print(f"plot: {path}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=48, help="number of sequences decoded in each setting")
    parser.add_argument("--plot", type=Path, help="where to write the picture")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    study = Study(replace(Plan(), num_prompts=arguments.prompts), Results(None))
    found = measure(study)
    best_table(found)
    forecast_table(study, found)
    if arguments.plot is not None:
        plot(found, arguments.plot)


if __name__ == "__main__":
    main()
