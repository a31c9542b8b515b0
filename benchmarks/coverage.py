"""Do 95% intervals cover? The reference problem, fitted from data alone over many replicates, three laws of the errors.

x is uniform on [0, 1], the gate scores are (-8 + 25 x, 0), the means 15 - 20 x and -5 + 20 x, the standard deviations
0.3 and 0.4. The errors are standard normal (the model holds), or of another distribution (it does not): ``skewed`` are
centered gamma variables of shape 2 scaled to variance one, ``spread`` are normal with a standard deviation of 0.3 +
1.4 x.

An interval should cover what the estimate converges to: the truth, or, where the model is wrong, the maximum of the
likelihood of one sample of 2,000,000. A fit has four starts from its data; the bootstrap's refits start at the fit.

The parts: ``plain`` are Wald intervals, the sandwich and, where the model holds, profiles; ``case`` and ``parametric``
are bootstraps, each by all rules for intervals. All parts see the same data sets.

Run ``python benchmarks/coverage.py`` (an hour and a half of one core, nearly all of it 199,000 refits for each
distribution and bootstrap; ``--laws`` and ``--parts`` choose), or with ``--quick``. Finished replicates stay in
``benchmarks/output``: a run may be stopped, and continued with more ``--replicates``.
"""

import argparse
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from _problems import REFERENCE
from torch import Tensor

from estimators import EM, MLE, FitResult
from estimators.inference import bootstrap, profile_intervals
from estimators.replication.experiment import Experiment, run_experiment
from mixkit import MixingMeasure, MixtureOfExperts, linear_gaussian_experts, softmax_gate

OUTPUT = Path(__file__).parent / "output"
_LARGE_SAMPLE = 2_000_000
_RULES = ("percentile", "basic", "normal", "bc", "bca")
_PARTS = ("plain", "case", "parametric")


