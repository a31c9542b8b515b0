"""How sure is a fit? Old Faithful's next eruption by two experts: a band for the mean, a profile, a bootstrap, a test.

Run: python examples/uncertainty.py
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from scipy.stats import chi2
from torch import Tensor

from estimators import EM, FitResult
from estimators.inference import BootstrapResult, bootstrap, likelihood_ratio_test, profile_likelihood
from mixkit import Gate, MixtureOfExperts, constant_gate, linear_gaussian_experts, softmax_gate
from mixkit.datasets import load_faithful

_BLUE, _ORANGE, _GREEN = "#0072B2", "#D55E00", "#009E73"
_SHOWN, _WINDOW, _TURN = "gate_weight[0,x0]", (-8.0, 30.0), -0.3  # to the left of which the experts change places


def fit(gate: Gate, x: Tensor, y: Tensor) -> FitResult:
    """Two linear experts behind a gate."""
    experts = linear_gaussian_experts(1, 2, generator=torch.Generator().manual_seed(0))
    return EM(random_state=0).fit(MixtureOfExperts(gate, experts), x, y)


def draw_mean(ax: Axes, result: FitResult, x: Tensor, y: Tensor) -> None:
    """The data, the conditional mean and its 95% band."""
    grid = torch.linspace(float(x.min()), float(x.max()), 150, dtype=torch.float64)
    mean = result.mean_conf_int(grid.unsqueeze(-1), cov_type="sandwich")
    ax.scatter(x[:, 0], y, s=12, color="0.35", alpha=0.5, linewidth=0)
    ax.plot(grid, mean.value, color=_BLUE, label="conditional mean")
    ax.fill_between(grid, *mean.interval.T, color=_BLUE, alpha=0.3, linewidth=0, label="95% band, sandwich")
    ax.set(xlabel="length of the last eruption (min)", ylabel="wait for the next (min)", title="How sure is the mean?")
    ax.legend(frameon=False, loc="upper left")


def draw_profile(ax: Axes, result: FitResult, points: int) -> None:
    """Twice the drop of the profile, and of the parabola behind the Wald interval."""
    index, limit = result.param_names.index(_SHOWN), chi2.ppf(0.95, 1)
    wald, profile = result.conf_int()[index], result.conf_int(method="profile")[index]
    values = np.linspace(*_WINDOW, points)
    ax.plot(values, ((values - result.params[index]) / result.bse[index]) ** 2, "--", color="0.55", label="Wald")
    values = np.linspace(_TURN, _WINDOW[1], points)
    ax.plot(values, 2 * (result.llf - profile_likelihood(result, _SHOWN, values)), color=_ORANGE, label="profile")
    ax.axhline(limit, color="0.8", linewidth=1, zorder=0)
    for ends, color in ((wald, "0.55"), (profile, _ORANGE)):
        shown = [end for end in ends if _WINDOW[0] < end < _WINDOW[1]]
        ax.scatter(shown, [limit] * len(shown), color=color, zorder=3)
    ax.set(xlabel="weight of the gate", ylabel="2 x drop in log-likelihood", title="A likelihood that is not quadratic")
    ax.set(xlim=_WINDOW, ylim=(0, 2.2 * limit))
    ax.legend(frameon=False, loc="upper right")


def draw_bootstrap(ax: Axes, result: FitResult, found: BootstrapResult) -> None:
    """Refits of resampled data, above the three intervals."""
    index = result.param_names.index(_SHOWN)
    shown = found.replicates[:, index]
    counts, *_ = ax.hist(shown, np.linspace(*_WINDOW, 31), color=_GREEN, alpha=0.45)
    intervals = {
        "bootstrap, BCa": (found.conf_int()[index], _GREEN),
        "profile": (result.conf_int(method="profile")[index], _ORANGE),
        "Wald": (result.conf_int()[index], "0.55"),
    }
    for row, (name, (ends, color)) in enumerate(intervals.items(), 1):
        ax.hlines(-0.06 * row * counts.max(), *np.clip(ends, -1e3, 1e3), color=color, linewidth=3, label=name)
    beyond = (shown > _WINDOW[1]).mean()
    ax.set(xlim=_WINDOW, xlabel="weight of the gate", ylabel="refits")
    ax.set_title(f"{len(shown):,} refits, {beyond:.0%} of them further right")
    ax.set_yticks([tick for tick in ax.get_yticks() if 0 <= tick <= counts.max()])
    ax.legend(frameon=False, title="95% intervals", loc="upper right")


def main(quick: bool) -> None:
    """Fit, print, test, draw."""
    x, y = load_faithful()
    result = fit(softmax_gate(1, 2, generator=torch.Generator().manual_seed(0)), x, y)
    print(result.summary(cov_type="sandwich"))
    print(f"\nAgainst a gate that ignores x: {likelihood_ratio_test(fit(constant_gate(2), x, y), result)}")
    ends = result.conf_int(method="profile")[result.param_names.index(_SHOWN)]
    print(f"Profile interval of the gate's weight: [{ends[0]:.2f}, {ends[1]:.2f}]")
    found = bootstrap(result, 200 if quick else 2_000, resampling="weights", random_state=0)
    print(found.to_frame().round(3), f"\n{found}")

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    draw_mean(axes[0], result, x, y)
    draw_profile(axes[1], result, 25 if quick else 80)
    draw_bootstrap(axes[2], result, found)
    output = Path("examples/output")
    output.mkdir(parents=True, exist_ok=True)
    figure.savefig(output / "uncertainty.png", dpi=150)
    print(f"\nPicture: {output / 'uncertainty.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer refits")
    main(parser.parse_args().quick)
