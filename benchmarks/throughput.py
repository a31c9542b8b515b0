"""Rows a second of fits to streams, beside the fit to all rows and two of scikit-learn's learners on streams.

Run ``python benchmarks/throughput.py`` (minutes); ``--quick`` for small sizes; ``--rows N ...`` for sizes of your own.

Rows are drawn in blocks as they are needed, so a stream holds one block; the full fit holds them all. Every method runs
in a process of its own on one thread, after a small fit that loads its code. Times are processor seconds without
the drawing, the least of several repeats; memory is what the process took beyond that small fit at its peak, rows
included. The yardsticks do less: ``SGDRegressor`` fits one line, ``MiniBatchKMeans`` finds centers.

The second table shows what one pass costs in accuracy: distances between the estimates of the stream and those of the
full fit to the same rows, in standard errors of the latter; and what the stream lacks of the full maximum.
"""

import argparse
import os
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from _measure import in_fresh_process, peak_memory
from _problems import REFERENCE, random_problem
from sklearn.cluster import MiniBatchKMeans
from sklearn.linear_model import SGDRegressor
from torch import Tensor

from estimators import EM, FitResult, MixtureOfExpertsRegressor
from estimators.streaming import StochasticEM, StreamResult
from mixkit import MixingMeasure, MixtureOfExperts, linear_gaussian_experts, softmax_gate

_BLOCK = 20_000
_WARM_UP = 8_000
_MOST_COMPARED = 1_000_000
_FIELDS = ("gate_bias", "gate_weight", "slope", "intercept", "variance")


