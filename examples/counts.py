"""Patents against research spending: mixtures of Poisson and of negative binomial experts; rates under an exposure.

Run: python examples/counts.py
"""

import argparse
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import torch
from matplotlib import pyplot as plt
from torch import Tensor

from estimators import EM, FitResult, SingularInformationWarning
from mixkit import (
    ConstantPredictor,
    LinearPredictor,
    MixtureOfExperts,
    NegativeBinomialExperts,
    PoissonExperts,
    constant_gate,
    softmax_gate,
)
from mixkit.datasets import load_patents
from mixkit.plotting import plot_fit

FAMILIES = {"Poisson": PoissonExperts, "negative binomial": NegativeBinomialExperts}


def fit(family: type, k: int, x: Tensor, y: Tensor, n_init: int) -> FitResult:
    """A mixture of k experts of one family behind a softmax gate."""
    generator = torch.Generator().manual_seed(0)
    model = MixtureOfExperts(
        softmax_gate(1, k, generator=generator), family(LinearPredictor(1, k, generator=generator))
    )
    return EM(n_init=n_init, random_state=0).fit(model, x, y)


def compare(x: Tensor, y: Tensor, n_init: int) -> dict[tuple[str, int], FitResult]:
    """All fits, and their criteria as a table."""
    print(f"{'family':<20}{'experts':>8}{'parameters':>12}{'log-likelihood':>16}{'AIC':>9}{'BIC':>9}  converged")
    fits = {}
    for name, family in FAMILIES.items():
        for k in (1, 2, 3):
            fits[name, k] = result = fit(family, k, x, y, n_init)
            criteria = f"{result.aic:>9.1f}{result.bic:>9.1f}"
            print(f"{name:<20}{k:>8}{result.df_model:>12}{result.llf:>16.2f}{criteria}  {result.converged}")
    return fits


def rates(x: Tensor, y: Tensor) -> None:
    """Patents per unit of spending: the logarithm of spending as an offset, so that the exposure is the spending."""
    with_offset = torch.cat([x, x], 1)  # the last column is the offset; the first is left for the gate
    experts = PoissonExperts(ConstantPredictor(1, offset=True, generator=torch.Generator().manual_seed(0)))
    result = EM(n_init=1, random_state=0).fit(MixtureOfExperts(constant_gate(1), experts), with_offset, y)
    rate, crude = np.exp(result.params[0]), float(y.sum() / x.exp().sum())
    print(
        f"\nPatents per unit of spending, one rate for all: {rate:.3f} (total counts over total spending: {crude:.3f})"
    )


def draw(fits: dict[tuple[str, int], FitResult], x: Tensor, y: Tensor, output: Path) -> Path:
    """The three Poisson experts beside the best mixture of negative binomial ones, on a scale of square roots."""
    figure, panels = plt.subplots(1, 2, figsize=(10, 4.5), sharex=True, sharey=True, layout="constrained")
    best = min(k for k in (1, 2, 3) if fits["negative binomial", k].bic == _least_bic(fits, "negative binomial"))
    for axes, key in zip(panels, (("Poisson", 3), ("negative binomial", best)), strict=True):
        plot_fit(fits[key].model, x, y, ax=axes)
        axes.set_yscale("function", functions=(np.sqrt, np.square))
        axes.set(xlabel="log research spending", ylabel="patents", ylim=(0.0, 260.0))
        axes.set_yticks([0, 10, 50, 100, 150, 200, 250])
        axes.set_title(f"{key[1]} {key[0]} expert{'s' if key[1] > 1 else ''}, BIC {fits[key].bic:.1f}")
    panels[1].set_ylabel("")
    path = output / "counts.png"
    figure.savefig(path, dpi=150)
    return path


def _least_bic(fits: dict[tuple[str, int], FitResult], name: str) -> float:
    return min(result.bic for (family, _), result in fits.items() if family == name)


def main(quick: bool) -> None:
    """Fit, compare, draw."""
    x, y = load_patents()
    with warnings.catch_warnings():  # a dispersion at its Poisson limit has no standard error
        warnings.simplefilter("ignore", SingularInformationWarning)
        fits = compare(x, y, n_init=5 if quick else 20)
    print()
    print(fits["Poisson", 3].summary())
    rates(x, y)
    output = Path("examples/output")
    output.mkdir(parents=True, exist_ok=True)
    print(f"Picture: {draw(fits, x, y, output)}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer starts")
    main(parser.parse_args().quick)
