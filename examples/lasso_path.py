"""Which covariates matter to which expert: the lasso path of two linear experts on the diabetes data.

Run: python examples/lasso_path.py
"""

import argparse
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import torch
from matplotlib import pyplot as plt
from sklearn.datasets import load_diabetes

from estimators import EM, FitResult, SingularInformationWarning
from estimators.penalties import Lasso, Ridge
from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate

COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A5A00", "#7F7F7F", "#332288"]
PANELS = {"slope[0": "slopes of expert 0", "slope[1": "slopes of expert 1", "gate_weight[0": "gate, expert 0 against 1"}


def path(x: np.ndarray, y: np.ndarray, names: list[str], strengths: np.ndarray, n_init: int) -> list[FitResult]:
    """Fits of rising strength, each started at the one before; a little ridge keeps the gate finite throughout."""
    generator = torch.Generator().manual_seed(0)
    settings = {"dtype": torch.float64, "generator": generator}
    d = x.shape[1]
    model = MixtureOfExperts(softmax_gate(d, 2, **settings), linear_gaussian_experts(d, 2, **settings))
    fits = [EM(n_init=n_init, penalty=Ridge(gate=1.0), random_state=0).fit(model, x, y)]
    for strength in strengths:
        penalty = Lasso(gate=strength, experts=strength) + Ridge(gate=1.0)
        warm = EM(n_init=0, starts=[], start_at_model=True, penalty=penalty)
        fits.append(warm.fit(fits[-1].model, x, y))
    for fit in fits:
        fit.rename_features(names)
    return fits[1:]


def slopes(fits: list[FitResult], prefix: str, names: list[str], scale: np.ndarray) -> np.ndarray:
    """Standardized coefficients along the path, ``(strengths, d)``."""
    rows = [dict(zip(fit.param_names, fit.params, strict=True)) for fit in fits]
    return np.array([[row[f"{prefix},{name}]"] for name in names] for row in rows]) * scale


def criterion(fit: FitResult) -> float:
    """BIC with the slopes that are not zero for degrees of freedom."""
    return float(np.log(fit.nobs) * (fit.params != 0).sum() - 2.0 * fit.llf)


def draw(fits: list[FitResult], strengths: np.ndarray, names: list[str], scale: np.ndarray, output: Path) -> Path:
    """Coefficients against the strength, a panel for each expert and the gate; a line where BIC is least."""
    best = strengths[int(np.argmin([criterion(fit) for fit in fits]))]
    figure, panels = plt.subplots(1, 3, figsize=(13, 4.3), sharex=True, layout="constrained")
    for axes, (prefix, title) in zip(panels, PANELS.items(), strict=True):
        for values, name, color in zip(slopes(fits, prefix, names, scale).T, names, COLORS, strict=True):
            axes.plot(strengths, values, color=color, label=name, linewidth=1.6)
        axes.axvline(best, color="0.5", linestyle=":", linewidth=1.2)
        axes.axhline(0.0, color="0.8", linewidth=0.8, zorder=0)
        axes.set(xscale="log", xlabel="strength of the lasso", title=title)
    panels[0].set_ylabel("change of the mean per standard deviation")
    panels[2].set_ylabel("change of the log-odds per standard deviation")
    panels[0].text(1.05 * best, panels[0].get_ylim()[0] + 0.3, "least BIC", color="0.35", fontsize="small")
    panels[2].legend(frameon=False, fontsize="small", ncols=2)
    target = output / "lasso_path.png"
    figure.savefig(target, dpi=150)
    return target


def main(quick: bool) -> None:
    """Fit along the path, print the fit of least BIC, draw."""
    data = load_diabetes(scaled=False)
    x, y, names = data.data, data.target, list(data.feature_names)
    strengths = np.geomspace(0.5, 150.0, 12 if quick else 40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SingularInformationWarning)
        fits = path(x, y, names, strengths, n_init=5 if quick else 20)
    best = min(fits, key=criterion)
    print(best.summary())
    print(f"\nStrength {strengths[fits.index(best)]:.3g}; every fit converged: {all(fit.converged for fit in fits)}")
    output = Path("examples/output")
    output.mkdir(parents=True, exist_ok=True)
    print(f"Picture: {draw(fits, strengths, names, x.std(0), output)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer strengths and starts")
    main(parser.parse_args().quick)
