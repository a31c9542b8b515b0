"""Cost of one verification, beside what transformers and one sort cost in the same run.

Everything that is compared is run in turn, a few times each, in one loop, so that what else runs on the machine weighs
on all alike; a time is that of the best of those turns, averaged over blocks. On a CPU it is processor time of one
thread. Distributions are synthetic, like those of language models; ratios carry over to other machines, milliseconds do
not.

    python benchmarks/verifiers.py [--quick] [--device cuda] [--only gumbel] [--kept 50]

With ``--kept`` all rows are truncated to so many tokens, as top-k does.
"""

import argparse
import time
from collections.abc import Callable

import torch

from samplers import (
    BlockVerification,
    GumbelListCoupling,
    ImportanceWeighted,
    KSequential,
    MultiBlockVerifier,
    OptimalVerifier,
    RecursiveRejection,
    SamplerMatch,
    SpeculativeSampling,
    Verifier,
    WeightedVerifier,
)
from samplers.verification.sources import invert_cdf

Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Work = Callable[[Inputs], object]
LENGTH = 5
COUNTS = (2, 4, 8)
FEW, LONG_ENOUGH = 8, 0.02
SINGLE: dict[str, Verifier] = {"speculative": SpeculativeSampling(), "block": BlockVerification()}
MANY: dict[str, Verifier] = {
    "match": SamplerMatch(),
    "recursive": RecursiveRejection(),
    "k-sequential": KSequential(),
    "optimal": OptimalVerifier(),
    "optimal, 1024 bins": OptimalVerifier(bins=1024),
    "weighted": WeightedVerifier(),
    "importance": ImportanceWeighted(),
    "gumbel": GumbelListCoupling(),
    "two-phase, K-SEQ": MultiBlockVerifier(budgets="k-seq"),
    "two-phase": MultiBlockVerifier(),
}
DIFFERENT = ("match", "recursive", "weighted", "importance", "gumbel")


def block(
    v: int, m: int, device: str, seed: int, num_laws: int = 1, kept: int | None = None, length: int = LENGTH
) -> Inputs:
    """Logits and drafts drawn from them; at each position drafts share one distribution, or have ``num_laws = m``."""
    generator = torch.Generator().manual_seed(seed)
    target = 2.5 * torch.randn(1, 1, length + 1, v, generator=generator)
    draft = (target[:, :, :length] + 1.2 * torch.randn(1, num_laws, length, v, generator=generator)) / 1.2
    if kept is not None:
        target, draft = (
            part.masked_fill(part < part.topk(kept).values[..., -1:], -torch.inf) for part in (target, draft)
        )
    tokens = invert_cdf(
        draft.softmax(-1).expand(1, m, length, v), torch.rand(1, m, length, generator=generator, dtype=torch.float64)
    )
    return target.to(device).expand(1, m, -1, v), draft.to(device).expand(1, m, -1, v), tokens.to(device)


def clock(works: dict[str, Work], blocks: list[Inputs], turns: int, device: str) -> dict[str, float]:
    """Milliseconds of each work: the best of ``turns`` in which all take their turn, averaged over blocks."""
    total = dict.fromkeys(works, 0.0)
    for inputs in blocks:
        spent: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(turns):
            for name, work in works.items():
                spent[name].append(seconds(work, inputs, device))
        for name, times in spent.items():
            total[name] += 1e3 * min(times) / len(blocks)
    return total


def seconds(work: Work, inputs: Inputs, device: str) -> float:
    """Time of one run among a few, so that short ones are not measured by their first touch of cold memory alone."""
    now = time.process_time if device == "cpu" else time.perf_counter
    start, count = now(), 0
    while count < FEW and now() - start < LONG_ENOUGH:
        work(inputs)
        if device != "cpu":
            torch.cuda.synchronize()
        count += 1
    return (now() - start) / count


def transformers_rule(device: str) -> Work:
    """Transformers' own rule on the first draft."""
    from transformers.generation.utils import _speculative_sampling

    prompt = torch.zeros(1, 3, dtype=torch.long, device=device)

    def work(inputs: Inputs) -> object:
        target, draft, tokens = (part[:, 0] for part in inputs)
        return _speculative_sampling(torch.cat([prompt, tokens], 1), draft, LENGTH, target)

    return work


def verify_with(verifier: Verifier, device: str) -> Work:
    """One verification of a whole block."""
    generator = torch.Generator(device).manual_seed(0)
    return lambda inputs: verifier.verify(*inputs, generator=generator)


def first_node(inputs: Inputs) -> Inputs:
    """The first position alone."""
    target, draft, tokens = inputs
    return target[:, :, :2], draft[:, :, :1], tokens[:, :, :1]


def one_draft(v: int, num_blocks: int, turns: int, device: str, kept: int | None) -> None:
    """Rules of one draft beside transformers."""
    works = {"transformers": transformers_rule(device)}
    works |= {name: verify_with(verifier, device) for name, verifier in SINGLE.items()}
    found = clock(works, [block(v, 1, device, seed, kept=kept) for seed in range(num_blocks)], turns, device)
    print("\n| one draft | ms | transformers / ours |\n|---|---|---|")
    for name, spent in found.items():
        print(f"| {name} | {spent:.2f} | {found['transformers'] / spent:.1f} |")


def many_drafts(
    v: int, num_blocks: int, turns: int, device: str, rules: dict[str, Verifier], different: bool, kept: int | None
) -> None:
    """Rules of many drafts beside one sort of a row."""
    works: dict[str, Work] = {"sort": lambda inputs: inputs[0][0, 0, 0].sort()}
    works |= {name: verify_with(verifier, device) for name, verifier in rules.items()}
    whole, node = {}, {}
    for m in COUNTS:
        blocks = [block(v, m, device, seed, m if different else 1, kept) for seed in range(num_blocks)]
        whole[m] = clock(works, blocks, turns, device)
        node[m] = clock(works, [first_node(inputs) for inputs in blocks], turns, device)
    print(f"\none torch.sort of a row: {node[COUNTS[0]]['sort']:.2f} ms")
    print(
        f"\n| {'different' if different else 'identical'} drafts |" + "".join(f" block, ms, m = {m} |" for m in COUNTS),
        end="",
    )
    print("".join(f" node, sorts, m = {m} |" for m in COUNTS) + "\n" + "|---" * (1 + 2 * len(COUNTS)) + "|")
    for name in rules:
        print(f"| {name} |" + "".join(f" {whole[m][name]:.1f} |" for m in COUNTS), end="")
        print("".join(f" {node[m][name] / node[m]['sort']:.2f} |" for m in COUNTS), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small vocabulary, few turns")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="", help="rules of many drafts whose name holds this")
    parser.add_argument("--kept", type=int, help="truncate all rows to so many tokens")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for v in [4096] if arguments.quick else [32_000, 128_256]:
        print(f"\n## v = {v:,}, t = {LENGTH}, {arguments.device}, {torch.get_num_threads()} thread(s)")
        num_blocks, turns = (2, 2) if arguments.quick else (4, 3)
        one_draft(v, 4 * num_blocks, 2 * turns, arguments.device, arguments.kept)
        rules = {name: verifier for name, verifier in MANY.items() if arguments.only in name}
        many_drafts(v, num_blocks, turns, arguments.device, rules, False, arguments.kept)
        rules = {name: verifier for name, verifier in rules.items() if name in DIFFERENT}
        many_drafts(v, num_blocks, turns, arguments.device, rules, True, arguments.kept)


if __name__ == "__main__":
    main()
