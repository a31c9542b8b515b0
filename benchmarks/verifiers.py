"""Cost of one verification, beside what transformers and one sort cost in the same run.

Laws are synthetic, like those of language models; the ratios, not the milliseconds, carry over to other machines.

    python benchmarks/verifiers.py [--quick] [--device cuda]
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
    OptimalVerifier,
    RecursiveRejection,
    SamplerMatch,
    SpeculativeSampling,
    Verifier,
    WeightedVerifier,
)
from samplers.sources import invert_cdf

LENGTH = 5
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
}


def block(v: int, m: int, device: str, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits and drafts drawn from them; all drafts share one law at each position."""
    generator = torch.Generator().manual_seed(seed)
    target = 2.5 * torch.randn(1, 1, LENGTH + 1, v, generator=generator)
    draft = (target[:, :, :LENGTH] + 1.2 * torch.randn(1, 1, LENGTH, v, generator=generator)) / 1.2
    tokens = invert_cdf(
        draft.softmax(-1).expand(1, m, LENGTH, v), torch.rand(1, m, LENGTH, generator=generator, dtype=torch.float64)
    )
    return target.to(device).expand(1, m, -1, v), draft.to(device).expand(1, m, -1, v), tokens.to(device)


def clock(work: Callable[[int], object], blocks: int, repeats: int, device: str) -> float:
    """Mean over blocks of the fastest of ``repeats`` runs, in milliseconds."""
    total = 0.0
    for i in range(blocks):
        best = float("inf")
        for _ in range(repeats):
            start = time.perf_counter()
            work(i)
            if device != "cpu":
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - start)
        total += best
    return 1e3 * total / blocks


def transformers_time(blocks: list, v: int, repeats: int, device: str) -> float | None:
    """Time of transformers' own rule on the first draft, or None where it is not installed."""
    try:
        from transformers.generation.utils import _speculative_sampling
    except ImportError:
        return None
    prompt = torch.zeros(1, 3, dtype=torch.long, device=device)

    def work(i: int) -> object:
        target, draft, tokens = (part[:, 0] for part in blocks[i])
        return _speculative_sampling(torch.cat([prompt, tokens], 1), draft, LENGTH, target, False)

    return clock(work, len(blocks), repeats, device)


def verifier_time(verifier: Verifier, blocks: list, repeats: int, device: str) -> float:
    """Time of one verification of a whole block."""
    generator = torch.Generator(device).manual_seed(0)
    return clock(lambda i: verifier.verify(*blocks[i], generator=generator), len(blocks), repeats, device)


def node_time(verifier: Verifier, blocks: list, repeats: int, device: str) -> float:
    """Time of one node: the first position alone."""
    first = [(target[:, :, :2], draft[:, :, :1], tokens[:, :, :1]) for target, draft, tokens in blocks]
    return verifier_time(verifier, first, repeats, device)


def table(v: int, num_blocks: int, repeats: int, device: str) -> None:
    blocks = {m: [block(v, m, device, seed) for seed in range(num_blocks)] for m in (1, 2, 4, 8)}
    rival = transformers_time(blocks[1], v, repeats, device)
    sort = clock(lambda i: blocks[1][i][0][0, 0, 0].sort(), num_blocks, repeats, device)
    print(f"\nv = {v:,}, t = {LENGTH}, {device}, {torch.get_num_threads()} thread(s)")
    print(f"one torch.sort of a row {sort:.2f} ms" + (f"; transformers, one draft {rival:.2f} ms" if rival else ""))
    if rival:
        print("\none draft               ms   transformers / ours")
        for name, verifier in SINGLE.items():
            ours = verifier_time(verifier, blocks[1], repeats, device)
            print(f"{name:18s} {ours:7.2f}   {rival / ours:5.1f}")
    print("\n                     whole block, ms             one node, in sorts of a row")
    print("drafts               2       4       8             2      4      8")
    for name, verifier in MANY.items():
        whole = [verifier_time(verifier, blocks[m], repeats, device) for m in (2, 4, 8)]
        node = [node_time(verifier, blocks[m], repeats, device) / sort for m in (2, 4, 8)]
        print(f"{name:18s}" + "".join(f"{x:8.2f}" for x in whole) + "     " + "".join(f"{x:7.2f}" for x in node))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small vocabulary, few repeats")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for v in [4096] if arguments.quick else [32_000, 128_256]:
        table(v, *((2, 2) if arguments.quick else (4, 5)), arguments.device)


if __name__ == "__main__":
    main()
