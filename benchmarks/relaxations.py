"""Speed of the relaxations against torch and Pyro, one thread, ratios from one run.

Every row runs ours and the peer's in turn, forward and backward, and reports the ratio of the medians of processor
time, which other work on the machine disturbs least.

Run: python benchmarks/relaxations.py [--quick]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from mixkit.relaxations import (
    LogRelaxedOneHot,
    gumbel_softmax,
    reinmax,
    soft_top_k,
    straight_through,
    subset_log_marginals,
    subset_log_prob,
)

Sampler = Callable[[Tensor], Tensor]


def seconds_of(run: Callable[[], object]) -> float:
    begun = time.process_time()
    run()
    return time.process_time() - begun


def side_by_side(ours: Callable[[], object], theirs: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median processor seconds of both, measured in turn after one warm-up each."""
    ours(), theirs()
    pairs = [(seconds_of(ours), seconds_of(theirs)) for _ in range(repeats)]
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


def forward_backward(sampler: Sampler, logits: Tensor, weight: Tensor) -> Callable[[], None]:
    def run() -> None:
        logits.grad = None
        sampler(logits).backward(weight)

    return run


def report(label: str, peer: str, pair: tuple[float, float]) -> None:
    ours, theirs = pair
    print(f"{label:<34}{ours * 1e3:>10.1f}{theirs * 1e3:>10.1f}{theirs / ours:>8.2f}x  {peer}")


def samplers(shape: tuple[int, int], repeats: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=generator).requires_grad_()
    weight = torch.randn(shape, generator=generator)
    torch_soft = forward_backward(lambda q: functional.gumbel_softmax(q), logits, weight)
    torch_hard = forward_backward(lambda q: functional.gumbel_softmax(q, hard=True), logits, weight)
    rows: list[tuple[str, Sampler, str, Callable[[], None]]] = [
        ("Gumbel-softmax", lambda q: gumbel_softmax(q, generator=generator), "torch gumbel_softmax", torch_soft),
        ("  hard", lambda q: gumbel_softmax(q, hard=True, generator=generator), "torch, hard=True", torch_hard),
        ("straight-through", lambda q: straight_through(q, generator=generator), "torch, hard=True", torch_hard),
        ("ReinMax", lambda q: reinmax(q, generator=generator), "torch, hard=True", torch_hard),
    ]
    print(f"\nLogits {shape[0]} x {shape[1]}, forward and backward")
    for label, sampler, peer, theirs in rows:
        report(label, peer, side_by_side(forward_backward(sampler, logits, weight), theirs, repeats))


def densities(repeats: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(256, 512, generator=generator)
    print("\nRelaxed one-hot distribution, 256 x 512: sample and log-density; share of densities that are finite")
    for temperature in (1.0, 0.1, 0.05):
        ours = LogRelaxedOneHot(temperature, logits=logits, validate_args=False)
        peer = torch.distributions.RelaxedOneHotCategorical(
            torch.tensor(temperature), logits=logits, validate_args=False
        )
        pair = side_by_side(
            lambda ours=ours: ours.log_prob(ours.rsample(generator=generator)),
            lambda peer=peer: peer.log_prob(peer.rsample()),
            repeats,
        )
        share = [float(law.log_prob(law.rsample((8,))).isfinite().float().mean()) for law in (ours, peer)]
        report(f"temperature {temperature:g}", f"torch; finite {share[0]:.1%} against {share[1]:.1%}", pair)


def sequential_log_partition(logits: Tensor, num_selected: int) -> Tensor:
    """The textbook recursion over items, one logaddexp each."""
    start = torch.full((*logits.shape[:-1], num_selected + 1), -1e30)
    table = torch.cat((torch.zeros_like(start[..., :1]), start[..., 1:]), -1)
    for item in logits.unbind(-1):
        taken = torch.cat((start[..., :1], table[..., :-1] + item.unsqueeze(-1)), -1)
        table = torch.logaddexp(table, taken)
    return table[..., -1]


def subsets(repeats: int) -> None:
    generator = torch.Generator().manual_seed(0)
    print("\nSubsets, forward and backward")
    for batch, k, num_selected in ((1024, 16, 4), (128, 128, 8), (16, 1024, 32)):
        logits = torch.randn(batch, k, generator=generator).requires_grad_()
        weight = torch.randn(batch, k, generator=generator)

        def ours(logits: Tensor = logits, weight: Tensor = weight, num_selected: int = num_selected) -> None:
            subset_log_marginals(logits, num_selected).exp().backward(weight)

        def theirs(logits: Tensor = logits, weight: Tensor = weight, num_selected: int = num_selected) -> None:
            total = sequential_log_partition(logits, num_selected).sum()
            (marginals,) = torch.autograd.grad(total, logits, create_graph=True)
            marginals.backward(weight)

        pair = side_by_side(ours, theirs, repeats)
        report(f"marginals, {batch} x {k}, K = {num_selected}", "recursion item by item", pair)


def without_peer(repeats: int) -> None:
    generator = torch.Generator().manual_seed(0)
    print("\nWithout a peer, milliseconds")
    logits = torch.randn(1024, 64, generator=generator).requires_grad_()
    weight = torch.randn(1024, 64, generator=generator)
    few = logits[:128].detach()
    mask = torch.zeros(128, 64).scatter_(1, few.topk(8).indices, 1.0)
    rows = {
        "soft top-8, 1024 x 64": forward_backward(lambda q: soft_top_k(q, 8), logits, weight),
        "Plackett-Luce sets, 128 x 64, K = 8": lambda: subset_log_prob(few, mask, 8),
    }
    for label, run in rows.items():
        print(f"{label:<36}{min(seconds_of(run) for _ in range(repeats)) * 1e3:>8.1f}")


def main(quick: bool) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{'':<34}{'ours, ms':>10}{'peer, ms':>10}{'ratio':>9}")
    samplers((8192, 64), 5 if quick else 21)
    samplers((64, 32_000) if quick else (1024, 32_000), 3 if quick else 7)
    densities(3 if quick else 11)
    subsets(3 if quick else 11)
    without_peer(3 if quick else 11)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats, smaller tensors")
    main(parser.parse_args().quick)
