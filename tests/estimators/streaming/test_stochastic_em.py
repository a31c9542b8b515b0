"""EM on streams: as good as a fit to all rows, whatever the pieces in which they come."""

import re

import numpy as np
import pytest
import torch

from estimators import EM, MLE, LocalLines, SingularInformationWarning
from estimators.data.collinearity import CollinearityWarning
from estimators.data.dataset import Data
from estimators.streaming import IllDeterminedStartWarning, StochasticEM, Stream, array_batches
from estimators.streaming.linear import LinearRecursion
from mixkit import (
    MixingMeasure,
    MixtureOfExperts,
    PoissonExperts,
    constant_gate,
    linear_gaussian_experts,
    sigmoid_gate,
)
from mixkit.experts import MultivariateGaussianExperts, SphericalCovariance
from mixkit.experts.predictors import LinearPredictor

from ..models import DTYPE, LINEAR_CASES, reference_truth, seeded, softmax_model

_N = 24_000


@pytest.fixture(scope="module")
def reference():
    """Rows of the reference problem, and the fit to all of them."""
    x, y = reference_truth().sample_xy(_N, generator=seeded(11))
    return x, y, EM(random_state=0).fit(softmax_model(1, 2), x, y)


def aligned(result, fit):
    """Estimates of a stream with experts in the order of a fit."""
    names = fit.param_names
    measure, like = result.measure, fit.measure
    if float((measure.slope - like.slope).abs().max()) > 10.0:  # crossed lines: the other order
        order = torch.tensor([1, 0])
        parts = (
            getattr(measure, name)[order] for name in ("gate_bias", "gate_weight", "slope", "intercept", "variance")
        )
        measure = MixingMeasure(*parts)
    gate = torch.cat([measure.gate_weight, measure.gate_bias.unsqueeze(-1)], -1)
    expert = torch.cat([measure.slope, measure.intercept.unsqueeze(-1)], -1)
    values = torch.cat([(gate - gate[-1])[:-1].flatten(), expert.flatten(), measure.variance.sqrt()])
    assert len(values) == len(names)
    return values.numpy()


@pytest.mark.parametrize("batch_size", [250, 1000, 5000])
def test_one_pass_is_as_good_as_all_rows(reference, batch_size):
    """The stream's distance from the maximum on the same rows is a fraction of a standard error."""
    x, y, fit = reference
    result = StochasticEM(batch_size=batch_size, random_state=0).fit(softmax_model(1, 2), [(x, y)])
    distance = np.abs(aligned(result, fit) - fit.params) / fit.bse
    assert distance.max() < 0.5
    assert fit.llf - float(result.model.log_prob(x, y).detach().sum()) < 0.5
    np.testing.assert_allclose(np.sort(result.bse), np.sort(fit.bse), rtol=0.05)


def test_the_average_alone_is_within_sampling_error(reference):
    x, y, fit = reference
    result = StochasticEM(random_state=0, finish=False).fit(softmax_model(1, 2), [(x, y)])
    gap = fit.llf - float(result.model.log_prob(x, y).detach().sum())
    assert 0.0 < gap < 0.5 * fit.df_model  # the mean of half a chi-square variable


@pytest.mark.parametrize("pieces", [[24_000], [1] * 50 + [23_950], [7_777] * 3 + [669]])
def test_pieces_do_not_matter(reference, pieces):
    x, y, _ = reference
    settings = StochasticEM(start_rows=1000, batch_size=900, starter=EM(n_init=2, random_state=0))
    whole = settings.fit(softmax_model(1, 2), [(x, y)])
    parts = settings.fit(softmax_model(1, 2), zip(x.split(pieces), y.split(pieces), strict=True))
    np.testing.assert_array_equal(whole.params, parts.params)
    np.testing.assert_array_equal(whole.history, parts.history)
    assert parts.nobs == _N
    assert parts.num_blocks == 26  # 23,000 rows: 25 blocks of 900, and the rest
    assert len(parts.history) == 25