class Problem(NamedTuple):
    """d covariates, k experts; d = 1 is the reference problem, x uniform on [0, 1]."""

    d: int
    k: int

    def truth(self) -> MixingMeasure:
        """The parameters the rows are drawn from."""
        return REFERENCE if self.d == 1 else random_problem(1, self.k, self.d, seed=0)[2]

    def blocks(self, n: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows in blocks: the same for the same seed, however many are asked for."""
        truth, generator = self.truth(), torch.Generator().manual_seed(seed)
        for start in range(0, n, _BLOCK):
            size = min(_BLOCK, n - start)
            draw = torch.rand if self.d == 1 else torch.randn
            x = draw((size, self.d), generator=generator, dtype=torch.float64)
            yield x, truth.sample(x, generator=generator)

    def model(self) -> MixtureOfExperts:
        """A fresh model of the right form."""
        generator = torch.Generator().manual_seed(0)
        gate = softmax_gate(self.d, self.k, generator=generator)
        return MixtureOfExperts(gate, linear_gaussian_experts(self.d, self.k, generator=generator))


class Clock:
    """Processor seconds spent inside ``with``, summed."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._start = time.process_time()

    def __exit__(self, *exc: object) -> None:
        self.seconds += time.process_time() - self._start


def stochastic_em(problem: Problem, n: int, seed: int, clock: Clock) -> StreamResult:
    with clock:
        stream = StochasticEM(random_state=seed).stream(problem.model())
    for x, y in problem.blocks(n, seed):
        with clock:
            stream.partial_fit(x, y)
    with clock:
        return stream.result()


def regressor(problem: Problem, n: int, seed: int, clock: Clock) -> Any:
    with clock:
        model = MixtureOfExpertsRegressor(problem.k, random_state=seed)
    for x, y in problem.blocks(n, seed):
        arrays = x.numpy(), y.numpy()
        with clock:
            model.partial_fit(*arrays)
    with clock:
        return model.result_


def full_em(problem: Problem, n: int, seed: int, clock: Clock) -> FitResult:
    x, y = (torch.cat(part) for part in zip(*problem.blocks(n, seed), strict=True))
    with clock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return EM(random_state=seed).fit(problem.model(), x, y)


def sgd(problem: Problem, n: int, seed: int, clock: Clock) -> None:
    model = SGDRegressor(random_state=seed)
    for x, y in problem.blocks(n, seed):
        arrays = x.numpy(), y.numpy()
        with clock:
            model.partial_fit(*arrays)


def kmeans(problem: Problem, n: int, seed: int, clock: Clock) -> None:
    model = MiniBatchKMeans(problem.k, random_state=seed, n_init=3)
    for x, y in problem.blocks(n, seed):
        points = torch.cat([x, y.unsqueeze(-1)], -1).numpy()
        with clock:
            model.partial_fit(points)


METHODS: dict[str, Callable[[Problem, int, int, Clock], Any]] = {
    "EM, all rows": full_em,
    "StochasticEM": stochastic_em,
    "regressor.partial_fit": regressor,
    "SGDRegressor": sgd,
    "MiniBatchKMeans": kmeans,
}


def measure(name: str, problem: Problem, n: int, repeats: int) -> tuple[float, int]:
    """Least processor seconds, and bytes beyond the warm-up."""
    torch.set_num_threads(1)
    METHODS[name](problem, _WARM_UP, 1, Clock())
    before, seconds = peak_memory(), []
    for _ in range(repeats):
        clock = Clock()
        METHODS[name](problem, n, 0, clock)
        seconds.append(clock.seconds)
    return min(seconds), peak_memory() - before


def speeds(problems: list[Problem], sizes: list[int], repeats: int) -> None:
    """The first table."""
    for problem in problems:
        print(f"\nd={problem.d}, k={problem.k}")
        print(f"{'n':>12}  {'method':<24}{'seconds':>9}{'rows a second':>16}{'ratio':>8}{'MiB':>7}")
        for n in sizes:
            runs = {name: in_fresh_process(measure, name, problem, n, repeats) for name in METHODS}
            reference = runs["EM, all rows"][0]
            for name, (seconds, memory) in runs.items():
                line = f"{n:>12,}  {name:<24}{seconds:>9.2f}{n / seconds:>16,.0f}{seconds / reference:>8.2f}"
                print(f"{line}{memory / 2**20:>7.0f}", flush=True)


def vector(measure: MixingMeasure) -> Tensor:
    """Estimates in the order of ``FitResult.params``."""
    gate = torch.cat([measure.gate_weight, measure.gate_bias.unsqueeze(-1)], -1)
    expert = torch.cat([measure.slope, measure.intercept.unsqueeze(-1)], -1)
    return torch.cat([(gate - gate[-1])[:-1].flatten(), expert.flatten(), measure.variance.sqrt()])


def distance(problem: Problem, n: int, seed: int) -> tuple[float, float, float, float]:
    """Largest and root mean square distance in standard errors, gap in nats, largest ratio of standard errors."""
    torch.set_num_threads(1)
    full, stream = (METHODS[name](problem, n, seed, Clock()) for name in ("EM, all rows", "StochasticEM"))
    target = full.measure
    order = [int((stream.measure.slope - slope).square().sum(-1).argmin()) for slope in target.slope]
    same = MixingMeasure(*(getattr(stream.measure, name)[order] for name in _FIELDS))
    z = (vector(same) - vector(target)).numpy() / full.bse
    model = same.to_module()
    with torch.no_grad():
        reached = sum(float(model.log_prob(x, y).sum()) for x, y in problem.blocks(n, seed))
    kept = slice(-problem.k * (problem.d + 2), None)  # experts: their standard errors do not depend on the reference
    errors = np.sort(stream.bse[kept]) / np.sort(full.bse[kept])
    return (
        float(np.abs(z).max()),
        float(np.sqrt(np.square(z).mean())),
        full.llf - reached,
        float(np.abs(errors - 1).max()),
    )


def accuracy(problems: list[Problem], sizes: list[int], seeds: int) -> None:
    """The second table: medians over data sets, and the worst."""
    print(f"\nStochasticEM against the maximum on the same rows, {seeds} data sets: median (worst)")
    print(f"{'d':>4}{'k':>4}{'n':>12}{'largest z':>18}{'rms z':>18}{'nats below':>18}{'s.e. off by':>18}")
    for problem in problems:
        for n in sizes:
            rows = np.array([in_fresh_process(distance, problem, n, seed) for seed in range(seeds)])
            cells = (f"{np.median(column):>9.3f} ({column.max():.3f})".rjust(18) for column in rows.T)
            print(f"{problem.d:>4}{problem.k:>4}{n:>12,}" + "".join(cells), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--rows", type=int, nargs="+", help="sizes of your own")
    parser.add_argument("--repeats", type=int, default=3, help="runs of which the fastest counts; 0: no table")
    parser.add_argument("--problems", type=int, nargs="+", choices=(0, 1), default=[0, 1], help="d = 1, d = 10")
    parser.add_argument("--seeds", type=int, default=5, help="data sets of the second table; 0: no table")
    args = parser.parse_args()
    sizes = args.rows or ([10_000, 40_000] if args.quick else [10_000, 100_000, 1_000_000, 4_000_000])
    both = [Problem(1, 2), Problem(10, 3)]
    problems = both[:1] if args.quick else [both[index] for index in args.problems]
    if args.repeats:
        speeds(problems, sizes, 1 if args.quick else args.repeats)
    if args.seeds:
        accuracy(problems, [n for n in sizes if n <= _MOST_COMPARED], 2 if args.quick else args.seeds)


if __name__ == "__main__":
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = "1"  # read by the processes that measure
    main()
