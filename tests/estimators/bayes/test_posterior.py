"""What a posterior says: names, tables, predictions, information criteria, ArviZ."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from estimators import EM
from estimators.bayes import BayesianMixtureOfExperts, Posterior, fit_chi_square, fit_nuts, laplace
from estimators.bayes.user_parameters import reported
from mixkit.datasets import load_tone

from ..models import LINEAR_CASES, softmax_model
from .cases import CASES, DTYPE, seeded


@pytest.fixture(scope="module")
def fit():
    x, y = load_tone()
    return EM(random_state=0).fit(softmax_model(1, 2), x, y)


@pytest.fixture(scope="module")
def posterior(fit):
    x, y = load_tone()
    bayes = BayesianMixtureOfExperts(fit.model, x, y)
    return fit_chi_square(bayes, steps=60, num_samples=400, at=laplace(bayes, fit.model), random_state=0)


@pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")
@pytest.mark.parametrize("case", LINEAR_CASES, ids=lambda case: case.name)
def test_names_and_values_are_those_of_fits(case):
    x, y = case.data(60, 2, 0)
    result = EM(n_init=1, em_iter=1, max_iter=1, random_state=0).fit(case.model(2, 3, 0), x, y)
    bayes = BayesianMixtureOfExperts(result.model, x, y)
    names, values = reported(bayes, bayes.read(result.model))
    assert names == result.param_names
    np.testing.assert_allclose(values, result.params, rtol=1e-9, atol=1e-9)


def test_other_models_report_all_their_parameters():
    bayes = BayesianMixtureOfExperts(CASES[9].model(), *CASES[9].data())
    names, values = reported(bayes, bayes.read(CASES[9].model()))
    assert "gate_weight[1,x0]" in names
    assert "gate_weight[2,x0]" not in names  # the reference
    assert "experts.predictor.module.0.weight[3,1]" in names
    assert len(names) == len(set(names)) == len(values)


def test_near_the_maximum_the_posterior_is_the_wald_law(posterior, fit):
    """150 observations: means within one standard error, deviations within 30%."""
    assert posterior.param_names == fit.param_names
    assert (np.abs(posterior.mean - fit.params) < fit.bse).all()
    np.testing.assert_allclose(posterior.std, fit.bse, rtol=0.3)


def test_summary(posterior):
    table = posterior.summary(level=0.9)
    text = str(table)
    assert "gate_weight[0,x0]" in text
    assert "Log-evidence" in text
    frame = table.to_frame()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame.columns) == ["mean", "std", "0.05", "0.95", "ess", "r_hat"]
    np.testing.assert_allclose(frame["mean"], posterior.mean)
    assert "Posterior(variational importance, chains=1, draws=400, parameters=8)" in repr(posterior)


def test_predictions(posterior):
    x, y = load_tone()
    means = posterior.predict_means(x)
    assert means.shape == (400, 150)
    draw = {name: value[7] for name, value in posterior.draws().items()}
    torch.testing.assert_close(means[7], posterior.bayes.law(draw, x).mean)
    np.testing.assert_allclose(posterior.predict(x), means.mean(0))
    low, high = posterior.mean_interval(x, level=0.95).T
    assert ((low < posterior.predict(x)) & (posterior.predict(x) < high)).all()
    draws = posterior.sample_y(x, random_state=0)
    assert torch.equal(draws, posterior.sample_y(x, random_state=0))
    low, high = posterior.predict_interval(x, level=0.9, random_state=0).T
    share = ((low <= y.numpy()) & (y.numpy() <= high)).mean()
    assert abs(share - 0.9) < 5.0 * np.sqrt(0.09 / len(y))  # 5 standard errors of a share


def test_predictions_take_what_numpy_takes(posterior):
    x, y = load_tone()
    for rows in (pd.DataFrame(x.numpy(), columns=["ratio"]), x.tolist(), x.numpy()[::-1][::-1]):
        np.testing.assert_array_equal(posterior.predict(rows), posterior.predict(x))
        np.testing.assert_array_equal(posterior.mean_interval(rows), posterior.mean_interval(x))
        np.testing.assert_array_equal(
            posterior.predict_interval(rows, random_state=0), posterior.predict_interval(x, random_state=0)
        )
    series = pd.Series(y.numpy())
    assert torch.equal(posterior.log_likelihood(rows, series), posterior.log_likelihood(x, y))
    with pytest.raises(ValueError, match=r"y must have shape \(150,\), one row for each of x, got \(150, 1\)"):
        posterior.log_likelihood(x, series.to_frame())
    with pytest.raises(TypeError, match="x must be numeric, got DataFrame"):
        posterior.predict(pd.DataFrame({"ratio": ["a", "b"]}))


def test_a_posterior_survives_pickling(posterior):
    x, _ = load_tone()
    copy = pickle.loads(pickle.dumps(posterior))
    np.testing.assert_array_equal(copy.values, posterior.values)
    np.testing.assert_array_equal(copy.predict(x), posterior.predict(x))
    assert copy.importance.log_evidence == posterior.importance.log_evidence


def test_waic_is_arvizs(posterior):
    import arviz

    waic, exported = posterior.waic(), posterior.to_arviz()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = arviz.waic(exported, pointwise=True)
    assert waic.elpd == pytest.approx(theirs.elpd_waic, rel=1e-3)
    assert waic.p_waic == pytest.approx(theirs.p_waic, rel=0.02)  # arviz divides by s, we by s - 1
    assert waic.se == pytest.approx(theirs.se, rel=0.01)
    assert waic.lppd == pytest.approx(posterior.log_predictive_density(posterior.bayes.x, posterior.bayes.y).sum())


@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto")
def test_loo_is_near_waic(posterior):
    loo = posterior.loo()
    assert loo.elpd_loo == pytest.approx(posterior.waic().elpd, abs=2.0)


def test_arviz_holds_everything(posterior):
    data = posterior.to_arviz(predictive=True, random_state=0)
    assert {"posterior", "log_likelihood", "observed_data", "posterior_predictive"} <= set(data.groups())
    np.testing.assert_array_equal(
        data.posterior["std[0]"], posterior.values[..., posterior.param_names.index("std[0]")]
    )
    assert data.posterior_predictive["y"].shape == (1, 400, 150)


def test_arviz_is_asked_for_by_name(posterior, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(ImportError, match=r"pip install 'mixkit\[bayes\]'"):
        posterior.to_arviz()


@pytest.mark.parametrize("case", [CASES[3], CASES[4], CASES[8], CASES[9]], ids=lambda case: case.name)
def test_every_family_is_predicted(case):
    """Draws near the model's own parameters stand for a posterior: what is checked is shapes and finiteness."""
    bayes = BayesianMixtureOfExperts(case.model(), *case.data())
    vectors = bayes.vector(bayes.read(case.model())) + 0.1 * torch.randn(
        6, bayes.num_params, dtype=DTYPE, generator=seeded(4)
    )
    samples = {name: value.unsqueeze(0) for name, value in bayes.parameters(vectors).items()}
    posterior = Posterior(bayes, samples, "near the model")
    x, y = case.data()
    for values in (posterior.predict_means(x), posterior.sample_y(x, 0)):
        assert values.shape == (6, *y.shape)
        assert bool(torch.isfinite(values).all())
    assert np.isfinite(posterior.waic().elpd)
    assert posterior.predict_interval(x, level=0.5, random_state=0).shape == (*y.shape, 2)


def test_top_k_gates_are_sampled():
    case = CASES[2]
    bayes = BayesianMixtureOfExperts(case.model(), *case.data())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the density jumps: trajectories may diverge
        posterior = fit_nuts(bayes, num_samples=10, warmup=10, num_chains=1, max_tree_depth=3, random_state=0)
    assert bool(torch.isfinite(posterior.values).all())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: p.predict(np.zeros((3, 2))), r"x must have shape \(n, 1\), got \(3, 2\)"),
        (lambda p: p.predict([[np.nan]]), "x must be finite"),
        (lambda p: p.interval(level=1.5), "level must be strictly between 0 and 1"),
        (lambda p: p.predict_interval([[1.0]], level=0.0), "level must be strictly between 0 and 1"),
    ],
)
def test_bad_input_is_refused(posterior, call, message):
    with pytest.raises(ValueError, match=message):
        call(posterior)