class _Stop:
    """A method that is interrupted the n-th time it is called, and works otherwise."""

    def __init__(self, method, stop_at):
        self.method, self.calls, self.stop_at = method, 0, stop_at

    def __get__(self, instance, owner):
        return lambda *arguments: self(instance, *arguments)

    def __call__(self, *arguments):
        self.calls += 1
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        return self.method(*arguments)


@pytest.mark.parametrize(
    ("owner", "name", "stop_at"),
    [(Stream, "_fit_start", 1), (LinearRecursion, "advance", 3), (LinearRecursion, "_m_step", 2)],
)
def test_what_an_interrupt_left_is_done_by_the_next_call(reference, monkeypatch, owner, name, stop_at):
    x, y, _ = reference
    settings = StochasticEM(batch_size=200, start_rows=1000, n_init=2, random_state=0, finish=False)
    whole = settings.fit(softmax_model(1, 2), [(x[:3000], y[:3000])])
    stream = settings.stream(softmax_model(1, 2))
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, _Stop(getattr(owner, name), stop_at))
        with pytest.raises(KeyboardInterrupt):
            stream.partial_fit(x[:2500], y[:2500])
    result = stream.partial_fit(x[2500:3000], y[2500:3000]).result()
    assert (result.nobs, result.num_blocks) == (whole.nobs, whole.num_blocks)
    np.testing.assert_array_equal(result.params, whole.params)
    np.testing.assert_array_equal(result.history, whole.history)


def test_asking_for_a_result_changes_nothing(reference):
    x, y, _ = reference
    settings = StochasticEM(start_rows=1000, starter=EM(n_init=2, random_state=0))
    asked, quiet = settings.stream(softmax_model(1, 2)), settings.stream(softmax_model(1, 2))
    for rows, response in zip(x[:6000].split(700), y[:6000].split(700), strict=True):
        asked.partial_fit(rows, response).result()
        quiet.partial_fit(rows, response)
    np.testing.assert_array_equal(asked.result().params, quiet.result().params)


def test_few_rows_are_fitted_exactly(reference):
    x, y, _ = reference
    stream = StochasticEM(random_state=0).stream(softmax_model(1, 2))
    result = stream.partial_fit(x[:300], y[:300]).partial_fit(x[300:500], y[300:500]).result()
    fit = EM(random_state=0).fit(softmax_model(1, 2), x[:500], y[:500])
    np.testing.assert_array_equal(result.params, fit.params)
    np.testing.assert_array_equal(result.bse, fit.bse)
    assert result.num_blocks == 0
    assert result.conf_int().shape == (8, 2)


def test_weights_are_counts(reference):
    """Rows of weight 2 and 0 against the rows written twice and left out, in blocks that end at the same rows."""
    x, y, _ = reference
    rows, response = x[:8000], y[:8000]
    weight = torch.arange(8000, dtype=DTYPE).remainder(2) * 2.0
    twice = torch.arange(1, 8000, 2).repeat_interleave(2)
    settings = StochasticEM(start_rows=2000, batch_size=1000, starter=MLE(n_init=2, random_state=0, max_iter=300))
    counted = settings.fit(softmax_model(1, 2), [(rows, response, weight)])
    written = settings.fit(softmax_model(1, 2), [(rows[twice], response[twice])])
    np.testing.assert_allclose(np.sort(np.abs(counted.params)), np.sort(np.abs(written.params)), rtol=1e-6)
    np.testing.assert_allclose(np.sort(counted.bse), np.sort(written.bse), rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-6, 1.0 / 3000])
def test_weights_of_another_scale_change_errors_alone(reference, scale):
    """Twenty foreign rows on the way: there the second-order step is out of reach, and EM's is taken."""
    x, y = reference[0][:3000], reference[1][:3000].clone()
    y[1500:1520] += 1.5 * (-1.0) ** torch.arange(20)
    starter = MLE(starts=[LocalLines()], n_init=1, random_state=0)
    settings = StochasticEM(start_rows=600, batch_size=100, starter=starter)
    plain = settings.stream(softmax_model(1, 2))
    scaled = settings.stream(softmax_model(1, 2))
    kinds = []  # whether the iterate after each block is EM's
    for rows, response in zip(x.split(100), y.split(100), strict=True):
        plain.partial_fit(rows, response)
        scaled.partial_fit(rows, response, torch.full((100,), scale, dtype=DTYPE))
        kinds.append(plain._recursion is not None and plain._recursion._best is None)
    assert kinds[15]
    assert not kinds[14]
    assert not kinds[-1]
    plain, scaled = plain.result(), scaled.result()
    np.testing.assert_allclose(scaled.params, plain.params, rtol=1e-9)
    np.testing.assert_allclose(scaled.bse * scale**0.5, plain.bse, rtol=1e-9)
    np.testing.assert_allclose(scaled.history, plain.history, rtol=1e-9)


