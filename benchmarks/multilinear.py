"""Experts of several locations: matrix products beside autograd, as ratios of one run.

Run ``python benchmarks/multilinear.py`` (``--quick`` for one size). The peer is this library's general objective, which
takes any model: one backward pass a parameter for the Hessian, L-BFGS for M-steps. Processor times, the least of
several alternating runs.
"""

import argparse
import time
from collections.abc import Callable

import torch

from estimators.data.dataset import Data
from estimators.objectives.autograd import AutogradObjective
from estimators.objectives.choose import make_objective
from estimators.optimizers.objective import Objective
from mixkit import (
    CategoricalExperts,
    Experts,
    LinearPredictor,
    MixtureOfExperts,
    ZeroInflatedLogNormalExperts,
)
from mixkit.gates import softmax_gate


def experts(name: str, d: int, k: int, settings: dict) -> Experts:
    """Experts of a family by its name."""
    if name == "categorical, 3 classes":
        return CategoricalExperts(LinearPredictor(d, k, response_dim=2, **settings))
    return ZeroInflatedLogNormalExperts(LinearPredictor(d, k, response_dim=2, **settings), dtype=settings["dtype"])


def objectives(name: str, n: int, d: int, k: int) -> tuple[Objective, Objective]:
    """The fast objective and the general one of a model on data drawn from it."""
    settings = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(0)}
    model = MixtureOfExperts(softmax_gate(d, k, **settings), experts(name, d, k, settings))
    x = torch.randn(n, d, **settings)
    with torch.no_grad():
        y = model(x).sample(generator=settings["generator"])
    data = Data(x[None], y[None], None)
    fast = make_objective(model, data, 1e-6, torch.zeros(d, dtype=torch.bool))
    slow = AutogradObjective(model, data, variance_floor=1e-6)
    fast.start, slow.start = fast.read(model), slow.read(model)  # type: ignore[attr-defined]
    return fast, slow


def processor_time(run: Callable[[], object]) -> float:
    """Seconds of one run."""
    started = time.process_time()
    run()
    return time.process_time() - started


def main(quick: bool) -> None:
    """Print a row a family, size and operation."""
    print(f"{'experts':<26}{'n':>7}{'d':>4}{'k':>4}  {'operation':<12}{'ours ms':>9}{'autograd ms':>13}{'ratio':>8}")
    for name in ("categorical, 3 classes", "zero-inflated log-normal"):
        for n, d, k in ((1000, 5, 3),) if quick else ((1000, 5, 3), (10_000, 5, 3), (1000, 10, 4)):
            fast, slow = objectives(name, n, d, k)
            fast.evaluate(fast.start)  # type: ignore[attr-defined]
            for operation in ("value", "evaluate", "em_step"):
                pairs = [
                    [processor_time(lambda o=o, f=operation: getattr(o, f)(o.start)) for o in (fast, slow)]
                    for _ in range(5)
                ]
                ours, theirs = (1000.0 * min(times) for times in zip(*pairs, strict=True))
                print(f"{name:<26}{n:>7}{d:>4}{k:>4}  {operation:<12}{ours:>9.2f}{theirs:>13.2f}{theirs / ours:>8.1f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one size")
    torch.set_num_threads(1)
    main(parser.parse_args().quick)
