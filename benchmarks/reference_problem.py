"""The reference problem: two crossing lines behind a softmax gate, fitted with default settings from 50 seeds.

x is uniform on [0, 1], the gate scores are (-8 + 25 x, 0), the means 15 - 20 x and -5 + 20 x, the standard deviations
0.3 and 0.4: the truth of the simulations in Nguyen, Nguyen, Ho (2023), arXiv 2305.03288.

Part 1 fits k = 2 to 50 data sets of each size, each fit with a random state of its own, and counts those that come
within 1e-6 (relative) of the best log-likelihood known: the highest of this fit, of one with 30 starts on the same data
(for n up to 10,000) and of Newton's method from the truth. Part 2 fits k = 3 and 4 and shows how near the returned
point is to a maximum. Beside both, EM in plain NumPy from k-means, stopped when its log-likelihood gains less than
1e-6 of itself (as in the paper's code), and in part 2 also run on until an iteration gains less than 1e-7.

Run ``python benchmarks/reference_problem.py`` (minutes), or with ``--quick``. Times are processor seconds.
"""

import argparse
import time
import warnings
from typing import NamedTuple

import numpy as np
import torch
from _peers import numpy_em
from _peers.trace import Trace
from _problems import REFERENCE, reference_data
from torch import Tensor

from estimators import EM, MLE, Estimator, FitResult, KMeansXY
from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate

_REACHED = 1e-6
_MOST_ROWS_FOR_SEARCH = 10_000
_WIDE_SEARCH = 30


class Fit(NamedTuple):
    """What the tables show of one fit."""

    llf: float
    seconds: float
    iterations: int
    grad_norm: float = float("nan")
    predicted_gain: float = float("nan")
    converged: bool = False


def timed(estimator: Estimator, k: int, x: Tensor, y: Tensor, model: MixtureOfExperts | None = None) -> Fit:
    """Fit ``model``, or a fresh one of k experts."""
    if model is None:
        generator = torch.Generator().manual_seed(0)
        model = MixtureOfExperts(
            softmax_gate(1, k, generator=generator), linear_gaussian_experts(1, k, generator=generator)
        )
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result: FitResult = estimator.fit(model, x, y)
    spent = time.process_time() - started
    return Fit(result.llf, spent, len(result.history), result.grad_norm, result.predicted_gain, result.converged)


def plain_em(k: int, x: Tensor, y: Tensor, seed: int, budget: float, *, relative_tol: float) -> Fit:
    """EM in NumPy from k-means on (x, y)."""
    resp = KMeansXY().responsibilities(x, y, k, np.random.default_rng(seed))[0].numpy().T
    trace = Trace(budget)
    tol = relative_tol * abs(float(REFERENCE.to_module().log_prob(x, y).detach().sum()))
    numpy_em.fit(x.numpy(), y.numpy(), resp, trace, max_iter=100_000, tol=tol)
    return Fit(trace.values[-1], trace.seconds[-1], len(trace.values))


def best_known(x: Tensor, y: Tensor, found: Fit) -> float:
    """The highest log-likelihood of this fit, one from the truth, and one of many starts."""
    others = [timed(MLE(n_init=0, start_at_model=True, starts=[]), 2, x, y, REFERENCE.to_module())]
    if len(y) <= _MOST_ROWS_FOR_SEARCH:
        others.append(timed(EM(n_init=_WIDE_SEARCH, random_state=2**20), 2, x, y))
    return max(found.llf, *(fit.llf for fit in others))


def reaching(sizes: list[int], seeds: int, budget: float) -> None:
    """Part 1."""
    print(f"k = 2: fits that reach the best log-likelihood known, of {seeds}")
    print(f"{'n':>9}{'mixkit':>8}{'worst gap':>11}{'certified':>11}{'seconds':>9}{'plain EM':>10}{'seconds':>9}")
    for n in sizes:
        ours, gaps, plain = [], [], []
        for seed in range(seeds):
            x, y = reference_data(n, seed)
            ours.append(timed(EM(random_state=seed), 2, x, y))
            plain.append(plain_em(2, x, y, seed, budget, relative_tol=_REACHED))
            best = best_known(x, y, ours[-1])
            gaps.append([(best - fit.llf) / abs(best) for fit in (ours[-1], plain[-1])])
        reached = (np.array(gaps) <= _REACHED).sum(0)
        seconds = [np.median([fit.seconds for fit in fits]) for fits in (ours, plain)]
        certified = sum(fit.converged for fit in ours)
        line = f"{n:>9,}{reached[0]:>8}{max(gap[0] for gap in gaps):>11.1e}{certified:>11}{seconds[0]:>9.2f}"
        print(f"{line}{reached[1]:>10}{seconds[1]:>9.2f}", flush=True)


def over_specified(n: int, seeds: int, budget: float) -> None:
    """Part 2."""
    print(f"\nMore experts than the truth, n = {n:,}; plain EM has {budget:g} s a fit")
    head = f"{'k':>3}{'seed':>6}{'log-lik.':>12}{'gradient':>10}{'gain left':>11}{'seconds':>9}"
    print(f"{head}    plain EM: {'stops below':>12}{'runs on':>9}{'seconds':>9}{'ends below':>12}")
    for k in (3, 4):
        for seed in range(seeds):
            x, y = reference_data(n, seed)
            fit = timed(EM(random_state=seed), k, x, y)
            short = plain_em(k, x, y, seed, budget, relative_tol=_REACHED)
            long = plain_em(k, x, y, seed, budget, relative_tol=1e-7 / n)
            line = (
                f"{k:>3}{seed:>6}{fit.llf:>12.3f}{fit.grad_norm:>10.1e}{fit.predicted_gain:>11.1e}{fit.seconds:>9.2f}"
            )
            rest = f"{fit.llf - short.llf:>12.3f}{long.iterations:>9}{long.seconds:>9.1f}{fit.llf - long.llf:>12.3f}"
            print(f"{line}              {rest}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 seeds, small sizes")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--seeds", type=int, default=50, help="data sets of part 1; part 2 has a tenth of them")
    parser.add_argument("--budget", type=float, default=30.0, help="seconds granted to a fit by plain EM")
    args = parser.parse_args()
    torch.set_num_threads(1)
    seeds, sizes = (2, [1_000]) if args.quick else (args.seeds, args.sizes)
    reaching(sizes, seeds, args.budget)
    over_specified(1_000 if args.quick else 10_000, max(1, seeds // 10), 2.0 if args.quick else args.budget)


if __name__ == "__main__":
    main()