def test_a_block_that_speaks_against_the_way_stops_it(reference):
    """Rows whose density falls along the second-order step by more than chance refuse it, the others take it."""
    x, y, _ = reference
    stream = StochasticEM(start_rows=600, batch_size=100, random_state=0).stream(softmax_model(1, 2))
    recursion = stream.partial_fit(x[:700], y[:700])._recursion
    recursion.theta = recursion.theta + 0.01
    end = recursion.expansions.maximum(recursion.theta[0, 0]).end
    x, y = x[700:1700], y[700:1700]
    log_density = []
    for theta in (recursion.theta[0, 0], end):
        model = softmax_model(1, 2)
        recursion.objective.write(theta, model)
        log_density.append(model.log_prob(x, y))
    falls = log_density[1] < log_density[0]
    assert 100 < int(falls.sum()) < 900
    for rows, is_refused in ((falls, True), (~falls, False)):
        block = recursion.objective.on_rows(Data(x[None, rows], y[None, rows], None))
        assert (recursion._newton_end(block, float(block.value(recursion.theta))) is None) == is_refused


@pytest.mark.filterwarnings("ignore::estimators.streaming.IllDeterminedStartWarning")  # it ends early
@pytest.mark.parametrize("case", LINEAR_CASES, ids=lambda case: case.name)
def test_block_sums_are_the_derivatives_of_the_objective(case):
    model, (x, y) = case.model(2, 3, 0), case.data(200, 2, 0)
    stream = StochasticEM(start_rows=120, batch_size=40, starter=EM(n_init=1, em_iter=2, max_iter=2, random_state=0))
    recursion = stream.stream(model).partial_fit(x[:120], y[:120])._recursion
    assert isinstance(recursion, LinearRecursion)
    block = recursion.objective.on_rows(recursion.objective.data.take(torch.arange(20, 60)))
    ours, exact = recursion._sums(block, recursion.theta).evaluation, block.evaluate(recursion.theta)
    for part, expected in zip(ours, exact, strict=True):
        torch.testing.assert_close(part, expected)


STAYS_AT_ANOTHER_MAXIMUM = ("softmax, student t", "softmax, constant mean")  # a stream keeps to that of its first rows


@pytest.mark.filterwarnings("ignore::estimators.streaming.IllDeterminedStartWarning")
@pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")
@pytest.mark.parametrize("case", LINEAR_CASES, ids=lambda case: case.name)
def test_every_linear_model_learns_from_a_stream(case):
    """The log-likelihood of all rows rises over that of the start, to within half the parameters of the maximum."""
    truth = case.model(2, 2, 3)
    with torch.no_grad():
        for parameter in truth.parameters():
            parameter.mul_(1.5)
    x = torch.randn(12_000, 2, dtype=DTYPE, generator=seeded(1))
    with torch.no_grad():
        y = truth(x).sample(generator=seeded(2))
    settings = StochasticEM(start_rows=2000, batch_size=250, starter=EM(n_init=3, random_state=0))
    stream = settings.stream(case.model(2, 2, 0))
    first = stream.partial_fit(x[:2000], y[:2000]).result().model
    last = stream.partial_fit(x[2000:], y[2000:]).result()
    full = EM(n_init=3, random_state=0).fit(case.model(2, 2, 0), x, y)
    values = [float(model.log_prob(x, y).detach().sum()) for model in (first, last.model)]
    assert values[0] < values[1]
    if case.name not in STAYS_AT_ANOTHER_MAXIMUM:
        assert full.llf - values[1] < 0.5 * full.df_model
    assert last.history.shape == (40,)


