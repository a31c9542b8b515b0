"""Gates and normalizers beside their peers, forward and backward, as ratios of one run.

Run ``python benchmarks/gates.py`` (``--quick`` for a few small sizes). A ratio below 1 means that ours is faster. The
peers are bare torch without checks, and the entmax package where it is installed.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear

from mixkit.gates import softmax_gate, topk_gate
from mixkit.gates.normalizers import (
    Entmax,
    NormalizedSigmoid,
    Normalizer,
    Sinkhorn,
    Softmax,
    SoftplusL1,
    Sparsemax,
    StableMax,
)

try:
    import entmax
except ImportError:  # pragma: no cover
    entmax = None

Run = Callable[[], None]


def seconds(run: Run, repeats: int) -> float:
    started = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - started) / repeats


def compare(ours: Run, peer: Run, repeats: int) -> tuple[float, float, float]:
    """Median milliseconds of both, measured in turn, and the median of their ratios."""
    ours(), peer()
    pairs = [(seconds(ours, 1), seconds(peer, 1)) for _ in range(repeats)]
    mine, theirs = (statistics.median(times) * 1e3 for times in zip(*pairs, strict=True))
    return mine, theirs, statistics.median(a / b for a, b in pairs)


def forward_and_backward(function: Callable[..., Tensor], *leaves: Tensor) -> Run:
    def run() -> None:
        for leaf in leaves:
            leaf.grad = None
        function(*leaves).square().sum().backward()

    return run


def weights_of(normalizer: Normalizer) -> Callable[[Tensor], Tensor]:
    return lambda scores: normalizer(scores).exp()


def normalizer_rows(n: int, k: int, generator: torch.Generator) -> list[tuple[str, str, Run, Run]]:
    scores = (2 * torch.randn(n, k, generator=generator)).requires_grad_()
    softmax = forward_and_backward(lambda s: torch.softmax(s, -1), scores)
    size = f"{n} x {k}"
    rows = [
        (
            f"{type(normalizer).__name__} {size}",
            "softmax",
            forward_and_backward(weights_of(normalizer), scores),
            softmax,
        )
        for normalizer in (Softmax(), NormalizedSigmoid(), SoftplusL1(), StableMax(), Sinkhorn(10))
    ]
    if entmax is not None:
        half, sparse = (forward_and_backward(weights_of(m), scores) for m in (Entmax(1.5), Sparsemax()))
        rows += [
            (f"Entmax(1.5) {size}", "entmax15", half, forward_and_backward(entmax.entmax15, scores)),
            (
                f"Entmax(1.5) {size}",
                "entmax_bisect",
                half,
                forward_and_backward(lambda s: entmax.entmax_bisect(s, 1.5), scores),
            ),
            (f"Sparsemax {size}", "sparsemax", sparse, forward_and_backward(entmax.sparsemax, scores)),
        ]
    return rows


def bare_softmax(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.log_softmax(linear(x, weight, bias), -1).exp()


def bare_topk(x: Tensor, weight: Tensor, bias: Tensor, num_selected: int) -> Tensor:
    scores = linear(x, weight, bias)
    values, indices = scores.topk(num_selected, -1)
    return torch.log_softmax(torch.full_like(scores, -torch.inf).scatter(-1, indices, values), -1).exp()


def gate_rows(n: int, d: int, k: int, generator: torch.Generator) -> list[tuple[str, str, Run, Run]]:
    x = torch.randn(n, d, generator=generator)
    weight = torch.randn(k, d, generator=generator).requires_grad_()
    bias = torch.zeros(k, requires_grad=True)
    dense, sparse = softmax_gate(d, k, generator=generator), topk_gate(d, k, 2, generator=generator)

    def ours(gate: torch.nn.Module) -> Run:
        return forward_and_backward(lambda *_: gate(x).exp(), *gate.parameters())

    bare = forward_and_backward(lambda w, b: bare_softmax(x, w, b), weight, bias)
    bare_sparse = forward_and_backward(lambda w, b: bare_topk(x, w, b, 2), weight, bias)
    size = f"n={n} d={d} k={k}"
    return [
        (f"softmax_gate {size}", "torch", ours(dense), bare),
        (f"topk_gate {size}", "topk, scatter", ours(sparse), bare_sparse),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, three repeats")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    sizes = [(512, 8)] if quick else [(8192, 8), (8192, 64), (1024, 1000)]
    designs = [(1000, 5, 4)] if quick else [(100_000, 10, 5), (8192, 256, 64)]
    rows = [row for n, k in sizes for row in normalizer_rows(n, k, generator)]
    rows += [row for n, d, k in designs for row in gate_rows(n, d, k, generator)]
    print(f"{'ours':<32}{'ms':>10}   {'peer':<16}{'ms':>10}{'ratio':>9}")
    for name, peer_name, ours, peer in rows:
        mine, theirs, ratio = compare(ours, peer, 3 if quick else 11)
        print(f"{name:<32}{mine:>10.2f}   {peer_name:<16}{theirs:>10.2f}{ratio:>9.2f}")


if __name__ == "__main__":
    main()
