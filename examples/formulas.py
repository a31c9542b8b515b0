"""Articles of PhD students by formula: terms in common, a gate with terms of its own, a test, and a picture.

Run: python examples/formulas.py
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt

from estimators import FitResult, compare, fit_formula
from mixkit.datasets import load_articles


def fits(data: dict, n_init: int) -> dict[str, FitResult]:
    """One regression, two with constant weights, two whose weights depend on the mentor and the department."""
    settings = {"data": data, "family": "poisson", "random_state": 0, "n_init": n_init}
    return {
        "one": fit_formula("art ~ fem + mar + ment + kid5", num_experts=1, **settings),
        "constant": fit_formula("art ~ fem + mar + ment", num_experts=2, common="kid5", **settings),
        "gated": fit_formula("art ~ fem + mar + ment | ment + phd", num_experts=2, common="kid5", **settings),
    }


def draw(fit: FitResult, data: dict, path: Path) -> None:
    """Means of the two experts, and the weight of the first, against the articles of the mentor."""
    ments = np.arange(0.0, 41.0)
    fixed = {"fem": "Women", "mar": "Married", "kid5": 0.0, "phd": float(np.mean(data["phd"]))}
    grid = {name: [value] * len(ments) for name, value in fixed.items()} | {"ment": ments}
    first = fit.predict_proba(grid)[:, 0]
    mean = fit.mean_conf_int(grid)

    figure, (top, bottom) = plt.subplots(2, 1, figsize=(7, 6), sharex=True, height_ratios=(2, 1), layout="constrained")
    jitter = np.random.default_rng(0).uniform(-0.3, 0.3, (2, len(data["art"])))
    classes = fit.classify(data, data["art"])
    for expert in range(2):
        own = classes == expert
        points = np.array(data["ment"])[own] + jitter[0, own], np.array(data["art"])[own] + jitter[1, own]
        top.scatter(*points, s=8, alpha=0.5, label=f"likelier expert {expert}")
    top.plot(ments, mean.value, color="black", label="mean, married woman, no young children")
    top.fill_between(ments, *mean.interval.T, color="black", alpha=0.15)
    top.set(ylabel="articles", xlim=(-1, 41))
    figure.suptitle("Articles of PhD students in biochemistry")
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    bottom.plot(ments, first)
    bottom.set(xlabel="articles of the mentor", ylabel="weight of expert 0", ylim=(0, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    print(f"\nPicture: {path}")


def main(quick: bool) -> None:
    """Fit, compare, test, draw."""
    data = load_articles()
    found = fits(data, n_init=3 if quick else 10)
    print(compare(**found))
    print(f"\n{found['gated'].summary(cov_type='sandwich')}")
    print(f"\n{found['gated'].wald_test('slope[0,ment] = slope[1,ment]')}")
    draw(found["gated"], data, Path("examples/output/formulas.png"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer starts")
    main(parser.parse_args().quick)