def test_exposure_is_an_offset():
    """Counts whose logarithm of exposure is the last column of x: rates are found, and the exposure's slope is 1."""
    x = torch.randn(9000, 1, dtype=DTYPE, generator=seeded(1))
    exposure = 3.0 * torch.rand(9000, 1, dtype=DTYPE, generator=seeded(2)) + 0.1
    rate = torch.exp(0.5 + 0.4 * x) * exposure
    y = torch.poisson(rate[:, 0], generator=seeded(3))
    predictor = LinearPredictor(1, 1, offset=True, generator=seeded(4))
    model = MixtureOfExperts(constant_gate(1), PoissonExperts(predictor)).to(DTYPE)
    rows = torch.cat([x, exposure.log()], -1)
    result = StochasticEM(start_rows=1000, batch_size=500, random_state=0).fit(model, [(rows, y)])
    named = dict(zip(result.param_names, zip(result.params, result.bse, strict=True), strict=True))
    for name, truth in (("slope[0,x0]", 0.4), ("intercept[0]", 0.5)):
        value, error = named[name]
        assert abs(value - truth) < 5.0 * error  # false alarms: 1 in a million


OTHERS = {
    "sigmoid gate": lambda g: MixtureOfExperts(
        sigmoid_gate(1, 2, generator=g), linear_gaussian_experts(1, 2, generator=g)
    ),
    "vector response": lambda g: MixtureOfExperts(
        softmax_model(1, 2).gate,
        MultivariateGaussianExperts(LinearPredictor(1, 2, response_dim=2, generator=g), SphericalCovariance(2, 2)),
    ),
}


@pytest.mark.filterwarnings("ignore::estimators.streaming.IllDeterminedStartWarning")  # the first 200 rows
@pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")
@pytest.mark.parametrize("name", list(OTHERS))
def test_other_models_step_along_the_gradient(name):
    x, y = reference_truth().sample_xy(6000, generator=seeded(3))
    if name == "vector response":
        y = torch.stack([y, 0.5 * y + torch.randn(6000, dtype=DTYPE, generator=seeded(4))], -1)
    model = OTHERS[name](seeded(0)).to(DTYPE)
    settings = StochasticEM(start_rows=400, batch_size=200, starter=MLE(n_init=4, max_iter=60, random_state=0))
    stream = settings.stream(model)
    first = stream.partial_fit(x[:200], y[:200]).result().model
    last = stream.partial_fit(x[200:5000], y[200:5000]).result()
    scores = [float(fitted.log_prob(x[5000:], y[5000:]).detach().mean()) for fitted in (first, last.model)]
    assert scores[0] < scores[1]
    assert np.isnan(last.bse).all()


def test_models_too_large_for_a_hessian(monkeypatch):
    monkeypatch.setattr("estimators.streaming.gradient.LARGEST_HESSIAN", 1)
    x, y = reference_truth().sample_xy(3000, generator=seeded(3))
    settings = StochasticEM(start_rows=400, batch_size=200, starter=MLE(n_init=4, max_iter=60, random_state=0))
    result = settings.fit(OTHERS["sigmoid gate"](seeded(0)).to(DTYPE), [(x, y)])
    assert np.isfinite(result.params).all()
    assert result.history[-3:].mean() > result.history.mean() - 0.5


def test_same_seed_same_bits(reference):
    x, y, _ = reference
    runs = [StochasticEM(start_rows=500, random_state=5).fit(softmax_model(1, 2), [(x, y)]) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].params, runs[1].params)


