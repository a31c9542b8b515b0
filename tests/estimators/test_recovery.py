"""Every family's estimates approach the truth at the rate n^-1/2, by the information that the fits report."""

import numpy as np
import pytest
import torch
from scipy import stats

from estimators import MLE, SingularInformationWarning
from estimators.data.dataset import Data
from estimators.objectives.choose import make_objective
from mixkit import (
    BetaExperts,
    BinomialExperts,
    CategoricalExperts,
    GammaExperts,
    GeneralizedGaussianExperts,
    HurdlePoissonExperts,
    InverseGaussianExperts,
    LaplaceExperts,
    LinearPredictor,
    LogNormalExperts,
    MixtureOfExperts,
    NegativeBinomialExperts,
    OrdinalExperts,
    PoissonExperts,
    StudentTExperts,
    TruncatedPoissonExperts,
    ZeroInflatedPoissonExperts,
    constant_gate,
    linear_gaussian_experts,
    softmax_gate,
)

from .models import DTYPE, seeded

SIZES = (400, 1600, 6400)
TWO = {"dtype": DTYPE, "generator": seeded(0)}


def _linear(response_dim=None):
    return LinearPredictor(1, 2, response_dim=response_dim, dtype=DTYPE, generator=seeded(0))


FAMILIES = {
    "gaussian": (lambda: linear_gaussian_experts(1, 2, **TWO), [[2.0], [-2.0]], [0.0, 2.0]),
    "laplace": (lambda: LaplaceExperts(_linear(), dtype=DTYPE), [[2.0], [-2.0]], [0.0, 4.0]),
    "student-t": (lambda: StudentTExperts(_linear(), dtype=DTYPE), [[2.0], [-2.0]], [0.0, 8.0]),
    "log-normal": (lambda: LogNormalExperts(_linear(), dtype=DTYPE), [[2.0], [-2.0]], [0.0, 5.0]),
    "poisson": (lambda: PoissonExperts(_linear()), [[0.5], [-0.5]], [0.5, 3.0]),
    "negative binomial": (lambda: NegativeBinomialExperts(_linear(), dtype=DTYPE), [[0.5], [-0.5]], [0.0, 4.0]),
    "binomial": (lambda: BinomialExperts(_linear(), trials=12), [[1.0], [-1.0]], [-1.5, 1.5]),
    "gamma": (lambda: GammaExperts(_linear(), dtype=DTYPE), [[0.5], [-0.5]], [0.0, 3.0]),
    "inverse gaussian": (lambda: InverseGaussianExperts(_linear(), dtype=DTYPE), [[0.5], [-0.5]], [-1.0, 1.0]),
    "zero-inflated poisson": (lambda: ZeroInflatedPoissonExperts(_linear(), dtype=DTYPE), [[0.5], [-0.5]], [0.5, 3.0]),
    "hurdle poisson": (lambda: HurdlePoissonExperts(_linear(), dtype=DTYPE), [[0.5], [-0.5]], [0.5, 3.0]),
    "truncated poisson": (lambda: TruncatedPoissonExperts(_linear(), dtype=DTYPE), [[0.5], [-0.5]], [0.5, 3.0]),
    "generalized gaussian": (lambda: GeneralizedGaussianExperts(_linear(), dtype=DTYPE), [[2.0], [-2.0]], [0.0, 4.0]),
    "beta": (lambda: BetaExperts(_linear(), dtype=DTYPE), [[1.0], [-1.0]], [-1.5, 1.5]),
}


def true_model(name):
    """Two experts far enough apart, and a gate of some slope."""
    make, slope, intercept = FAMILIES[name]
    model = MixtureOfExperts(softmax_gate(1, 2, dtype=DTYPE, generator=seeded(0)), make())
    with torch.no_grad():
        model.experts.predictor.slope.copy_(torch.tensor(slope))
        model.experts.predictor.intercept.copy_(torch.tensor(intercept))
        model.gate.score.weight.copy_(torch.tensor([[2.0], [0.0]]))
        model.gate.score.bias.zero_()
        for constant in ("log_std", "log_scale", "log_dispersion", "zero_logit"):
            if hasattr(model.experts, constant):
                getattr(model.experts, constant).copy_(torch.tensor([-0.7, -0.4]))
    return model


