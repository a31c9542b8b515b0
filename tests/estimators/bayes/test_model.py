"""The posterior density: Pyro's and ours are one, in any units, with any gate and experts."""

import pickle

import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch.autograd import gradcheck
from torch.distributions.transforms import ExpTransform

from estimators import MixtureOfExpertsRegressor
from estimators.bayes import BayesianMixtureOfExperts
from estimators.bayes.model import over_draws
from mixkit.datasets import load_faithful

from ..models import softmax_model
from .cases import CASE_IDS, CASES, DTYPE, one_line, seeded

every_case = pytest.mark.parametrize("case", CASES, ids=CASE_IDS)


def some_vectors(bayes, count=3):
    return 0.5 * torch.randn(count, bayes.num_params, dtype=DTYPE, generator=seeded(2))


@every_case
def test_pyro_sees_the_same_density(case):
    bayes = BayesianMixtureOfExperts(case.model(), *case.data())
    vector = some_vectors(bayes, 1)[0]
    parameters = bayes.parameters(vector)
    with torch.random.fork_rng(devices=[]):
        trace = poutine.trace(poutine.condition(bayes, data=parameters)).get_trace()
    total = trace.log_prob_sum()
    torch.testing.assert_close(total, bayes.log_density(vector))
    torch.testing.assert_close(total, bayes.log_prior(parameters) + bayes.log_likelihood(parameters))


@every_case
def test_the_likelihood_is_the_modules(case):
    bayes = BayesianMixtureOfExperts(case.model(), *case.data())
    expected = case.model().eval().log_prob(*case.data()).sum()
    torch.testing.assert_close(bayes.log_likelihood(bayes.read(case.model())), expected.detach())


@every_case
def test_many_draws_are_as_one_after_another(case):
    bayes = BayesianMixtureOfExperts(case.model(), *case.data())
    vectors = some_vectors(bayes)
    with torch.no_grad():
        together = over_draws(bayes.log_density, vectors)
        apart = torch.stack([bayes.log_density(vector) for vector in vectors])
    torch.testing.assert_close(together, apart)
    torch.testing.assert_close(torch.stack([bayes.vector(bayes.parameters(v)) for v in vectors]), vectors)


@every_case
def test_pickling_keeps_the_density(case):
    bayes = BayesianMixtureOfExperts(case.model(), *case.data())
    copy = pickle.loads(pickle.dumps(bayes))
    vector = some_vectors(bayes, 1)[0]
    assert torch.equal(copy.log_density(vector), bayes.log_density(vector))


def test_pickling_keeps_a_prior_of_an_exponential():
    bayes = BayesianMixtureOfExperts(CASES[0].model(), *CASES[0].data(), priors={"std": dist.HalfNormal(0.5)})
    vector = some_vectors(bayes, 1)[0]
    assert torch.equal(pickle.loads(pickle.dumps(bayes)).log_density(vector), bayes.log_density(vector))


@pytest.mark.parametrize("case", [CASES[0], CASES[3], CASES[8]], ids=lambda case: case.name)
def test_gradients(case):
    bayes = BayesianMixtureOfExperts(case.model(), *case.data(8))
    assert gradcheck(bayes.log_density, (some_vectors(bayes, 1)[0].requires_grad_(),))


def test_default_priors_know_no_units():
    """Posterior densities at two points have one ratio, whatever the units of x and y."""
    x, y = load_faithful()
    bayes = BayesianMixtureOfExperts(softmax_model(1, 2), x, y)
    other = BayesianMixtureOfExperts(softmax_model(1, 2), 60.0 * x + 7.0, y / 24.0 - 2.0)
    points = [softmax_model(1, 2, seed=seed) for seed in range(2)]
    images = []
    for point in points:
        parameters = bayes.read(point)
        weight, slope = parameters["gate.score.weight"] / 60.0, parameters["experts.predictor.slope"] / 24.0 / 60.0
        intercept = parameters["experts.predictor.intercept"] / 24.0 - 2.0 - 7.0 * slope[:, 0]
        images.append(
            {
                "gate.score.weight": weight,
                "gate.score.bias": parameters["gate.score.bias"] - 7.0 * weight[:, 0],
                "experts.predictor.slope": slope,
                "experts.predictor.intercept": intercept,
                "experts.log_std": parameters["experts.log_std"] - torch.tensor(24.0, dtype=DTYPE).log(),
            }
        )

    def ratio(model, pair):
        densities = [model.log_prior(p) + model.log_likelihood(p) for p in pair]
        return densities[0] - densities[1]

    torch.testing.assert_close(ratio(bayes, [bayes.read(p) for p in points]), ratio(other, images))