def test_progress_is_shown(reference, capsys):
    x, y, _ = reference
    settings = StochasticEM(start_rows=500, progress=True, starter=EM(n_init=1, random_state=0))
    settings.fit(softmax_model(1, 2), array_batches(x.numpy()[:2000], y.numpy()[:2000], batch_size=1000))
    assert "2.00k" in capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_rows_go_to_the_models_device(reference):
    x, y, fit = reference
    result = StochasticEM(random_state=0).fit(softmax_model(1, 2).to("cuda"), [(x, y)])
    assert result.model.experts.log_std.is_cuda
    assert fit.llf - float(result.model.cpu().log_prob(x, y).detach().sum()) < 0.5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"n_init": 0}, "n_init must be at least 1"),
        ({"start_rows": 1}, "start_rows must be at least 2"),
        ({"power": 0.5}, "power must be strictly between 0.5 and 1, got 0.5"),
        ({"variance_floor": 0.0}, "variance_floor must be positive"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        StochasticEM(**settings)


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ((np.zeros(3), np.zeros(3)), ValueError, r"x must have shape \(n, 1\), got \(3,\)"),
        ((np.zeros((3, 2)), np.zeros(3)), ValueError, r"x must have shape \(n, 1\), got \(3, 2\)"),
        ((np.zeros((3, 1)), np.zeros(4)), ValueError, r"y must have one row for each of the 3 of x, got shape \(4,\)"),
        ((np.zeros((3, 1)), [0.0, np.nan, 0.0]), ValueError, "y must be finite"),
        ((np.zeros((3, 1)), np.zeros(3), [1.0, -1.0, 0.0]), ValueError, "sample_weight must be non-negative"),
        ((np.zeros((3, 1)), np.zeros(3), [1.0]), ValueError, r"got shape \(1,\)"),
        ((np.zeros((3, 1)), ["a", "b", "c"]), TypeError, "y must be numeric, got list"),
    ],
)
def test_bad_rows_are_refused(batch, error, message):
    stream = StochasticEM().stream(softmax_model(1, 2)).partial_fit(np.zeros((1, 1)), np.zeros(1))
    with pytest.raises(error, match=message):
        stream.partial_fit(*batch)


@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        ((np.zeros((3, 1)), [0.0, np.nan, 0.0]), ValueError, "batch 2: y must be finite"),
        ((np.zeros((3, 1)), ["a", "b", "c"]), TypeError, "batch 2: y must be numeric, got list"),
        (np.zeros((3, 1)), ValueError, r"batch 2: a batch must be \(x, y\) or \(x, y, .*\), got a ndarray"),
        ([torch.zeros(3, 1)], ValueError, r"batch 2: a batch must be \(x, y\) or .*, got a list of 1"),
    ],
)
def test_the_batch_is_named(bad, error, message):
    good = (np.zeros((1, 1)), np.zeros(1))
    with pytest.raises(error, match=f"^{message}"):
        StochasticEM().fit(softmax_model(1, 2), [good, good, bad])


def test_a_table(reference):
    x, y, _ = reference
    result = StochasticEM(start_rows=500, starter=EM(n_init=2, random_state=0)).fit(softmax_model(1, 2), [(x, y)])
    table = result.summary(level=0.9)
    np.testing.assert_array_equal(table.values[:, 0], result.params)
    np.testing.assert_array_equal(table.values[:, 1], result.bse)
    np.testing.assert_array_equal(table.values[:, 4:], result.conf_int(level=0.9))
    assert list(table.to_frame().index) == result.param_names
    assert "One pass" in str(table)
    assert np.isnan(table.values[-2:, 2:4]).all()  # standard deviations: no z


def collapsing():
    """Half of the rows without noise, on a line of their own: its expert's variance falls to the floor."""
    x = torch.rand(1500, 1, dtype=DTYPE, generator=seeded(5))
    y = 3.0 - 2.0 * x[:, 0] + 0.3 * torch.randn(1500, dtype=DTYPE, generator=seeded(6))
    return x, torch.where(x[:, 0] < 0.5, 1.0 + x[:, 0], y)


