"""How often each criterion finds the true number of experts, with and without outliers.

Part 1 is the reference problem (two crossing lines behind a sharp softmax gate, arXiv 2305.03288): k = 1 to 4 are
fitted as one path, and every criterion chooses; the dendrogram is that of the k = 4 fit. Part 2 are one line and
mixtures of three and of four experts, fitted with up to two too many, so that a rule cannot be right by taking as few
as it may. Part 3 is part 1 with cross-validation in 5 folds.

"5% outliers" adds 5% of rows drawn uniformly from the box of the data. These rows are part of the distribution of the
data, and likelihood criteria rightly ask for experts that describe them; the dendrogram is to find the experts of the
rest.

"dendrogram, gap" is ``choose()`` with its defaults; "dendrogram, DSC" is the criterion of arXiv 2510.12744 on distances
of parameters, x and y as they are. Fits have four starts and make no moves, which would double the time. Seeds start at
1,000: the constant of "gap" was set on smaller ones.

Run ``python benchmarks/selection.py`` (an hour of processor time), or with ``--quick``. Counts are of data sets.
"""

import argparse
import json
import time
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _problems import REFERENCE
from joblib import Parallel, delayed
from torch import Tensor

from estimators import EM
from estimators.model_selection import mixing_dendrogram, select_experts
from mixkit import MixingMeasure

Row = dict[str, int]
_FIRST_SEED = 1_000
_OUTLIERS = 0.05


def _measure(*parts: list) -> MixingMeasure:
    bias, weight, slope, intercept, std = (torch.tensor(part, dtype=torch.float64) for part in parts)
    return MixingMeasure(bias, weight.unsqueeze(-1), slope.unsqueeze(-1), intercept, std.square())


HARDER = {
    "one line": _measure([0], [0], [2], [1], [0.5]),
    "three lines in turn": _measure([10, 0, -20], [-30, 0, 30], [2, -3, 3], [1, 4, -1], [0.3, 0.4, 0.3]),
    "three lines crossing": _measure([0, 0, 0], [2, -2, 0], [3, -3, 0], [0, 0, 2], [0.4, 0.4, 0.4]),
    "four lines": _measure([0, 0.5, -0.5, 0], [1, -1, 1.5, 0], [1, -2, 1, 2], [0, 3, 6, -3], [0.5, 0.5, 0.5, 0.5]),
}


def data(truth: MixingMeasure, n: int, seed: int, outliers: float) -> tuple[Tensor, Tensor]:
    """A sample, x uniform on [0, 1], with a share of outliers added, uniform over its box."""
    generator = torch.Generator().manual_seed(seed)
    x, y = truth.sample_xy(n, generator=generator)
    extra = torch.rand(round(outliers * n), 2, dtype=x.dtype, generator=generator)
    low, high = x.amin(0), x.amax(0)
    x = torch.cat([x, low + (high - low) * extra[:, :1]])
    return x, torch.cat([y, y.min() + (y.max() - y.min()) * extra[:, 1]])


def choices(truth: MixingMeasure, n: int, seed: int, outliers: float, sizes: range, criterion: str) -> Row:
    """What every rule chooses on one data set, and how many seconds it took in all."""
    torch.set_num_threads(1)
    x, y = data(truth, n, seed, outliers)
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = EM(n_init=4, n_moves=0)
        found = select_experts(x, y, sizes, criterion=criterion, estimator=estimator, folds=5, random_state=seed)
    chosen = {name: found.choose(name) for name in found.criteria}
    largest = found.fits[-1]
    chosen["dendrogram, gap"] = mixing_dendrogram(largest, x, y).choose()
    chosen["dendrogram, DSC"] = mixing_dendrogram(largest, x, y, dissimilarity="parameters").choose("dsc")
    chosen["falls"] = int(not found.is_monotone)
    chosen["seconds"] = round(time.process_time() - started)
    return chosen


def show(title: str, true_k: int, rows: list[Row]) -> None:
    """Counts of the choices of every rule."""
    print(f"\n{title}, {len(rows)} data sets")
    sizes = sorted({row[name] for row in rows for name in row if name not in ("falls", "seconds")} | {true_k})
    print(f"{'':<18}" + "".join(f"{'k = ' + str(k):>9}" for k in sizes) + f"{'right':>9}")
    for name in (name for name in rows[0] if name not in ("falls", "seconds")):
        counts = Counter(row[name] for row in rows)
        print(f"{name:<18}" + "".join(f"{counts[k]:>9}" for k in sizes) + f"{counts[true_k] / len(rows):>9.0%}")
    seconds = np.median([row["seconds"] for row in rows])
    falls = sum(row["falls"] for row in rows)
    print(f"paths whose log-likelihood falls: {falls}; median seconds a data set: {seconds:.0f}", flush=True)


def collect(title: str, tasks: dict[int, Callable[[], Row]], path: Path | None, n_jobs: int) -> list[Row]:
    """Rows of all seeds; those that a file of earlier runs has are not computed again."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path and path.exists() else []
    rows = {line["seed"]: line["row"] for line in lines if line["title"] == title}
    missing = [seed for seed in tasks if seed not in rows]
    done = Parallel(n_jobs=n_jobs, return_as="generator")(delayed(tasks[seed])() for seed in missing)
    for seed, row in zip(missing, done, strict=True):
        rows[seed] = row
        if path:
            with path.open("a") as file:
                file.write(json.dumps({"title": title, "seed": seed, "row": row}) + "\n")
    return [rows[seed] for seed in tasks]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="2 seeds, 1,000 rows")
    parser.add_argument(
        "--seeds", type=int, default=100, help="data sets of parts 1 and 3; part 2 has a quarter of them"
    )
    parser.add_argument("--n", type=int, default=10_000, help="rows of parts 1 and 3; part 2 has half of them")
    parser.add_argument("--n-jobs", type=int, default=1)
    parser.add_argument("--save", type=Path, help="file of finished data sets, from which an interrupted run goes on")
    parser.add_argument("--parts", type=int, nargs="+", default=[1, 2, 3])
    args = parser.parse_args()
    seeds, n = (2, 1_000) if args.quick else (args.seeds, args.n)

    for share in (0.0, _OUTLIERS):
        label = f", {share:.0%} outliers" if share else ""
        designs = {}
        if 1 in args.parts:
            designs["Reference problem"] = (REFERENCE, n, seeds, range(1, 5), "bic")
        for name, truth in HARDER.items() if 2 in args.parts else ():
            designs[name.capitalize()] = (truth, n // 2, max(2, seeds // 4), range(1, truth.num_experts + 3), "bic")
        if 3 in args.parts and not share:
            designs["Reference problem, cross-validated"] = (REFERENCE, n, seeds, range(1, 5), "cv")
        for name, (truth, rows, count, sizes, criterion) in designs.items():
            title = f"{name}, k = {truth.num_experts}, n = {rows:,}{label}"
            wanted = range(_FIRST_SEED, _FIRST_SEED + count)
            tasks = {seed: partial(choices, truth, rows, seed, share, sizes, criterion) for seed in wanted}
            show(title, truth.num_experts, collect(title, tasks, args.save, args.n_jobs))


if __name__ == "__main__":
    main()
