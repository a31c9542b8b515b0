"""Do 95% intervals cover? The reference problem, fitted from data alone over many replicates, three laws of the errors.

x is uniform on [0, 1], the gate scores are (-8 + 25 x, 0), the means 15 - 20 x and -5 + 20 x, the standard deviations
0.3 and 0.4. The errors are standard normal (the model holds), or of another law (it does not): ``skewed`` are centred gamma
variables of shape 2 scaled to variance one, ``spread`` are normal with a standard deviation of 0.3 + 1.4 x.

An interval should cover what the estimate converges to: the truth, or, where the model is wrong, the maximum of the
likelihood of one sample of 2,000,000. A fit has four starts from its data; the bootstrap's refits start at the fit.

Run ``python benchmarks/coverage.py`` (half an hour on one core; ``--laws`` for one law), or with ``--quick``.
"""

import argparse
import time
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from _problems import REFERENCE
from joblib import Parallel, delayed
from torch import Tensor

from estimators import EM, MLE, FitResult
from estimators.inference import bootstrap, profile_intervals
from mixkit import MixingMeasure, MixtureOfExperts, linear_gaussian_experts, softmax_gate

_LARGE_SAMPLE = 2_000_000
_METHODS = ("Wald", "sandwich", "profile", "boot. perc.", "boot. normal")


def normal(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Standard normal errors."""
    return rng.standard_normal(len(x))


def skewed(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gamma variables of shape 2, centred and scaled: skewness 1.4, excess kurtosis 3."""
    return (rng.gamma(2.0, size=len(x)) - 2.0) / 2.0**0.5


def spread(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Normal errors with a standard deviation that grows with x."""
    return (0.3 + 1.4 * x) * rng.standard_normal(len(x))


_LAWS = {"normal": normal, "skewed": skewed, "spread": spread}


@dataclass(frozen=True)
class Design:
    """What a replicate needs to know."""

    law: str
    n: int
    refits: int
    centre: MixingMeasure


def draw(law: str, n: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A data set: ``x (n, 1)`` and ``y (n,)``."""
    x = rng.random(n)
    first = rng.random(n) < 1.0 / (1.0 + np.exp(8.0 - 25.0 * x))
    error = _LAWS[law](x, rng)
    y = np.where(first, 15.0 - 20.0 * x + 0.3 * error, -5.0 + 20.0 * x + 0.4 * error)
    return torch.as_tensor(x[:, None]), torch.as_tensor(y)


def climb(measure: MixingMeasure, x: Tensor, y: Tensor) -> FitResult:
    """Newton's method from a measure."""
    return MLE(n_init=0, starts=[], start_at_model=True, subsample=2**62).fit(measure.to_module(), x, y)


def fit(centre: MixingMeasure, x: Tensor, y: Tensor, seed: int) -> FitResult:
    """A fit from data alone; then its experts are numbered as those of ``centre``."""
    generator = torch.Generator().manual_seed(seed)
    gate, experts = softmax_gate(1, 2, generator=generator), linear_gaussian_experts(1, 2, generator=generator)
    found = EM(n_init=4, random_state=seed).fit(MixtureOfExperts(gate, experts), x, y)
    return climb(found.measure.align(centre).canonical(), x, y)


def replicate(design: Design, number: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Intervals ``(method, P, 2)``; estimates and two kinds of standard errors ``(3, P)``; counts of trouble."""
    torch.set_num_threads(1)
    x, y = draw(design.law, design.n, np.random.default_rng([20260101, list(_LAWS).index(design.law), number]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = fit(design.centre, x, y, number)
        resampled = bootstrap(result, design.refits, kind="case", random_state=number)
        ends = [
            result.conf_int(),
            result.conf_int(kind="sandwich"),
            profile_intervals(result),
            resampled.conf_int(),
            resampled.conf_int(method="normal"),
        ]
        figures = np.stack([result.params, result.bse, result.standard_errors("sandwich")])
    trouble = [int(not result.converged), resampled.num_failed, resampled.num_not_converged]
    return np.stack(ends), figures, trouble


def target_of(law: str, size: int) -> tuple[list[str], np.ndarray, MixingMeasure]:
    """Names and values of what a fit converges to, and the same as a measure."""
    x, y = draw(law, size, np.random.default_rng(0))
    limit = climb(REFERENCE, x, y)
    if law != "normal":
        return limit.param_names, limit.params, limit.measure
    end = limit.maximum
    truth = end.to_user.values(end.objective.read(REFERENCE.to_module()))[0, 0]
    return limit.param_names, truth.numpy(), REFERENCE


def show(names: list[str], target: np.ndarray, ends: np.ndarray, figures: np.ndarray) -> None:
    """Coverage of every parameter by every method, in percent; standard errors beside the spread of the estimates."""
    inside = (ends[..., 0] <= target) & (target <= ends[..., 1])
    share = 100.0 * inside.mean(0)
    error = np.sqrt(share * (100.0 - share) / len(ends))
    head = "".join(f"{method:>15}" for method in _METHODS)
    print(f"{'parameter':<18}{'target':>9}{head}{'Wald se/sd':>12}{'sandw. se/sd':>14}")
    ratio = figures[:, 1:].mean(0) / figures[:, 0].std(0, ddof=1)
    for j, name in enumerate(names):
        cells = "".join(f"{f'{share[m, j]:.1f} ± {error[m, j]:.1f}':>15}" for m in range(len(_METHODS)))
        print(f"{name:<18}{target[j]:>9.3f}{cells}{ratio[0, j]:>12.3f}{ratio[1, j]:>14.3f}")


def run(law: str, args: argparse.Namespace) -> None:
    """All replicates of one law, and their table."""
    started = time.perf_counter()
    names, target, centre = target_of(law, 100_000 if args.quick else _LARGE_SAMPLE)
    design = Design(law, args.n, args.refits, centre)
    work = Parallel(n_jobs=args.jobs)(delayed(replicate)(design, number) for number in range(args.replicates))
    ends, figures, trouble = (np.array(part) for part in zip(*work, strict=True))
    print(f"\n{law} errors: n = {args.n:,}, {args.replicates} replicates, {args.refits} refits of resampled cases each")
    show(names, target, ends, figures)
    fits, failed, loose = trouble.sum(0)
    missing, seconds = int(np.isnan(ends).any(-1).sum()), time.perf_counter() - started
    print(f"fits not converged: {fits}; refits failed: {failed}, not converged: {loose}; intervals missing: {missing}")
    print(f"{seconds:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 replicates, n = 500, 50 refits")
    parser.add_argument("--laws", nargs="+", choices=list(_LAWS), default=list(_LAWS))
    parser.add_argument("--replicates", type=int, default=1_000)
    parser.add_argument("--refits", type=int, default=199)
    parser.add_argument("--n", type=int, default=2_000)
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    if args.quick:
        args.replicates, args.n, args.refits = 20, 500, 50
    for law in args.laws:
        run(law, args)


if __name__ == "__main__":
    main()
