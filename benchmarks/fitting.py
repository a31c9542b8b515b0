"""Fits from the same k-means responsibilities to the same optimum: ours beside four other ways, as ratios of one run.

Run ``python benchmarks/fitting.py``; ``--quick`` for one small size, ``--full`` for the whole grid of n, k and d.

All run on one thread, each in a process of its own, and are timed in processor seconds, the least of several repeats.
Ours is the whole call of ``EM.fit``, which ends at a certified maximum; the clock of the others stops as soon as their
log-likelihood comes within a tolerance, relative, of the best that any of them reached: a loose one, then a tight one.
A dash means never: the fit ran out of time, or its optimum is another, which the last column gives as a gap. Peak
memory is what a fit takes beyond the process with its data.
"""

import argparse
import itertools
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from _measure import in_fresh_process, peak_memory
from _peers import numpy_em, pyro_svi, sklearn_mixture, torch_lbfgs
from _peers.numpy_em import Array
from _peers.trace import Trace
from _problems import random_problem

from estimators import EM, FitResult, GivenResponsibilities, KMeansXY
from mixkit import (
    ConstantPredictor,
    GaussianExperts,
    MixtureOfExperts,
    constant_gate,
    linear_gaussian_experts,
    softmax_gate,
)

_TOL = 1e-7  # gain in log-likelihood at which the peers that iterate EM stop
_MAX_ITER = 50_000
_SVI_STEPS = 3_000


@dataclass(frozen=True)
class Case:
    """A problem: n observations, k experts, d covariates; ``linear`` False for constant gates and means."""

    n: int
    k: int
    d: int
    linear: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Run:
    """One method on one case: when which log-likelihood was reached, and memory beyond the data, in bytes."""

    trace: Trace
    memory: int


