"""Truncation of logits beside transformers' own warpers, in processor time of one thread, as ratios of one run.

Run ``python benchmarks/processors.py`` (``--quick`` for one size and few inputs). A ratio above 1 means that ours is
faster; both take their turn on each input. Rows have three shapes: ``flat`` (normal scores of scale 1), ``medium`` (3)
and ``peaked`` (6); "kept" is how many tokens both keep, which are checked to be the same.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from transformers.generation import logits_process as peers

from samplers.processors import Epsilon, Eta, MinP, Processor, TopK, TopP, Typical

FEW = 4
SHAPES = {"flat": 1.0, "medium": 3.0, "peaked": 6.0}
PAIRS: list[tuple[Processor, peers.LogitsProcessor]] = [
    (TopP(0.9), peers.TopPLogitsWarper(0.9)),
    (Typical(0.9), peers.TypicalLogitsWarper(0.9)),
    (TopK(50), peers.TopKLogitsWarper(50)),
    (MinP(0.05), peers.MinPLogitsWarper(0.05)),
    (Epsilon(3e-4), peers.EpsilonLogitsWarper(3e-4)),
    (Eta(3e-4), peers.EtaLogitsWarper(3e-4)),
]


def seconds(run: Callable[[], Tensor]) -> float:
    """Processor time of one run among a few: what else runs on the machine does not count."""
    started = time.process_time()
    for _ in range(FEW):
        run()
    return (time.process_time() - started) / FEW


def compare(ours: Processor, peer: peers.LogitsProcessor, rows: list[Tensor]) -> tuple[float, float, float]:
    """Median milliseconds a call of both, measured in turn on each of the rows, and the median of their ratios."""
    ids = torch.zeros(1, 1, dtype=torch.long)
    ours(ids, rows[0]), peer(ids, rows[0])
    pairs = [(seconds(lambda row=row: ours(ids, row)), seconds(lambda row=row: peer(ids, row))) for row in rows]
    mine, theirs = (statistics.median(times) * 1e3 for times in zip(*pairs, strict=True))
    return mine, theirs, statistics.median(b / a for a, b in pairs)


def table(size: int, batch: int, count: int, generator: torch.Generator) -> None:
    """Compare all rules on ``count`` inputs ``(batch, size)`` of each shape."""
    ids = torch.zeros(1, 1, dtype=torch.long)
    for shape, scale in SHAPES.items():
        rows = [scale * torch.randn(batch, size, generator=generator) for _ in range(count)]
        for ours, peer in PAIRS:
            same = all(torch.equal(ours(ids, row), peer(ids, row)) for row in rows)
            kept = statistics.median(int((ours(ids, row) > -torch.inf).sum()) / batch for row in rows)
            mine, theirs, ratio = compare(ours, peer, rows)
            name = type(ours).__name__
            print(
                f"{name:10} {size:7} {batch:5} {shape:8} {kept:7.0f} {mine:9.3f} {theirs:9.3f} {ratio:6.1f}x  {same}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one size, few inputs")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    columns = f"{'rule':10} {'v':>7} {'batch':>5} {'rows':8} {'kept':>7} {'ours ms':>9} {'peer ms':>9} {'faster':>7}"
    print(f"{columns}  same kept set")
    for size, batch in [(32_000, 1)] if quick else [(32_000, 1), (32_000, 8), (128_256, 1), (128_256, 8)]:
        table(size, batch, 3 if quick else 9, generator)


if __name__ == "__main__":
    main()
