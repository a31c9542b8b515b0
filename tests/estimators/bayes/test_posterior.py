"""What a posterior says: names, tables, predictions, information criteria, ArviZ."""

import copy
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


def test_waic_is_its_definition(posterior):
    """Gelman, Hwang, Vehtari (2014), equations (5), (12) and (13), written in NumPy from the density of each draw."""
    x, y = load_tone()
    draws = posterior.draws()
    laws = [posterior.bayes.law({name: value[s] for name, value in draws.items()}, x) for s in range(400)]
    log_density = np.stack([law.log_prob(y).numpy(force=True) for law in laws])
    lppd = np.log(np.exp(log_density).mean(0))
    penalty = log_density.var(0, ddof=1)
    waic = posterior.waic()
    np.testing.assert_allclose(waic.pointwise, lppd - penalty, rtol=1e-9, atol=1e-12)
    assert waic.lppd == pytest.approx(lppd.sum())
    assert waic.p_waic == pytest.approx(penalty.sum())
    assert waic.elpd == pytest.approx(lppd.sum() - penalty.sum())
    assert waic.se == pytest.approx(np.sqrt(150) * (lppd - penalty).std())


@pytest.mark.filterwarnings("ignore:Estimated shape parameter of Pareto")
def test_loo_is_near_waic(posterior):
    """The two estimate one number; they differ by terms of higher order in the variance of each log-density."""
    loo, waic = posterior.loo(), posterior.waic()
    assert loo.elpd == pytest.approx(waic.elpd, abs=2.0)
    assert loo.se == pytest.approx(waic.se, rel=0.05)
    assert loo.p == pytest.approx(waic.lppd - loo.elpd)
    lppd = posterior.log_predictive_density(posterior.bayes.x, posterior.bayes.y)
    assert (loo.elpd_i.values < lppd).all()  # an observation is predicted worse without itself
    assert loo.pareto_k.shape == (150,)
    assert (loo.pareto_k < 1.0).all()


def test_arviz_holds_everything(posterior):
    x, y = load_tone()
    data = posterior.to_arviz(predictive=True, random_state=0)
    assert set(data.children) == {
        "posterior", "log_likelihood", "observed_data", "constant_data", "posterior_predictive"
    }  # fmt: skip
    assert list(data["posterior"].data_vars) == posterior.param_names
    for i, name in enumerate(posterior.param_names):
        np.testing.assert_array_equal(data["posterior"][name], posterior.values[..., i])
    np.testing.assert_array_equal(data["log_likelihood"]["y"][0], posterior.log_likelihood(x, y))
    np.testing.assert_array_equal(data["observed_data"]["y"], y)
    np.testing.assert_array_equal(data["constant_data"]["x"], x)
    np.testing.assert_array_equal(data["posterior_predictive"]["y"][0], posterior.sample_y(x, random_state=0))


def test_arviz_reads_chains_and_divergences(posterior):
    """Two chains of 200 draws, of which the fifth of the second chain diverged."""
    samples = {name: value.unflatten(0, (2, 200)) for name, value in posterior.draws().items()}
    diverging = torch.zeros(2, 200, dtype=torch.bool)
    diverging[1, 4] = True
    data = Posterior(posterior.bayes, samples, "by hand", diverging=diverging).to_arviz()
    np.testing.assert_array_equal(data["sample_stats"]["diverging"], diverging)
    np.testing.assert_array_equal(data["posterior"]["std[0]"], posterior.values[..., 6].reshape(2, 200))
    log_likelihood = posterior.log_likelihood(posterior.bayes.x, posterior.bayes.y)
    np.testing.assert_array_equal(data["log_likelihood"]["y"], log_likelihood.reshape(2, 200, 150))


@pytest.mark.parametrize("package", ["arviz_base", "arviz_stats"])
def test_arviz_is_asked_for_by_name(posterior, monkeypatch, package):
    import sys

    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r"pip install 'mixkit\[bayes\]'"):
        posterior.loo()


@pytest.mark.parametrize("case", [CASES[3], CASES[4], CASES[8], CASES[9]], ids=lambda case: case.name)
def test_every_family_is_predicted(case):
    """Draws near the model's own parameters stand for a posterior; each is the law of a model with these parameters."""
    bayes = BayesianMixtureOfExperts(case.model(), *case.data())
    vectors = bayes.vector(bayes.read(case.model())) + 0.1 * torch.randn(
        6, bayes.num_params, dtype=DTYPE, generator=seeded(4)
    )
    samples = {name: value.unsqueeze(0) for name, value in bayes.parameters(vectors).items()}
    posterior = Posterior(bayes, samples, "near the model")
    x, y = case.data()
    laws = [with_parameters(bayes.model, {name: value[0, s] for name, value in samples.items()})(x) for s in range(6)]
    means = torch.stack([law.mean for law in laws]).detach()
    log_density = torch.stack([law.log_prob(y) for law in laws]).detach()
    torch.testing.assert_close(posterior.predict_means(x), means)
    torch.testing.assert_close(posterior.log_likelihood(x, y), log_density)
    assert posterior.waic().elpd == pytest.approx(float((log_density.exp().mean(0).log() - log_density.var(0)).sum()))
    draws = posterior.sample_y(x, 0)
    assert bool(torch.stack([law.log_prob(row) for law, row in zip(laws, draws, strict=True)]).isfinite().all())
    ends = np.quantile(draws.numpy(), [0.25, 0.75], axis=0)
    np.testing.assert_allclose(posterior.predict_interval(x, level=0.5, random_state=0), np.moveaxis(ends, 0, -1))


def with_parameters(model, values):
    """A copy of a module with parameters replaced by name."""
    copied = copy.deepcopy(model)
    with torch.no_grad():
        for name, value in values.items():
            copied.get_parameter(name).copy_(value)
    return copied


def test_top_k_gates_are_sampled():
    case = CASES[2]
    bayes = BayesianMixtureOfExperts(case.model(), *case.data())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the density jumps: trajectories may diverge
        posterior = fit_nuts(bayes, num_samples=10, warmup=10, num_chains=1, max_tree_depth=3, random_state=0)
    values = posterior.values[0]
    assert values.shape == (10, len(posterior.param_names))
    assert len(values.unique(dim=0)) > 5  # the chain moves, for all its jumps
    assert bool((values[:, [name.startswith("std") for name in posterior.param_names]] > 0.0).all())
    assert bool(posterior.log_likelihood(*case.data()).isfinite().all())


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
