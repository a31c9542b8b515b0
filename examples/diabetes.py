"""Disease progression in 442 diabetics from ten covariates: mixtures of experts beside their simpler relatives.

Each model gives a density of y given x; they are compared by the log-density of held-out patients. The numbers of
principal components and of experts are chosen inside each training set, by a grid search over a scikit-learn pipeline.

Run: python examples/diabetes.py
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
from scipy.special import logsumexp
from scipy.stats import norm
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.datasets import load_diabetes
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LinearRegression
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from estimators import EM, MixtureOfExpertsRegressor

Array = NDArray[np.float64]
_COLORS = {"linear regression": "0.45", "Gaussian mixture of (x, y)": "#E69F00", "mixture of experts": "#0072B2"}


class GaussianLinearRegression(RegressorMixin, BaseEstimator):
    """Least squares with Gaussian noise of maximum-likelihood variance: a mixture of one expert."""

    def fit(self, X: Array, y: Array) -> "GaussianLinearRegression":
        """Coefficients and the variance of the residuals."""
        self.regression_ = LinearRegression().fit(X, y)
        self.std_ = float(np.std(y - self.regression_.predict(X)))
        return self

    def predict(self, X: Array) -> Array:
        """Conditional means ``(n,)``."""
        return self.regression_.predict(X)

    def score_samples(self, X: Array, y: Array) -> Array:
        """Log-density of each y given its x, ``(n,)``."""
        return norm.logpdf(y, self.predict(X), self.std_)


class JointMixtureRegression(RegressorMixin, BaseEstimator):
    """The distribution of y given x under scikit-learn's ``GaussianMixture`` of (x, y), k full covariances."""

    def __init__(self, k: int = 1) -> None:
        self.k = k

    def fit(self, X: Array, y: Array) -> "JointMixtureRegression":
        """Fit the joint law."""
        self.mixture_ = GaussianMixture(self.k, n_init=5, reg_covar=1e-3, random_state=0).fit(np.column_stack([X, y]))
        return self

    def conditional(self, X: Array) -> tuple[Array, Array, Array]:
        """Log-weights and means ``(n, k)``, standard deviations ``(k,)``."""
        log_weights, means, stds = [], [], []
        for weight, mean, covariance in zip(
            self.mixture_.weights_, self.mixture_.means_, self.mixture_.covariances_, strict=True
        ):
            inside, cross = covariance[:-1, :-1], covariance[:-1, -1]
            slope = np.linalg.solve(inside, cross)
            centered = X - mean[:-1]
            distance = (centered * np.linalg.solve(inside, centered.T).T).sum(1)
            log_weights.append(np.log(weight) - 0.5 * (distance + np.linalg.slogdet(inside)[1]))
            means.append(mean[-1] + centered @ slope)
            stds.append(np.sqrt(covariance[-1, -1] - slope @ cross))
        joint = np.column_stack(log_weights)
        return joint - logsumexp(joint, axis=1, keepdims=True), np.column_stack(means), np.array(stds)

    def predict(self, X: Array) -> Array:
        """Conditional means ``(n,)``."""
        log_weights, means, _ = self.conditional(X)
        return (np.exp(log_weights) * means).sum(1)

    def score_samples(self, X: Array, y: Array) -> Array:
        """Log-density of each y given its x, ``(n,)``."""
        log_weights, means, stds = self.conditional(X)
        return logsumexp(log_weights + norm.logpdf(y[:, None], means, stds), axis=1)


def log_densities(pipeline: Pipeline, X: Array, y: Array) -> Array:
    """Log-density of each patient under the last step of a pipeline, whose own ``score_samples`` takes no y."""
    return pipeline[-1].score_samples(pipeline[:-1].transform(X), y)


def mean_log_density(pipeline: Pipeline, X: Array, y: Array) -> float:
    """A scorer for ``GridSearchCV``."""
    return float(np.mean(log_densities(pipeline, X, y)))


def candidates(quick: bool) -> dict[str, GridSearchCV]:
    """The models by name: each searches over the number of principal components, and of experts if it has them."""
    inner = KFold(3 if quick else 5, shuffle=True, random_state=1)
    em = EM(n_init=3 if quick else 5, random_state=0, variance_floor=1e-2)
    finals = {
        "linear regression": (GaussianLinearRegression(), None),
        "Gaussian mixture of (x, y)": (JointMixtureRegression(), "k"),
        "mixture of experts": (MixtureOfExpertsRegressor(estimator=em), "n_experts"),
    }
    searches = {}
    for name, (final, size) in finals.items():
        steps = Pipeline([("scale", StandardScaler()), ("pca", PCA()), ("model", final)])
        grid = {"pca__n_components": [4] if quick else [2, 4, 6]} | ({} if size is None else {f"model__{size}": [1, 2]})
        searches[name] = GridSearchCV(steps, grid, scoring=mean_log_density, cv=inner)
    return searches


