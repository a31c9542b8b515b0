"""How often a fit reaches the highest log-likelihood known: ten starts, forty, and ten followed by moves (the default).

Run ``python benchmarks/starts.py``; ``--quick`` for one data set. Real data, two to five experts. A maximum is known if
any fit of the run found it: a lower bound on the best one, so that shares are upper bounds.
"""

import argparse
import time
import warnings

import numpy as np
import torch

from estimators import EM, SingularInformationWarning
from mixkit import MixtureOfExperts, datasets, linear_gaussian_experts, softmax_gate

_WAYS = {"ten": {"n_moves": 0}, "forty": {"n_init": 40, "n_moves": 0}, "ten and moves": {}}
_SAME = 1e-3  # log-likelihoods closer than this are one


def model_of(d: int, k: int) -> MixtureOfExperts:
    generator = torch.Generator().manual_seed(0)
    return MixtureOfExperts(softmax_gate(d, k, generator=generator), linear_gaussian_experts(d, k, generator=generator))


def fits(name: str, k: int, seeds: int) -> dict[str, np.ndarray]:
    """Log-likelihood and processor seconds ``(seeds, 2)`` of each way."""
    x, y = getattr(datasets, f"load_{name}")()
    found = {way: np.empty((seeds, 2)) for way in _WAYS}
    for way, settings in _WAYS.items():
        for seed in range(seeds):
            started = time.process_time()
            llf = EM(random_state=seed, **settings).fit(model_of(x.shape[1], k), x, y).llf
            found[way][seed] = llf, time.process_time() - started
    return found


def row(name: str, k: int, found: dict[str, np.ndarray]) -> np.ndarray:
    """Print one line; how many fits of each way reached the best, how far they fell short, and their time."""
    best = max(runs[:, 0].max() for runs in found.values())
    gaps = np.array([best - runs[:, 0] for runs in found.values()])
    reached, short = (gaps < _SAME).sum(1), gaps.mean(1)
    seconds = np.array([runs[:, 1].mean() for runs in found.values()])
    cells = "".join(f"{a:>6}{b:>8.2f}{c:>8.2f}" for a, b, c in zip(reached, short, seconds / seconds[0], strict=True))
    print(f"{name:<10}{k:>3}{best:>11.2f}{cells}", flush=True)
    return np.stack([reached, short, seconds])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one data set, two seeds")
    parser.add_argument("--seeds", type=int, default=6)
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", SingularInformationWarning)
    names = ["faithful"] if options.quick else ["mcycle", "ethanol", "tone", "faithful", "co2_gnp"]
    seeds, sizes = (2, (2, 3)) if options.quick else (options.seeds, (2, 3, 4, 5))
    print(f"of {seeds} seeds: fits at the best maximum known, mean gap in log-likelihood, time in units of ten starts")
    print(f"{'data':<10}{'k':>3}{'best':>11}" + "".join(f"{way:>22}" for way in _WAYS))
    rows = np.array([row(name, k, fits(name, k, seeds)) for name in names for k in sizes])
    reached, short, seconds = rows[:, 0].sum(0), rows[:, 1].mean(0), rows[:, 2].sum(0)
    for index, way in enumerate(_WAYS):
        share = f"{reached[index]:.0f} of {seeds * len(rows)}"
        print(f"{way:<14} {share}, mean gap {short[index]:.2f}, time {seconds[index] / seconds[0]:.2f}")


if __name__ == "__main__":
    main()
