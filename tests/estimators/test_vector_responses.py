"""Vector responses: floors of each coordinate's own scale, and parameters as users read them."""

import numpy as np
import pytest
import torch

from estimators import EM, MixtureOfExpertsClassifier, MixtureOfExpertsRegressor, select_experts
from estimators.bayes import BayesianMixtureOfExperts, laplace
from estimators.inference import ProfileWarning, profile_intervals, profile_likelihood
from estimators.penalties import Ridge
from mixkit import MixtureOfExperts, constant_gate, dense_to_sparse_gate, linear_gaussian_experts, softmax_gate
from mixkit.datasets import load_faithful, load_tone
from mixkit.experts import (
    DiagonalCovariance,
    FullCovariance,
    GaussianExperts,
    MultivariateGaussianExperts,
    SphericalCovariance,
)
from mixkit.experts.predictors import ConstantPredictor, LinearPredictor
from tests.estimators.models import seeded

DOUBLE = {"dtype": torch.float64}
T = torch.linspace(-1, 1, 40, **DOUBLE)


def options(seed=0):
    return DOUBLE | {"generator": seeded(seed)}


def two_responses(scale):
    return T.unsqueeze(-1), torch.stack([1 + 2 * T + torch.sin(37 * T), scale * (1 - T + torch.cos(53 * T))], -1)


def vector_model(covariance, k=1):
    predictor = LinearPredictor(1, k, response_dim=2, **options())
    return MixtureOfExperts(
        softmax_gate(1, k, **options()), MultivariateGaussianExperts(predictor, covariance(k, 2, **DOUBLE))
    )


@pytest.mark.parametrize("covariance", [DiagonalCovariance, FullCovariance])
@pytest.mark.parametrize(("scale", "expected"), [(1e-3, 189.781), (1e-4, 281.885), (1e-9, 742.402), (1e6, -639.149)])
def test_floors_are_those_of_each_response(covariance, scale, expected):
    """The two regressions apart, whose log-likelihoods add up as the residuals are uncorrelated to two digits."""
    x, y = two_responses(scale)
    fit = EM(n_init=1, random_state=0).fit(vector_model(covariance), x, y)
    line = MixtureOfExperts(softmax_gate(1, 1, **options()), GaussianExperts(LinearPredictor(1, 1, **options())))
    alone = [EM(n_init=1, random_state=0).fit(line, x, z).llf for z in y.mT]
    assert fit.llf == pytest.approx(sum(alone), abs=0.1 if covariance is FullCovariance else 1e-6)
    assert fit.llf == pytest.approx(expected, abs=2e-3)
    assert fit.warnings == []


@pytest.mark.parametrize(("covariance", "df"), [(DiagonalCovariance, 6), (FullCovariance, 7), (SphericalCovariance, 5)])
def test_degrees_of_freedom(covariance, df):
    fit = EM(n_init=1, random_state=0).fit(vector_model(covariance), *two_responses(1.0))
    assert fit.df_model == len(fit.params) == len(fit.param_names) == df


class TestOldFaithful:
    @pytest.fixture(scope="class")
    @classmethod
    def fit(cls):
        x, y = load_faithful()
        experts = MultivariateGaussianExperts(
            ConstantPredictor(2, response_dim=2, **options()), FullCovariance(2, 2, **DOUBLE)
        )
        both = torch.cat([x, y.unsqueeze(-1)], -1)
        return EM(random_state=0).fit(MixtureOfExperts(constant_gate(2, **DOUBLE), experts), x, both)

    def test_it_is_the_fit_of_mclust(self, fit):
        assert fit.llf == pytest.approx(-1130.264, abs=5e-4)
        assert fit.df_model == 11
        assert fit.bic == pytest.approx(2322.192, abs=2e-3)

    def test_covariances_are_read_as_standard_deviations_and_correlations(self, fit):
        tril = fit.model.experts.covariance.scale_tril().detach()
        matrix = tril @ tril.mT
        named = dict(zip(fit.param_names, fit.params, strict=True))
        for j in range(2):
            std = matrix[j].diagonal().sqrt()
            assert [named[f"std[{j},{p}]"] for p in range(2)] == pytest.approx(std.tolist())
            assert named[f"correlation[{j},1,0]"] == pytest.approx(float(matrix[j, 1, 0] / std.prod()))
        positive = dict(zip(fit.param_names, fit.is_positive, strict=True))
        assert positive["std[0,1]"]
        assert not positive["correlation[0,1,0]"]
        assert "factor" not in str(fit.summary())

    def test_standard_errors_are_those_of_complete_data_at_most(self, fit):
        """One expert's standard deviation has a relative error of 1 / sqrt(2 m), a correlation (1 - r^2) / sqrt(m)."""
        named = dict(zip(fit.param_names, zip(fit.params, fit.bse, strict=True), strict=True))
        m = 272 / (1 + np.exp(-named["gate_bias[0]"][0]))
        value, error = named["std[0,1]"]
        assert 1.0 < error / (value / np.sqrt(2 * m)) < 1.1
        value, error = named["correlation[0,1,0]"]
        assert 1.0 < error / ((1 - value**2) / np.sqrt(m)) < 1.1

    def test_profiles_of_functions_of_several_parameters_are_refused(self, fit):
        with pytest.raises(ValueError, match=r"function of one of the model's own, got 'correlation\[0,1,0\]'"):
            profile_likelihood(fit, "correlation[0,1,0]", [0.1])
        with pytest.warns(ProfileWarning):
            found = profile_intervals(fit, ["std[0,1]", "intercept[0,0]"])
        assert np.isnan(found[0]).all()
        assert found[1, 0] < 4.2897 < found[1, 1]


