"""What a fit of a rate study costs, beside plain EM run to the same maximum; and the whole study of two experts.

Run ``python benchmarks/rates.py``; ``--quick`` for small sizes; ``--blocks`` for small samples fitted eight replicates
at once and one by one; ``--study`` for 200 sizes up to 100,000 and 40 replicates.

The fits are those of three experts to data of two crossing lines, from the truth with each atom split in turn. Ours is
the whole call with all its starts. The peer is EM in NumPy (``_peers/numpy_em.py``) from one of these starts, the one
that led to our maximum, until it comes within ``--tolerance`` of that; processor seconds of one thread.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from _peers import numpy_em
from _peers.trace import OutOfTimeError, Trace
from _problems import REFERENCE

from estimators import EM, RateStudy, SplitAtom
from estimators.rates import DataDriven, ExactLoss, Oracle, UniformCovariates, draw_data
from estimators.rates.replicates import Task, run_task

__all__ = ["blocks", "compare", "main", "whole_study"]


def _study(sizes: list[int], replicates: int, **settings: object) -> RateStudy:
    return RateStudy(
        REFERENCE, UniformCovariates(), EM(n_init=2, n_keep=2), [ExactLoss()], sizes, replicates, 0, **settings
    )


def compare(n: int, replicate: int, tolerance: float, budget: float) -> tuple[float, float, bool]:
    """Seconds of ours and of EM to the same log-likelihood, and whether EM got there."""
    study = _study([n], replicate + 1, num_experts=3, start=Oracle())
    started = time.process_time()
    row = run_task(study, Task("fit", n, replicate))
    ours = time.process_time() - started
    x, y = draw_data(study, n, replicate)
    guesses = SplitAtom(study.truth_model).responsibilities(x, y, 3, np.random.default_rng(0))
    best = _best_guess(x, y, guesses)
    trace = _Until(row.llf - tolerance, budget)
    numpy_em.fit(x.numpy(), y.numpy(), best, trace, max_iter=10**7, tol=-float("inf"))
    return ours, trace.seconds[-1], trace.values[-1] >= row.llf - tolerance


def _best_guess(x: torch.Tensor, y: torch.Tensor, guesses: torch.Tensor) -> np.ndarray:
    """The start that 200 iterations of EM bring furthest (their time is not counted)."""
    ends = []
    for guess in guesses:
        trace = Trace()
        numpy_em.fit(x.numpy(), y.numpy(), guess.mT.numpy(), trace, max_iter=200, tol=-float("inf"))
        ends.append(trace.values[-1])
    return guesses[int(np.argmax(ends))].mT.numpy()


class _Until(Trace):
    """A trace that also ends a fit when a value is reached."""

    def __init__(self, target: float, budget: float) -> None:
        super().__init__(budget)
        self.target = target

    def record(self, value: float) -> None:
        """Add a point; stop at the target."""
        super().record(value)
        if value >= self.target:
            raise OutOfTimeError


def blocks(num_experts: int, n: int, replicates: int) -> tuple[float, float]:
    """Processor seconds of a study of one small size, fitted eight replicates at once and one by one."""
    seconds = []
    for batch_size in (8, 1):
        study = _study([n], replicates, num_experts=num_experts, start=DataDriven(), batch_size=batch_size)
        with tempfile.TemporaryDirectory() as folder:
            run_task(study, Task("fit", n, 0))  # not counted: what the first fit loads
            started = time.process_time()
            study.run(Path(folder) / "study.sqlite", n_jobs=1, progress=False)
            seconds.append(time.process_time() - started)
    return seconds[0], seconds[1]


def _print_blocks(sizes: dict[int, list[int]], replicates: int) -> None:
    print(f"{'k':>3}{'n':>7}{'in blocks (s)':>15}{'one by one (s)':>16}{'ratio':>7}")
    for num_experts, own in sizes.items():
        for n in own:
            together, apart = blocks(num_experts, n, replicates)
            print(f"{num_experts:>3}{n:>7}{together:>15.2f}{apart:>16.2f}{together / apart:>7.2f}", flush=True)


def whole_study(sizes: list[int], replicates: int, jobs: int) -> float:
    """Seconds that the study of two experts takes from data alone."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        study = _study(sizes, replicates, start=DataDriven())
        results = study.run(Path(folder) / "study.sqlite", n_jobs=jobs)
        print(results)
    return time.perf_counter() - started


def main() -> None:
    """Compare, and run the study if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small size")
    parser.add_argument("--study", action="store_true", help="also run the whole study of two experts")
    parser.add_argument("--blocks", action="store_true", help="also compare blocks of small samples with single fits")
    parser.add_argument("--replicates", type=int, default=3, help="data sets of each size")
    parser.add_argument("--jobs", type=int, default=2, help="workers of that study")
    parser.add_argument("--tolerance", type=float, default=1e-3, help="of the log-likelihood that the peer must reach")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds granted to each fit of the peer")
    options = parser.parse_args()
    torch.set_num_threads(1)
    budget = min(options.budget, 3.0) if options.quick else options.budget
    compare(250, 0, options.tolerance, 1.0)  # not counted: what the first fits of a process load
    print(f"{'n':>8}{'replicate':>11}{'ours (s)':>10}{'EM (s)':>10}{'ours / EM':>11}")
    total = np.zeros(2)
    for n in [500] if options.quick else [1000, 10_000]:
        for replicate in range(2 if options.quick else options.replicates):
            ours, peer, reached = compare(n, replicate, options.tolerance, budget)
            total += ours, peer
            sign = " " if reached else "<"
            print(f"{n:>8}{replicate:>11}{ours:>10.2f}{peer:>10.2f}{sign:>3}{ours / peer:>8.3f}", flush=True)
    print(f"{'all':>19}{total[0]:>10.2f}{total[1]:>10.2f}{'<':>3}{total[0] / total[1]:>8.3f}")
    print("A ratio after '<' is a bound: EM had not reached our log-likelihood when its time was over.")
    if options.blocks or options.quick:
        sizes = {2: [100]} if options.quick else {2: [100, 250, 500, 1000], 3: [100, 250, 500], 4: [100, 250, 500]}
        _print_blocks(sizes, 8 if options.quick else 24)
    if options.study or options.quick:
        sizes = [100, 1000, 10_000] if options.quick else np.linspace(500, 100_000, 200).astype(int).tolist()
        seconds = whole_study(sizes, 2 if options.quick else 40, options.jobs)
        print(f"study of two experts, {len(sizes)} sizes: {seconds:.1f} s on {options.jobs} workers")


if __name__ == "__main__":
    main()
