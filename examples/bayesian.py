"""Two ways to hear a tone: the posterior of a mixture of two regressions beside Wald's and the bootstrap's intervals.

A musician tuned tones whose overtones had been stretched, sometimes to the stretched octave (a line of slope 1), mostly
to the true one (a flat line near 2). The example draws from the posterior by Hamiltonian Monte Carlo and by variational
importance sampling, compares the intervals, and asks the evidence for the number of experts.

Run: python examples/bayesian.py
"""

import argparse
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from estimators import EM, FitResult
from estimators.bayes import BayesianMixtureOfExperts, Posterior, fit_chi_square, fit_nuts, laplace
from estimators.inference import bootstrap
from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
from mixkit.datasets import load_tone

Array = NDArray[np.float64]
_COLORS = {"Wald": "0.45", "bootstrap": "#E69F00", "NUTS": "#0072B2", "importance": "#009E73"}
_EXPERTS = ("#D55E00", "#0072B2")


def mixture(k: int) -> MixtureOfExperts:
    """Linear experts behind a softmax gate."""
    generator = torch.Generator().manual_seed(0)
    return MixtureOfExperts(softmax_gate(1, k, generator=generator), linear_gaussian_experts(1, k, generator=generator))


def posteriors(fit: FitResult, x: Tensor, y: Tensor, quick: bool) -> dict[str, Posterior]:
    """Two samples from one posterior, both from the same mode."""
    bayes = BayesianMixtureOfExperts(fit.model, x, y)
    mode = laplace(bayes, fit.model)
    full = {"num_chains": 4, "num_samples": 500, "warmup": 200, "n_jobs": 2}
    chains = {"num_chains": 1, "num_samples": 100, "warmup": 60, "max_tree_depth": 4} if quick else full
    return {
        "NUTS": fit_nuts(bayes, at=mode, random_state=0, **chains),
        "importance": fit_chi_square(bayes, at=mode, random_state=0, steps=100 if quick else 300, num_samples=2000),
    }


def evidence(x: Tensor, y: Tensor, largest: int) -> None:
    """Print the log-evidence of one expert, two, ..."""
    print("\nLog-evidence by the number of experts (variational importance sampling)")
    for k in range(1, largest + 1):
        bayes = BayesianMixtureOfExperts(mixture(k), x, y)
        sample = fit_chi_square(bayes, steps=100 if k < 3 else 400, random_state=0).importance
        print(
            f"  k = {k}: {sample.log_evidence:9.2f} +- {sample.standard_error:.2f}, effective sample {sample.ess:.0f}"
        )


def print_table(fit: FitResult, intervals: dict[str, Array]) -> None:
    """Intervals of 95% side by side."""
    print("\n95% intervals" + " " * 9 + "estimate" + "".join(f"{name:>22}" for name in intervals))
    for row, name in enumerate(fit.param_names):
        cells = "".join(f"{ends[row, 0]:>12.4g}{ends[row, 1]:>10.4g}" for ends in intervals.values())
        print(f"{name:<20}{fit.params[row]:>10.4g}{cells}")


def draw_lines(ax: Axes, posterior: Posterior, x: Tensor, y: Tensor) -> None:
    """The data and both lines under draws from the posterior."""
    grid = torch.linspace(float(x.min()) - 0.05, float(x.max()) + 0.05, 100, dtype=torch.float64).unsqueeze(-1)
    draws = posterior.draws()
    slope, intercept = draws["experts.predictor.slope"], draws["experts.predictor.intercept"]
    lines = grid @ slope.mT + intercept.unsqueeze(-2)  # (s, points, k)
    for expert, color in enumerate(_EXPERTS):
        low, middle, high = np.quantile(lines[..., expert].numpy(), [0.025, 0.5, 0.975], axis=0)
        ax.fill_between(grid[:, 0], low, high, color=color, alpha=0.3, linewidth=0)
        ax.plot(grid[:, 0], middle, color=color, label=f"expert {expert}")
    ax.scatter(x[:, 0], y, s=12, color="0.25", alpha=0.6, linewidth=0, zorder=3)
    ax.set(xlabel="stretch ratio", ylabel="tuned ratio", title="Expert means, 95% posterior bands")
    ax.legend(frameon=False, loc="upper left")


def draw_intervals(ax: Axes, fit: FitResult, intervals: dict[str, Array]) -> None:
    """Every parameter's intervals, in standard errors around the maximum-likelihood estimate."""
    rows = np.arange(len(fit.param_names))
    offsets = np.linspace(-0.27, 0.27, len(intervals))
    for (name, ends), offset in zip(intervals.items(), offsets, strict=True):
        scaled = (ends - fit.params[:, None]) / fit.bse[:, None]
        ax.hlines(rows + offset, scaled[:, 0], scaled[:, 1], color=_COLORS[name], linewidth=2.5, label=name)
    ax.axvline(0.0, color="0.8", linewidth=1, zorder=0)
    ax.set_yticks(rows, fit.param_names)
    ax.invert_yaxis()
    ax.set(xlabel="distance from the estimate (standard errors)", title="95% intervals")


def main(quick: bool) -> None:
    """Fit, draw from the posterior, print, draw the picture."""
    x, y = load_tone()
    fit = EM(random_state=0).fit(mixture(2), x, y)
    drawn = posteriors(fit, x, y, quick)
    print(drawn["NUTS"].summary())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # replicates whose information is singular are counted, not shown one by one
        resampled = bootstrap(fit, 50 if quick else 999, random_state=0)
    intervals = {"Wald": fit.conf_int(), "bootstrap": resampled.conf_int()}
    intervals |= {name: posterior.interval() for name, posterior in drawn.items()}
    print_table(fit, intervals)
    print(f"\n{drawn['NUTS'].num_divergences} divergences; {drawn['importance'].importance}")
    waic = drawn["NUTS"].waic()
    print(
        f"WAIC: expected log predictive density {waic.elpd:.1f} +- {waic.se:.1f}, {waic.p_waic:.1f} parameters at work"
    )
    evidence(x, y, 2 if quick else 3)

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    draw_lines(left, drawn["NUTS"], x, y)
    draw_intervals(right, fit, intervals)
    figure.legend(*right.get_legend_handles_labels(), frameon=False, ncols=4, loc="outside lower right")
    output = Path("examples/output")
    output.mkdir(parents=True, exist_ok=True)
    figure.savefig(output / "bayesian.png", dpi=150)
    print(f"\nPicture: {output / 'bayesian.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few draws")
    main(parser.parse_args().quick)