def test_a_posterior_reads_them_alike():
    x, y = two_responses(0.01)
    found = laplace(BayesianMixtureOfExperts(vector_model(FullCovariance), x, y), random_state=0)
    fit = EM(n_init=1, random_state=0).fit(vector_model(FullCovariance), x, y)
    assert found.param_names == fit.param_names
    np.testing.assert_allclose(found.summary().values[:, 0], fit.params, rtol=0.1, atol=0.05)


def test_a_ridge_does_not_depend_on_the_units_of_a_response():
    estimator = EM(n_init=1, random_state=0, penalty=Ridge(experts=20.0))
    fits = [estimator.fit(vector_model(DiagonalCovariance), *two_responses(scale)) for scale in (1.0, 1e-3)]
    slopes = [fit.model.experts.predictor.slope.detach()[0, :, 0] for fit in fits]
    torch.testing.assert_close(slopes[0], slopes[1] * torch.tensor([1.0, 1e3], **DOUBLE), rtol=1e-5, atol=0.0)
    assert fits[1].llf - fits[0].llf == pytest.approx(40 * np.log(1e3), abs=1e-5)


@pytest.mark.filterwarnings("ignore:the observed information is singular")
def test_a_redundant_temperature_is_no_degree_of_freedom():
    x, y = load_tone()
    softmax = MixtureOfExperts(softmax_gate(1, 2, **options()), linear_gaussian_experts(1, 2, **options()))
    tempered = MixtureOfExperts(dense_to_sparse_gate(1, 2, **options()), linear_gaussian_experts(1, 2, **options()))
    plain, fit = (EM(n_init=3, random_state=0).fit(model, x, y) for model in (softmax, tempered))
    assert fit.llf == pytest.approx(plain.llf, abs=1e-6)
    assert fit.df_model == plain.df_model == len(fit.params) - 1 == 8
    assert fit.aic == pytest.approx(plain.aic, abs=1e-5)


def test_a_constant_gate_by_its_name():
    x, y = (part.numpy() for part in load_tone())
    model = MixtureOfExperts(constant_gate(2, **DOUBLE), linear_gaussian_experts(1, 2, **options()))
    expected = EM(random_state=0).fit(model, x, y).llf
    face = MixtureOfExpertsRegressor(2, gate="constant", random_state=0).fit(x, y)
    assert face.log_likelihood_ == pytest.approx(expected, abs=1e-6)
    assert select_experts(x, y, [2], gate="constant", random_state=0).best.llf == pytest.approx(expected, abs=1e-6)
    labels = np.where(y > y.mean(), "high", "low")
    classes = MixtureOfExpertsClassifier(2, gate="constant", random_state=0).fit(x, labels)
    weights = classes.gate_weights(x)
    np.testing.assert_allclose(weights, weights[:1].repeat(len(x), 0))
    with pytest.raises(ValueError, match=r"one of \['activation', .*'temperature'\], got 'top-k'"):
        MixtureOfExpertsRegressor(2, gate="top-k").fit(x, y)