def abrupt():
    """Lines that change abruptly at 1/2, with a gap: the likelihood rises as the gate's weights do."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0.0, 0.4, size=(2500, 1)) + 0.6 * rng.integers(2, size=(2500, 1))
    return x, np.where(x[:, 0] < 0.5, 1 + x[:, 0], 3 - 2 * x[:, 0]) + 0.05 * rng.normal(size=2500)


@pytest.mark.filterwarnings("ignore::estimators.streaming.IllDeterminedStartWarning")
@pytest.mark.parametrize("start_rows", [500, 5000])  # a stream; a fit of all rows
def test_missing_standard_errors_are_warned_of(start_rows):
    x, y = abrupt()
    settings = StochasticEM(start_rows=start_rows, batch_size=500, starter=EM(n_init=2, random_state=0))
    with pytest.warns(SingularInformationWarning, match=r"no standard error for gate_weight\[0,x0\], gate_bias\[0\]$"):
        result = settings.fit(softmax_model(1, 2), [(x, y)])
    assert np.isnan(result.bse).tolist() == [True, True] + [False] * 6
    assert "Parameters without a standard error" in str(result.summary())


@pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (collapsing, "a variance is at its floor: an expert may have collapsed on a few observations"),
        (abrupt, r"no standard error for gate_weight\[0,x0\], gate_bias\[0\]: the observed information is singular"),
    ],
)
def test_a_start_that_its_rows_do_not_determine_is_told_of(data, reason):
    x, y = data()
    stream = StochasticEM(start_rows=500, batch_size=250, n_init=2, random_state=0).stream(softmax_model(1, 2))
    with pytest.warns(IllDeterminedStartWarning, match=f"the first 500 rows do not determine .*{reason}"):
        stream.partial_fit(x[:800], y[:800])
    result = stream.partial_fit(x[800:], y[800:]).result()  # once
    assert any(re.match(reason + r".* \(in the first 500 rows\)", remark) for remark in result.warnings)
    assert "(in the first 500 rows)" in str(result.summary())


def test_a_start_that_its_rows_determine_has_no_remarks(reference):
    x, y, _ = reference
    stream = StochasticEM(start_rows=600, batch_size=100, random_state=0).stream(softmax_model(1, 2))
    assert stream.partial_fit(x[:1000], y[:1000]).result().warnings == []


@pytest.mark.parametrize("n", [400, 1500])  # a fit of all rows; a stream
def test_dependent_columns_are_told_of(n):
    x, y = reference_truth().sample_xy(n, generator=seeded(3))
    rows = torch.cat([x, 2.0 * x + 1.0], -1)
    settings = StochasticEM(start_rows=500, batch_size=250, n_init=2, random_state=0)
    with pytest.warns(CollinearityWarning, match=r"columns \[1\] of x are constant or linear combinations"):
        result = settings.fit(softmax_model(2, 2), [(rows, y)])
    (remark,) = result.warnings
    assert remark.startswith("columns [1] of x are constant or linear combinations of others; their coefficients are")
    assert remark.endswith("(in the first 500 rows)") == (n > 500)
    assert "columns [1] of x" in str(result.summary())
    result.rename_features(["a", "b"])
    assert result.warnings[0].startswith("columns ['b'] of x")


@pytest.mark.filterwarnings("ignore::estimators.SingularInformationWarning")  # at the poorer maximum the gate jumps
def test_more_rows_of_the_start_find_the_better_maximum():
    """Of Gaussian experts with an offset 3,000 rows choose a maximum that is 75 nats poorer on 40,000 rows."""
    case = next(case for case in LINEAR_CASES if case.name == "gaussian with an offset")
    truth = case.model(2, 2, 3)
    with torch.no_grad():
        for parameter in truth.parameters():
            parameter.mul_(1.5)
    x = torch.randn(40_000, 2, dtype=DTYPE, generator=seeded(3))
    with torch.no_grad():
        y = truth(x).sample(generator=seeded(103))
    full = EM(random_state=0).fit(case.model(2, 2, 0), x, y)
    gaps = []
    for settings in (
        StochasticEM(start_rows=3_000, starter=EM(n_moves=0, random_state=0)),
        StochasticEM(random_state=0),
    ):
        model = settings.fit(case.model(2, 2, 0), array_batches(x.numpy(), y.numpy(), batch_size=5_000)).model
        gaps.append(full.llf - float(model.log_prob(x, y).detach().sum()))
    assert gaps[0] > 50.0
    assert gaps[1] < 0.5


def test_an_empty_stream_is_refused():
    with pytest.raises(ValueError, match="the stream must have at least one row, got none"):
        StochasticEM().fit(softmax_model(1, 2), [])