def compare(searches: dict[str, GridSearchCV], X: Array, y: Array, folds: int) -> dict[str, Array]:
    """Mean log-density of each held-out fold, ``(folds,)``, and its root mean squared error, by model."""
    scores = {name: np.empty((2, folds)) for name in searches}
    for fold, (train, test) in enumerate(KFold(folds, shuffle=True, random_state=0).split(X)):
        for name, search in searches.items():
            best = clone(search).fit(X[train], y[train]).best_estimator_
            error = np.sqrt(np.mean((y[test] - best.predict(X[test])) ** 2))
            scores[name][:, fold] = mean_log_density(best, X[test], y[test]), error
    return scores


def print_table(scores: dict[str, Array]) -> None:
    """Means over the folds, and gains over linear regression."""
    base = scores["linear regression"][0]
    print(f"{'':<28}{'log-density':>12}{'gain':>8}{'(s.e.)':>9}{'RMSE':>8}")
    for name, (density, error) in scores.items():
        gain = density - base
        spread = gain.std(ddof=1) / np.sqrt(len(gain))
        print(f"{name:<28}{density.mean():>12.3f}{gain.mean():>8.3f}{spread:>9.3f}{error.mean():>8.1f}")
    print("Mean of the held-out folds, per patient in nats; the gain is over linear regression, fold by fold.")


def draw(scores: dict[str, Array], linear: Pipeline, experts: Pipeline, X: Array, y: Array, path: Path) -> None:
    """Gains by fold; then the distribution of y for three patients, and all patients with their intervals."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    draw_gains(left, scores)
    predicted = experts.predict(X)
    fitted = {"linear regression": linear, "mixture of experts": experts}
    draw_laws(middle, fitted, X, y, np.argsort(predicted)[[len(y) // 20, len(y) // 2, -len(y) // 20]])
    draw_intervals(right, experts, X, y, predicted)
    figure.savefig(path, dpi=150)


def draw_gains(ax: Axes, scores: dict[str, Array]) -> None:
    """A dot a fold, a bar at the mean."""
    base = scores["linear regression"][0]
    others = [name for name in scores if name != "linear regression"]
    for row, name in enumerate(others):
        gain = scores[name][0] - base
        ax.plot(gain, np.full(len(gain), row), "o", color=_COLORS[name], alpha=0.5)
        ax.plot(gain.mean(), row, "|", color=_COLORS[name], markersize=40, markeredgewidth=3)
    ax.axvline(0.0, color="0.3", linewidth=1)
    ax.set(yticks=range(len(others)), yticklabels=[n.replace(" of ", "\nof ") for n in others], ylim=(-0.5, 1.5))
    ax.set(xlabel="gain in held-out log-density (nats a patient)", title="Gain over linear regression, fold by fold")


def draw_laws(ax: Axes, fitted: dict[str, Pipeline], X: Array, y: Array, patients: Array) -> None:
    """The conditional densities of some patients under two models."""
    grid = np.linspace(y.min() - 60, y.max() + 40, 400)
    for name in fitted:
        for patient in patients:
            density = np.exp(log_densities(fitted[name], np.repeat(X[[patient]], len(grid), 0), grid))
            label = name if patient == patients[0] else None
            ax.plot(grid, density, color=_COLORS[name], label=label, linewidth=1.8)
    ax.plot(y[patients], np.zeros(3), "k^", clip_on=False, label="what was observed")
    ax.set(xlabel="disease progression", ylabel="density", title="Three patients; two experts on four components")
    ax.set_ylim(0.0, 1.35 * ax.get_ylim()[1])
    ax.legend(frameon=False, fontsize="small", loc="upper right")


def draw_intervals(ax: Axes, pipeline: Pipeline, X: Array, y: Array, predicted: Array) -> None:
    """Every patient against the predicted mean, on the predictive interval."""
    low, high = pipeline[-1].predict_interval(pipeline[:-1].transform(X), level=0.9).T
    inside = (low <= y) & (y <= high)
    ax.vlines(predicted, low, high, color="0.85", linewidth=2.5)
    ax.plot(predicted[inside], y[inside], ".", color=_COLORS["mixture of experts"], markersize=4)
    ax.plot(predicted[~inside], y[~inside], "x", color="black", markersize=5)
    ax.set(xlabel="conditional mean", ylabel="disease progression")
    ax.set_title(f"The two experts' 90% intervals hold {inside.mean():.0%}")


def main(quick: bool) -> None:
    """Compare, print, draw."""
    torch.set_num_threads(1)
    X, y = load_diabetes(return_X_y=True)
    searches = candidates(quick)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        scores = compare(searches, X, y, folds=3 if quick else 10)
        fitted = {name: search.fit(X, y) for name, search in searches.items()}
        two = clone(searches["mixture of experts"].estimator)
        two.set_params(pca__n_components=4, model__n_experts=2).fit(X, y)
    print_table(scores)
    print("\nChosen on all patients: " + "; ".join(f"{name} {f.best_params_}" for name, f in fitted.items()))
    output = Path("examples/output")
    output.mkdir(parents=True, exist_ok=True)
    draw(scores, fitted["linear regression"].best_estimator_, two, X, y, output / "diabetes.png")
    print(f"Picture: {output / 'diabetes.png'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer folds and candidates")
    main(parser.parse_args().quick)