def normal(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Standard normal errors."""
    return rng.standard_normal(len(x))


def skewed(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Gamma variables of shape 2, centered and scaled: skewness 1.4, excess kurtosis 3."""
    return (rng.gamma(2.0, size=len(x)) - 2.0) / 2.0**0.5


def spread(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Normal errors with a standard deviation that grows with x."""
    return (0.3 + 1.4 * x) * rng.standard_normal(len(x))


_LAWS = {"normal": normal, "skewed": skewed, "spread": spread}


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


def fit(center: MixingMeasure, x: Tensor, y: Tensor, seed: int) -> FitResult:
    """A fit from data alone; then its experts are numbered as those of ``center``."""
    generator = torch.Generator().manual_seed(seed)
    gate, experts = softmax_gate(1, 2, generator=generator), linear_gaussian_experts(1, 2, generator=generator)
    found = EM(n_init=4, n_moves=0, random_state=seed).fit(MixtureOfExperts(gate, experts), x, y)
    return climb(found.measure.align(center).canonical(), x, y)


class Coverage(Experiment):
    """Replicates of a design: intervals by each method, estimates and standard errors, and counts of trouble."""

    def __init__(self, law: str, part: str, n: int, refits: int, center: MixingMeasure) -> None:
        self.law, self.part, self.n, self.center, self.seed = law, part, n, center, 20260101
        self.refits = 0 if part == "plain" else refits

    @property
    def methods(self) -> list[str]:
        """What the columns of the table are."""
        if self.part != "plain":
            return list(_RULES)
        return ["Wald", "sandwich", *(["profile"] if self.law == "normal" else [])]

    def design(self) -> dict[str, str]:
        """What identifies a file of replicates."""
        return {name: str(getattr(self, name)) for name in ("law", "part", "n", "refits", "seed")}

    def run(self, replicates: list[int]) -> list[dict[str, list]]:
        """Records of some replicates."""
        return [self._one(number) for number in replicates]

    def _one(self, number: int) -> dict[str, list]:
        x, y = draw(self.law, self.n, self.generator(number))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = fit(self.center, x, y, number)
            ends, trouble = self._resampled(result, number) if self.refits else (self._plain(result), [0, 0])
            figures = [result.params, result.bse, result.standard_errors("sandwich")]
        trouble = [int(not result.converged), *trouble]
        return {"ends": np.stack(ends).tolist(), "figures": np.stack(figures).tolist(), "trouble": trouble}

    def _plain(self, result: FitResult) -> list[np.ndarray]:
        ends = [result.conf_int(), result.conf_int(cov_type="sandwich")]
        return [*ends, profile_intervals(result)] if "profile" in self.methods else ends

    def _resampled(self, result: FitResult, number: int) -> tuple[list[np.ndarray], list[int]]:
        found = bootstrap(result, self.refits, resampling=self.part, random_state=number)
        return [found.conf_int(method=rule) for rule in _RULES], [found.num_failed, found.num_not_converged]


def target_of(law: str, size: int) -> tuple[list[str], np.ndarray, MixingMeasure]:
    """Names and values of what a fit converges to, and the same as a measure."""
    x, y = draw(law, size, np.random.default_rng(0))
    limit = climb(REFERENCE, x, y)
    if law != "normal":
        return limit.param_names, limit.params, limit.measure
    end = limit.maximum
    truth = end.to_user.values(end.objective.read(REFERENCE.to_module()))[0, 0]
    return limit.param_names, truth.numpy(), REFERENCE


def show(methods: list[str], names: list[str], target: np.ndarray, ends: np.ndarray, figures: np.ndarray) -> None:
    """Coverage of every parameter by every method, in percent; standard errors beside the spread of the estimates."""
    inside = (ends[..., 0] <= target) & (target <= ends[..., 1])
    share = 100.0 * inside.mean(0)
    error = np.sqrt(share * (100.0 - share) / len(ends))
    head = "".join(f"{method:>15}" for method in methods)
    print(f"{'parameter':<18}{'target':>9}{head}{'Wald se/sd':>12}{'sandw. se/sd':>14}")
    ratio = figures[:, 1:].mean(0) / figures[:, 0].std(0, ddof=1)
    for j, name in enumerate(names):
        cells = "".join(f"{f'{share[m, j]:.1f} ± {error[m, j]:.1f}':>15}" for m in range(len(methods)))
        print(f"{name:<18}{target[j]:>9.3f}{cells}{ratio[0, j]:>12.3f}{ratio[1, j]:>14.3f}")


def run(law: str, parts: list[str], args: argparse.Namespace) -> None:
    """All replicates of one distribution, and its tables."""
    names, target, center = target_of(law, 100_000 if args.quick else _LARGE_SAMPLE)
    OUTPUT.mkdir(exist_ok=True)
    for part in parts:
        started = time.perf_counter()
        experiment = Coverage(law, part, args.n, args.refits, center)
        path = OUTPUT / f"coverage_{law}_{part}_{args.n}_{experiment.refits}.sqlite"
        label = f"{law}, {part}"
        records = run_experiment(
            experiment, args.replicates, path=path, n_jobs=args.jobs, progress=args.progress, label=label
        )
        ends, figures, trouble = (np.array([r[name] for r in records]) for name in ("ends", "figures", "trouble"))
        print(f"\n{law} errors, {part}: n = {args.n:,}, {args.replicates} replicates of {experiment.refits} refits")
        show(experiment.methods, names, target, ends, figures)
        fits, failed, loose = trouble.sum(0)
        print(f"fits not converged: {fits}; refits failed: {failed}, not converged: {loose}", end="; ")
        print(f"intervals missing: {int(np.isnan(ends).any(-1).sum())}")
        print(f"{time.perf_counter() - started:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 replicates, n = 500, 50 refits at most")
    parser.add_argument("--laws", nargs="+", choices=list(_LAWS), default=list(_LAWS))
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=list(_PARTS))
    parser.add_argument("--replicates", type=int, default=1_000)
    parser.add_argument("--refits", type=int, default=199)
    parser.add_argument("--n", type=int, default=2_000)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--progress", action="store_true", help="show a progress bar")
    args = parser.parse_args()
    if args.quick:
        args.replicates, args.n, args.refits = 20, 500, min(args.refits, 50)
    for law in args.laws:
        run(law, args.parts, args)


if __name__ == "__main__":
    main()
