"""Relaxations on a GPU: results against the CPU in float64, and times beside torch's Gumbel-softmax.

Every row runs on CUDA, forward and backward. Results that are no draws are compared with the same call on the CPU in
float64; draws are compared with their distribution, by the largest difference of frequencies. Without a GPU it says so
and ends with 0. It takes less than two minutes.

Run: python benchmarks/gpu.py [--quick]
"""

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from mixkit.gates.normalizers import Entmax, Sparsemax
from mixkit.relaxations import (
    ExponentialFamilySubset,
    LogRelaxedOneHot,
    Simple,
    gumbel_softmax,
    reinmax,
    soft_top_k,
    straight_through,
    subset_log_marginals,
    subset_log_prob,
)

Call = Callable[[Tensor], Tensor]


def milliseconds(call: Call, logits: Tensor, repeats: int) -> float:
    """The fastest of ``repeats`` runs, forward and backward, after a warm-up."""
    weight = torch.randn_like(call(logits.detach()))
    times = []
    for _ in range(repeats + 1):
        leaf = logits.detach().clone().requires_grad_()
        torch.cuda.synchronize()
        begun = time.perf_counter()
        call(leaf).backward(weight)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    return min(times[1:]) * 1e3


def error(call: Call, logits: Tensor) -> float:
    """The largest difference, relative to one or more, from the call on the CPU in float64."""
    found, expected = call(logits).double().cpu(), call(logits.double().cpu())
    finite = expected.isfinite()
    if not torch.equal(found.isfinite(), finite):
        return float("inf")
    return float(((found - expected)[finite].abs() / (1.0 + expected[finite].abs())).amax())


def frequency_error(call: Call, k: int, num_selected: int) -> float:
    """The largest difference between the frequencies of 200,000 draws and their probabilities."""
    logits = torch.linspace(0.0, 2.0, k, device="cuda")
    found = call(logits.expand(200_000, -1)).double().mean(0).cpu()
    exact = ExponentialFamilySubset(num_selected, logits.double().cpu()).mean
    return float((found - exact).abs().amax())


def first_eight(logits: Tensor) -> Tensor:
    return (torch.arange(logits.shape[-1], device=logits.device) < 8).to(logits).expand(logits.shape)


DETERMINISTIC: dict[str, Call] = {
    "soft top-8": lambda q: soft_top_k(q, 8),
    "subset marginals, K = 8": lambda q: subset_log_marginals(q, 8),
    "Plackett-Luce sets, K = 8": lambda q: subset_log_prob(q, first_eight(q), 8),
    "relaxed density": lambda q: LogRelaxedOneHot(0.3, logits=q, validate_args=False).log_prob(q.log_softmax(-1)),
    "sparsemax": lambda q: Sparsemax()(q),
    "entmax 1.5": lambda q: Entmax(1.5)(q),
}
DRAWS: dict[str, Call] = {
    "Gumbel-softmax": lambda q: gumbel_softmax(q),
    "Gumbel-softmax, hard": lambda q: gumbel_softmax(q, hard=True),
    "straight-through": lambda q: straight_through(q),
    "ReinMax": lambda q: reinmax(q),
}


def main(quick: bool) -> None:
    if not torch.cuda.is_available():
        print("No CUDA device: nothing is measured.")
        return
    torch.manual_seed(0)
    repeats = 3 if quick else 15
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    print(f"{'512 x 128, float32':<32}{'ms':>10}{'error against float64 on the CPU':>36}")
    logits = torch.randn(512, 128, device="cuda")
    for label, call in DETERMINISTIC.items():
        print(f"{label:<32}{milliseconds(call, logits, repeats):>10.2f}{error(call, logits):>36.1e}")
    for rows, k in ((8192, 64), (1024, 32_000)):
        logits = torch.randn(rows, k, device="cuda")
        peer = milliseconds(lambda q: functional.gumbel_softmax(q, hard=True), logits, repeats)
        print(f"\n{f'{rows} x {k}, draws':<32}{'ms':>10}{'torch, hard, over ours':>26}{'error of frequencies':>24}")
        for label, call in DRAWS.items():
            ours = milliseconds(call, logits, repeats)
            wrong = f"{frequency_error(call, 8, 1):.1e}" if label != "Gumbel-softmax" else "relaxed"
            print(f"{label:<32}{ours:>10.2f}{peer / ours:>25.2f}x{wrong:>24}")
    print(f"\nSimple, K = 3 of 8: error of frequencies {frequency_error(lambda q: Simple()(q, 3), 8, 3):.1e}")
    print("(the standard deviation of a frequency is at most 1.1e-03)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    main(parser.parse_args().quick)
