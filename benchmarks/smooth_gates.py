"""What a fit behind a gate that is no softmax of a linear score costs, beside autograd of the whole model.

Run ``python benchmarks/smooth_gates.py``; ``--quick`` for one small size.

Two Gaussian experts of one covariate from starts of data alone, by the same estimator; only the objective differs:
``estimators.objectives.smooth_gate``, for all starts at once, or ``estimators.objectives.autograd``, one after the
other. An evaluation is log-likelihood, gradient and Hessian at six parameter vectors. Processor seconds of one thread,
the least of three alternating runs.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from functools import partial
from unittest.mock import patch

import torch

from estimators import EM
from estimators.data.dataset import Data
from estimators.objectives.autograd import AutogradObjective
from estimators.objectives.smooth_gate.objective import SmoothGateObjective
from mixkit import MixingMeasure, MixtureOfExperts, activation_gate, laplace_gate, sigmoid_gate
from mixkit.gates import Gate

__all__ = ["main"]

GATES: dict[str, Callable[..., Gate]] = {
    "sigmoid": sigmoid_gate,
    "Laplace": laplace_gate,
    "tanh, temperature": partial(activation_gate, activation=torch.tanh),
}


def problem(gate: Callable[..., Gate], n: int) -> tuple[MixtureOfExperts, torch.Tensor, torch.Tensor]:
    """A model at the truth and data from it."""
    values = ([0.5, 0.0], [[1.0], [-0.7]], [[2.0], [-1.0]], [1.0, -1.0], [0.1, 0.2])
    truth = MixingMeasure(*(torch.tensor(value, dtype=torch.float64) for value in values))
    model = truth.to_module(gate(1, 2, generator=torch.Generator().manual_seed(0)))
    x = 4.0 * torch.rand(n, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) - 2.0
    with torch.no_grad():
        return model, x, model(x).sample(generator=torch.Generator().manual_seed(2))


def seconds(*calls: Callable[[], object]) -> list[float]:
    """The least of three alternating runs of each call."""
    least = [float("inf")] * len(calls)
    for _ in range(3):
        for index, call in enumerate(calls):
            started = time.process_time()
            call()
            least[index] = min(least[index], time.process_time() - started)
    return least


def compare(gate: Callable[..., Gate], n: int, starts: int) -> list[float]:
    """Seconds of an evaluation, ours and autograd's, then of a fit."""
    model, x, y = problem(gate, n)
    data = Data(x.unsqueeze(0), y.unsqueeze(0), None)
    objectives = [kind(model, data, variance_floor=1e-6) for kind in (SmoothGateObjective, AutogradObjective)]
    theta = objectives[0].read(model).expand(1, 6, -1)
    evaluations = seconds(*(partial(objective.evaluate, theta) for objective in objectives))

    def fit() -> None:
        EM(n_init=starts, n_moves=0, random_state=0, max_iter=50).fit_many(model, x.unsqueeze(0), y.unsqueeze(0))

    def peer() -> None:
        with patch.object(SmoothGateObjective, "supports", return_value=False):
            fit()

    return evaluations + seconds(fit, peer)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small size")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print(f"{'gate':<20}{'n':>7}{'evaluation: ours':>18}{'autograd':>10}{'ratio':>8}{'fit: ours':>11}", end="")
    print(f"{'autograd':>10}{'ratio':>8}")
    for name, gate in GATES.items():
        for n in [100] if options.quick else [250, 1000]:
            own, peer, fit, peer_fit = compare(gate, n, 1 if options.quick else 3)
            line = f"{name:<20}{n:>7}{own:>18.4f}{peer:>10.4f}{own / peer:>8.3f}{fit:>11.2f}{peer_fit:>10.2f}"
            print(f"{line}{fit / peer_fit:>8.3f}", flush=True)


if __name__ == "__main__":
    main()
