"""Peak memory of a fit beyond its data, as n grows: linear, and under 4 GiB for 10 million rows of d = 10, k = 5.

Run ``python benchmarks/memory.py`` for 10 million rows after 1, 2 and 4 million (minutes, and up to 5 GiB);
``--quick`` for some thousands; ``--rows N ...`` for sizes of your own. Every size runs in a process of its own.
"""

import argparse
import time
import warnings

import numpy as np
import torch
from _measure import in_fresh_process, peak_memory
from _problems import random_problem
from torch import Tensor

from estimators import EM, FitResult
from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate

_FEATURES, _EXPERTS = 10, 5
_BLOCK = 100_000
_TARGET = 4 * 2**30


def data(n: int) -> tuple[Tensor, Tensor]:
    """``x (n, d)`` and ``y (n,)``, made in blocks, so that the data are most of what the process ever held."""
    truth = random_problem(1, _EXPERTS, _FEATURES, seed=0)[2]
    generator = torch.Generator().manual_seed(1)
    x, y = torch.empty((n, _FEATURES), dtype=torch.float64), torch.empty(n, dtype=torch.float64)
    x.normal_(generator=generator)
    for rows in torch.arange(n).split(_BLOCK):
        block = slice(int(rows[0]), int(rows[-1]) + 1)
        y[block] = truth.sample(x[block], generator=generator)
    return x, y


def fit(x: Tensor, y: Tensor) -> FitResult:
    """The default EM from one start."""
    generator = torch.Generator().manual_seed(0)
    gate = softmax_gate(_FEATURES, _EXPERTS, generator=generator)
    model = MixtureOfExperts(gate, linear_gaussian_experts(_FEATURES, _EXPERTS, generator=generator))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return EM(n_init=1, n_moves=0, random_state=0).fit(model, x, y)


def measure(n: int) -> tuple[int, int, float, bool]:
    """Bytes of the data, bytes of the fit beyond what the process held before it, seconds, convergence."""
    torch.set_num_threads(1)
    fit(*data(2_000))
    x, y = data(n)
    before, started = peak_memory(), time.process_time()
    result = fit(x, y)
    size = x.element_size() * (x.numel() + y.numel())
    return size, peak_memory() - before, time.process_time() - started, result.converged


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20,000 to 80,000 rows")
    parser.add_argument("--rows", type=int, nargs="+", help="sizes of your own")
    args = parser.parse_args()
    default = [20_000, 40_000, 80_000] if args.quick else [1_000_000, 2_000_000, 4_000_000, 10_000_000]
    sizes = args.rows or default
    print(f"{'rows':>12}{'data MiB':>10}{'beyond MiB':>12}{'bytes a row':>13}{'seconds':>9}  converged")
    beyond = []
    for n in sizes:
        size, extra, seconds, converged = in_fresh_process(measure, n)
        beyond.append(extra)
        print(f"{n:>12,}{size / 2**20:>10.0f}{extra / 2**20:>12.0f}{extra / n:>13.1f}{seconds:>9.1f}  {converged}")
    if len(sizes) > 1:
        slope, constant = np.polyfit(sizes, beyond, 1)
        print(f"\nLeast squares: {constant / 2**20:.0f} MiB + {slope:.1f} bytes a row")
    print(
        f"Largest: {max(beyond) / 2**30:.2f} GiB beyond the data ({max(beyond) / _TARGET:.0%} of the target of 4 GiB)"
    )


if __name__ == "__main__":
    main()