def data_of(case: Case) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Covariates, responses and k-means responsibilities ``(k, n)``."""
    x, y, _ = random_problem(case.n, case.k, case.d, case.seed)
    clustered = x if case.linear else y.unsqueeze(-1)
    resp = KMeansXY().responsibilities(clustered, y, case.k, np.random.default_rng(case.seed))
    return x, y, resp[0]


def fit_ours(x: torch.Tensor, y: torch.Tensor, resp: torch.Tensor, linear: bool) -> FitResult:
    """The default EM with one given start."""
    d, k, generator = x.shape[1], len(resp), torch.Generator().manual_seed(0)
    if linear:
        model = MixtureOfExperts(
            softmax_gate(d, k, generator=generator), linear_gaussian_experts(d, k, generator=generator)
        )
    else:
        model = MixtureOfExperts(constant_gate(k), GaussianExperts(ConstantPredictor(k, generator=generator)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return EM(n_init=1, starts=[GivenResponsibilities(resp)]).fit(model, x, y)


def ours(x: Array, y: Array, resp: Array, trace: Trace, linear: bool) -> None:
    """Ours; times of its iterations are not known, so all of them stand at the end."""
    tensors = (torch.as_tensor(part) for part in (x, y, resp.T.copy()))
    result = fit_ours(*tensors, linear)
    spent = time.process_time() - trace.start
    trace.values = [*result.history.tolist(), result.llf]
    trace.seconds = [spent] * len(trace.values)


METHODS: dict[str, Callable[[Array, Array, Array, Trace, bool], object]] = {
    "mixkit EM": ours,
    "NumPy EM": lambda x, y, r, t, _: numpy_em.fit(x, y, r, t, max_iter=_MAX_ITER, tol=_TOL),
    "torch L-BFGS": lambda x, y, r, t, _: torch_lbfgs.fit(x, y, r, t, max_iter=_MAX_ITER),
    "Pyro SVI": lambda x, y, r, t, _: pyro_svi.fit(x, y, r, t, max_iter=_SVI_STEPS),
    "scikit-learn": lambda x, y, r, t, _: sklearn_mixture.fit(y, r, t, max_iter=_MAX_ITER, tol=_TOL),
}


def measure(name: str, case: Case, repeats: int, budget: float) -> Run:
    """Run a method ``repeats`` times; the trace of the fastest."""
    torch.set_num_threads(1)
    small = [part.numpy() for part in data_of(Case(50 * case.k * (case.d + 1), case.k, case.d, case.linear))]
    METHODS[name](small[0], small[1], small[2].T, Trace(1.0), case.linear)  # loads code, so that memory is the fit's
    x, y, resp = (part.numpy() for part in data_of(case))
    before, traces = peak_memory(), []
    for _ in range(repeats):
        traces.append(Trace(budget))
        METHODS[name](x, y, resp.T.copy(), traces[-1], case.linear)
        if sum(trace.seconds[-1] for trace in traces) > budget:
            break
    return Run(min(traces, key=lambda trace: trace.seconds[-1]), peak_memory() - before)


def report(case: Case, runs: dict[str, Run], tolerances: list[float]) -> None:
    """One table."""
    best = max(max(run.trace.values) for run in runs.values())
    reference = runs["mixkit EM"].trace.seconds[-1]
    kind = "softmax gate, linear experts" if case.linear else "constant gate, constant experts"
    print(f"\nn={case.n:,} k={case.k} d={case.d} ({kind}); best log-likelihood {best:.4f}")
    head = "".join(f"{f'to {tolerance:.0e}':>10}{'ratio':>8}" for tolerance in tolerances)
    print(f"{'seconds':<14}{head}{'iterations':>12}{'ms each':>9}{'MiB':>7}{'gap':>9}")
    for name, run in runs.items():
        end, count = run.trace.seconds[-1], len(run.trace.values)
        times = [run.trace.seconds_to(best - tolerance * abs(best)) for tolerance in tolerances]
        reached = "".join(
            f"{seconds:>10.3f}{seconds / reference:>8.1f}" if np.isfinite(seconds) else f"{'-':>10}{'-':>8}"
            for seconds in times
        )
        memory, gap = run.memory / 2**20, best - max(run.trace.values)
        print(f"{name:<14}{reached}{count:>12}{1e3 * end / count:>9.2f}{memory:>7.0f}{gap:>9.1e}")


def cases(args: argparse.Namespace) -> list[Case]:
    """The problems asked for."""
    if args.quick:
        return [Case(1_000, 3, 3), Case(1_000, 3, 1, linear=False)]
    if args.full:
        grid = itertools.product((1_000, 10_000, 100_000, 1_000_000), (2, 5, 16), (1, 10, 50))
        return [Case(n, k, d) for n, k, d in grid] + [
            Case(n, k, 1, linear=False) for n in (1_000, 1_000_000) for k in (2, 16)
        ]
    around = [Case(10_000, 5, 10, seed=seed) for seed in range(3)]
    around += [Case(1_000, 5, 10), Case(100_000, 5, 10), Case(10_000, 2, 10), Case(10_000, 16, 10)]
    return [*around, Case(10_000, 5, 1), Case(10_000, 5, 50), Case(10_000, 3, 1, linear=False)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one small size")
    parser.add_argument("--full", action="store_true", help="the whole grid: hours")
    parser.add_argument("--case", type=int, nargs=3, metavar=("N", "K", "D"), help="one size of your own")
    parser.add_argument("--tolerances", type=float, nargs="+", default=[1e-6, 1e-9], help="relative")
    parser.add_argument("--repeats", type=int, default=3, help="fits of which the fastest counts")
    parser.add_argument("--budget", type=float, default=120.0, help="seconds granted to a fit")
    parser.add_argument("--methods", nargs="*", choices=list(METHODS), help="leave others out (ours stays)")
    args = parser.parse_args()
    chosen = args.methods or list(METHODS)
    for case in [Case(*args.case)] if args.case else cases(args):
        suited = [
            name
            for name in METHODS
            if name == "mixkit EM" or (name in chosen and (name == "scikit-learn") != case.linear)
        ]
        runs = {name: in_fresh_process(measure, name, case, args.repeats, args.budget) for name in suited}
        report(case, runs, args.tolerances)
        sys.stdout.flush()


if __name__ == "__main__":
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[variable] = "1"  # read by the processes that measure
    main()