@pytest.mark.parametrize("name", FAMILIES)
def test_errors_fall_as_one_over_the_root_of_n(name):
    """With I the information of one observation, taken from the largest fit, n e' I e is chi-square at every n.

    One fit a size from the truth; the sum over the sizes is tested at a false-alarm rate of 1e-5 a family, from above
    (errors too large, or falling too slowly) and from below (errors that cannot be those of estimates).
    """
    model, total, degrees, information = true_model(name), 0.0, 0, None
    for n in reversed(SIZES):
        x = 2.0 * torch.rand(n, 1, dtype=DTYPE, generator=seeded(n)) - 1.0
        with torch.no_grad():
            y = model(x).sample(generator=seeded(n + 1))
        result = MLE(n_init=0, starts=[], start_at_model=True, random_state=0).fit(model, x, y)
        assert result.converged
        objective = make_objective(model, Data(x[None], y[None], None), 1e-6, torch.zeros(1, dtype=torch.bool))
        to_user, truth = objective.user_map(), objective.read(model)[0, 0]
        # Errors of logarithms where parameters are positive: there the normal law sets in earlier.
        error = (to_user.linear(result.maximum.theta) - to_user.linear(truth)).numpy()
        if information is None:
            jacobian = to_user.matrix.numpy()
            covariance = jacobian @ np.linalg.inv(-result.maximum.hessian.numpy()) @ jacobian.T
            information = np.linalg.inv(n * covariance)
        total += n * error @ information @ error
        degrees += len(error)
    low, high = stats.chi2.isf([1.0 - 0.5e-5, 0.5e-5], degrees)
    assert low < total < high


def categorical():
    predictor = _linear(2)
    with torch.no_grad():
        predictor.slope.copy_(torch.tensor([[[3.0], [0.0]], [[-3.0], [1.0]]]))
        predictor.intercept.copy_(torch.tensor([[0.0, 1.0], [0.5, -1.0]]))
    return CategoricalExperts(predictor)


def ordinal():
    experts = OrdinalExperts(_linear(), 5, dtype=DTYPE)
    with torch.no_grad():
        experts.predictor.slope.copy_(torch.tensor([[3.0], [-3.0]]))
        experts.predictor.intercept.copy_(torch.tensor([1.0, 2.0]))
    return experts


@pytest.mark.parametrize("experts", [categorical, ordinal])
def test_class_probabilities_approach_the_truth(experts):
    """Twice what a fit gains over the truth is at most chi-square with P degrees at every n (false alarm 1e-5 in all).

    So the gain per observation, which measures the distance between the two laws, falls as 1 / n. The parameters
    themselves are hard to tell from labels, and are not compared.
    """
    model = MixtureOfExperts(softmax_gate(1, 2, dtype=DTYPE, generator=seeded(0)), experts())
    with torch.no_grad():
        model.gate.score.weight.copy_(torch.tensor([[4.0], [0.0]]))
    for n in SIZES:
        x = 2.0 * torch.rand(n, 1, dtype=DTYPE, generator=seeded(n)) - 1.0
        with torch.no_grad():
            y = model(x).sample(generator=seeded(n + 1))
            truth = float(model.log_prob(x, y).sum())
        _, end = MLE(n_init=0, starts=[], start_at_model=True, random_state=0)._best_optima(
            model, Data(x[None], y[None], None)
        )
        gain = 2.0 * (float(end.value) - truth)
        assert 0.0 < gain < stats.chi2.isf(1e-5 / len(SIZES), end.theta.shape[-1])


def test_the_dispersion_of_poisson_counts_ends_at_its_limit():
    """Counts that vary less than Poisson ones: the fit is the Poisson one with its errors; the limit has none."""
    x = torch.randn(300, 1, dtype=DTYPE, generator=seeded(0))
    y = torch.poisson(torch.exp(1.0 + 0.5 * x[:, 0]), generator=seeded(2))
    families = NegativeBinomialExperts(_one(), dtype=DTYPE), PoissonExperts(_one())
    models = [MixtureOfExperts(constant_gate(1, dtype=DTYPE), family) for family in families]
    with pytest.warns(SingularInformationWarning, match=r"dispersion\[0\]"):
        flexible = MLE(n_init=1, random_state=0).fit(models[0], x, y)
    poisson = MLE(n_init=1, random_state=0).fit(models[1], x, y)
    assert flexible.converged
    assert flexible.llf == pytest.approx(poisson.llf, abs=1e-7)
    np.testing.assert_allclose(flexible.bse[:2], poisson.bse, rtol=1e-4)
    assert flexible.params[2] < 1e-8
    assert np.isnan(flexible.bse[2])


def _one():
    return LinearPredictor(1, 1, dtype=DTYPE, generator=seeded(0))