class TestPriorsOfTheUser:
    def test_names_may_be_short_and_natural(self):
        x, y = load_faithful()
        priors = {"std": dist.HalfNormal(5.0), "slope": dist.Normal(torch.tensor([[10.0], [5.0]], dtype=DTYPE), 1.0)}
        bayes = BayesianMixtureOfExperts(softmax_model(1, 2), x, y, priors=priors)
        parameters = bayes.read(softmax_model(1, 2))
        log_std, slope = parameters["experts.log_std"], parameters["experts.predictor.slope"]
        law = dist.TransformedDistribution(dist.HalfNormal(torch.tensor(5.0, dtype=DTYPE)), [ExpTransform().inv])
        torch.testing.assert_close(bayes.laws["experts.log_std"].log_prob(log_std), law.log_prob(log_std).sum())
        expected = dist.Normal(torch.tensor([[10.0], [5.0]], dtype=DTYPE), 1.0).log_prob(slope).sum()
        torch.testing.assert_close(bayes.laws["experts.predictor.slope"].log_prob(slope), expected)

    def test_a_support_is_kept_and_its_jacobian_counted(self):
        model, x, y = one_line()
        bayes = BayesianMixtureOfExperts(
            model, x, y, priors={"slope": dist.Gamma(2.0, 1.0), "intercept": dist.Normal(0.0, 1.0)}
        )
        vector = torch.tensor([0.3, -1.0], dtype=DTYPE)
        assert list(bayes.shapes) == ["experts.predictor.slope", "experts.predictor.intercept"]
        parameters = bayes.parameters(vector)
        torch.testing.assert_close(parameters["experts.predictor.slope"].squeeze(), vector[0].exp())
        density = bayes.log_prior(parameters) + bayes.log_likelihood(parameters) + vector[0]  # d exp(u) / d u
        torch.testing.assert_close(bayes.log_density(vector), density)

    def test_a_function_of_other_parameters(self):
        model, x, y = one_line()
        priors = {"intercept": lambda given: dist.Normal(given["experts.predictor.slope"][:, 0], 0.1)}
        bayes = BayesianMixtureOfExperts(model, x, y, priors=priors)
        parameters = bayes.parameters(torch.tensor([1.5, 1.4], dtype=DTYPE))
        expected = dist.Normal(torch.tensor(1.5, dtype=DTYPE), 0.1).log_prob(torch.tensor(1.4, dtype=DTYPE))
        slope = bayes.laws["experts.predictor.slope"].log_prob(parameters["experts.predictor.slope"])
        torch.testing.assert_close(bayes.log_prior(parameters), expected + slope)

    @pytest.mark.parametrize(
        ("priors", "error", "message"),
        [
            ({"slop": dist.Normal(0.0, 1.0)}, ValueError, "priors must name parameters of the model"),
            ({"bias": 3.0}, TypeError, "prior of gate.score.bias must be a torch or Pyro distribution, got float"),
            ({"slope": dist.Normal(torch.zeros(5), 1.0)}, ValueError, r"broadcast to the parameter's shape \(2, 1\)"),
        ],
    )
    def test_bad_priors_are_refused(self, priors, error, message):
        x, y = load_faithful()
        with pytest.raises(error, match=message):
            BayesianMixtureOfExperts(softmax_model(1, 2), x, y, priors=priors)

    def test_names_of_several_parameters_are_refused(self):
        case = CASES[8]
        with pytest.raises(ValueError, match="priors must name parameters of the model"):
            BayesianMixtureOfExperts(case.model(), *case.data(), priors={"std": dist.HalfNormal(1.0)})


@pytest.mark.parametrize("ordering", ["up", "log_std", 3])
def test_bad_orderings_are_refused(ordering):
    with pytest.raises(ValueError, match="ordering must be None, 'nearest' or a parameter with one row an expert"):
        BayesianMixtureOfExperts(CASES[1].model(), *CASES[1].data(), ordering=ordering)


def test_a_model_is_asked_for():
    with pytest.raises(TypeError, match=r"model must be a MixtureOfExperts \(.*result_.model\), got MixtureOfExpertsR"):
        BayesianMixtureOfExperts(MixtureOfExpertsRegressor(), *load_faithful())


def test_bad_data_are_refused():
    x, y = load_faithful()
    with pytest.raises(ValueError, match="y must have one row for each"):
        BayesianMixtureOfExperts(softmax_model(1, 2), x, y[:5])
