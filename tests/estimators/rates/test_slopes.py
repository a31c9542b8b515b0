"""Slopes, laws and verdicts on losses whose law is known."""

import numpy as np
import pytest
import torch
from scipy.stats import binom, linregress

from estimators import EM
from estimators.rates import (
    ExactLoss,
    LogarithmicLaw,
    PiecewisePowerLaw,
    PowerLaw,
    PowerLawWithLog,
    RateStudy,
    Slope,
    StudyResults,
    UniformCovariates,
    compare_laws,
    fit_slope,
    judge,
    median,
    required_sample_size,
    required_size,
    theoretical_rates,
    trimmed_mean,
)
from estimators.rates.replicates import Row, Task
from estimators.rates.theory import is_well_specified
from mixkit import (
    Gate,
    activation_gate,
    dense_to_sparse_gate,
    laplace_gate,
    sigmoid_gate,
    softmax_gate,
    topk_gate,
)
from mixkit.gates.normalizers import NormalizedSigmoid
from mixkit.gates.scores import CosineScore, LinearScore
from mixkit.gates.temperatures import FixedTemperature, LearnableTemperature

from ..models import reference_truth, seeded

SIZES = np.geomspace(100, 100_000, 12).round().astype(int)


def power_samples(rng, exponent=-0.5, replicates=40, sizes=SIZES):
    return [3.0 * n**exponent * rng.lognormal(sigma=0.6, size=replicates) for n in sizes]


def test_the_slope_of_medians_is_a_regression_of_their_logs():
    samples = power_samples(np.random.default_rng(0))
    slope = fit_slope(SIZES, samples)
    reference = linregress(np.log(SIZES), np.log([np.median(s) for s in samples]))
    assert slope.value == pytest.approx(reference.slope)
    assert slope.intercept == pytest.approx(reference.intercept)
    assert (slope.smallest, slope.largest, slope.num_sizes) == (100, 100_000, 12)


@pytest.mark.parametrize("statistic", [median, trimmed_mean])
def test_bootstrap_errors_are_those_of_repeated_studies(statistic):
    rng = np.random.default_rng(1)
    slopes = [fit_slope(SIZES, power_samples(rng), statistic=statistic, rng=rng) for _ in range(100)]
    spread = np.std([slope.value for slope in slopes], ddof=1)
    # 100 repeats know their spread to 7%; four of those, and the bootstrap's own error of a median.
    assert np.mean([slope.std_error for slope in slopes]) == pytest.approx(spread, rel=0.35)


def test_paired_errors_of_nested_samples_know_what_is_shared():
    rng = np.random.default_rng(2)
    common = rng.lognormal(sigma=0.6, size=200)
    samples = [n**-0.5 * common for n in SIZES]
    assert fit_slope(SIZES, samples, paired=True).std_error < 1e-12
    assert fit_slope(SIZES, samples).std_error > 1e-3


def test_replicates_without_a_loss_leave_the_others_paired():
    rng = np.random.default_rng(2)
    common = rng.lognormal(sigma=0.6, size=200)
    samples = [n**-0.5 * common for n in SIZES]
    for place, losses in enumerate(samples):
        losses[place] = np.nan  # another replicate at each size
    paired = fit_slope(SIZES, samples, paired=True)
    whole = fit_slope(SIZES, [losses[~np.isnan(losses)] for losses in samples])
    assert paired.value == whole.value
    assert paired.std_error < 0.2 * whole.std_error
    with pytest.raises(ValueError, match="two or more positive losses a size, got others at n = 100"):
        fit_slope(SIZES, samples)


def test_nested_studies_pair_by_replicate_whichever_are_missing():
    study = RateStudy(
        reference_truth(), UniformCovariates(), EM(), [ExactLoss()], [100, 1000], num_replicates=40, seed=0, nested=True
    )
    common = np.random.default_rng(0).lognormal(size=40)

    def slope(*missing):
        rows = {}
        for n, lost in zip((100, 1000), missing, strict=True):
            for r in range(40):
                task = Task("fit", n, r)
                value = np.nan if r == lost else n**-0.5 * common[r]
                rows[task] = Row(task, {"D1": value}, 0.0, 0.0, True, 0.0, 0.0, 1, 0.0, {}, "")
        return StudyResults(study, rows).slope("fit", "D1")

    assert slope(None, None).std_error < 1e-12
    assert slope(3, 3).std_error < 1e-12
    assert slope(0, 39).std_error < 0.05  # unpaired it would be 0.09


def test_verdicts_are_wrong_as_often_as_they_say():
    rng, rate, studies = np.random.default_rng(3), 0.05, 150
    alarms = sum(
        judge(fit_slope(SIZES, power_samples(rng), rng=rng), -0.5, false_alarm_rate=rate).text in ("slower", "faster")
        for _ in range(studies)
    )
    # With a true rate of at most twice the stated one (bootstrap of a median), more alarms than this are 1e-5 rare.
    assert alarms <= binom.isf(1e-5, studies, 2 * rate)


def test_verdicts_name_the_side():
    slope = Slope(-0.4, 0.02, 0.0, 100, 1000, 5)
    assert judge(slope, -0.5).text == "slower"
    assert judge(slope, -0.25).text == "faster"
    assert judge(slope, -0.42).text == "agrees"
    assert judge(slope, -0.5).z == pytest.approx(5.0)
    assert judge(slope, -0.44, false_alarm_rate=0.1).text == "slower"
    exact = Slope(-0.5, 0.0, 0.0, 100, 1000, 5)
    assert judge(exact, -0.5).text == "agrees"
    assert judge(exact, -0.6).text == "slower"


@pytest.mark.parametrize(("value", "error"), [(0.30, 0.38), (-0.92, 1.12), (-0.17, 0.10)])
def test_slopes_that_say_nothing_are_undecided(value, error):
    slope = Slope(value, error, 0.0, 100, 1000, 5)
    assert judge(slope, -0.125).text == "undecided"
    assert judge(slope, 0.0).text == "agrees"


def test_undecided_takes_nothing_from_the_alarms():
    values = np.linspace(-2, 2, 401)
    verdicts = [judge(Slope(value, 0.3, 0.0, 100, 1000, 5), -0.5, false_alarm_rate=0.05) for value in values]
    critical = 1.959963984540054  # the 97.5% quantile of the normal law
    for value, verdict in zip(values, verdicts, strict=True):
        assert (verdict.text in ("slower", "faster")) == (abs(verdict.z) > critical)
        assert (verdict.text == "agrees") == (abs(verdict.z) <= critical < abs(value) / 0.3)
    assert judge(Slope(-0.5, 0.2, 0.0, 100, 1000, 5), -0.5, false_alarm_rate=0.05).text == "agrees"
    assert judge(Slope(-0.5, 0.2, 0.0, 100, 1000, 5), -0.5, false_alarm_rate=0.01).text == "undecided"


N = np.geomspace(50, 1e6, 15)
TRUE_LAWS = [
    (PowerLaw(), 2 * N**-0.5),
    (PowerLawWithLog(), 2 * N**-0.5 * np.log(N) ** 3),
    (LogarithmicLaw(), 5 / np.log(N) ** 2),
    (PiecewisePowerLaw(), np.exp(1 - 0.5 * np.log(N) + 0.3 * np.minimum(np.log(N / N[7]), 0) ** 2)),
]


@pytest.mark.parametrize(("law", "loss"), TRUE_LAWS, ids=lambda value: getattr(value, "name", ""))
def test_aic_finds_the_law(law, loss):
    noisy = loss * np.exp(0.01 * np.random.default_rng(0).standard_normal(len(N)))
    fits = compare_laws(N, noisy)
    own = next(fit for fit in fits if fit.law.name == law.name)
    # A law that contains it may gain a little by chance; those that do not are far off.
    assert own.aic < fits[0].aic + 4.0
    assert fits[-1].aic > own.aic + 20.0
    np.testing.assert_allclose(own.predict(N), loss, rtol=0.05)


def test_a_piecewise_law_is_smooth_and_finds_its_break():
    fit = PiecewisePowerLaw().fit(np.log(N), np.log(TRUE_LAWS[3][1]))
    assert fit.law.log_break == pytest.approx(np.log(N[7]))
    at = np.exp(fit.law.log_break)
    left, right = (np.diff(np.log(fit.predict(at * np.exp(np.array(h))))) / 1e-4 for h in ([-1e-4, 0], [0, 1e-4]))
    assert left == pytest.approx(right, abs=1e-3)


def test_the_sample_size_that_reaches_a_loss():
    for law, loss in TRUE_LAWS:
        fit = law.fit(np.log(N), np.log(loss))
        assert required_size(fit, float(loss[9])) == pytest.approx(N[9], rel=1e-3)
    rising = PowerLaw().fit(np.log(N), np.log(N))
    assert required_size(rising, 1e-3) == np.inf
    assert required_size(rising, np.exp(101.0)) == 3.0


def test_bounds_of_sample_sizes_hold():
    rng, missed = np.random.default_rng(4), 0
    truth = (3.0 / 1e-3) ** 2
    for _ in range(40):
        size, bound = required_sample_size(SIZES, power_samples(rng), 1e-3, level=0.9, rng=rng)
        assert bound > size * 0.9
        missed += bound < truth
    assert missed <= binom.isf(1e-5, 40, 0.2)


def test_theoretical_rates():
    gates = {
        "softmax": softmax_gate(1, 3, generator=seeded(0)),
        "topk": topk_gate(1, 3, 2, generator=seeded(0)),
        "linear": dense_to_sparse_gate(1, 3, generator=seeded(0)),
        "activation": activation_gate(1, 3, generator=seeded(0)),
    }
    for name in ("softmax", "topk"):
        exact, over = (theoretical_rates(gates[name], 3, k) for k in (3, 2))
        assert {exact[loss].exponent for loss in ("D1", "gate", "slope alone", "hellinger")} == {-0.5}
        assert (over["gate"].exponent, over["intercept shared"].exponent) == (-0.125, -0.125)
        assert (over["slope shared"].exponent, over["variance shared"].exponent) == (-0.25, -0.25)
        assert (over["D2"].exponent, over["mass"].exponent) == (-0.5, -0.5)
    assert theoretical_rates(gates["softmax"], 4, 2)["gate"].exponent == pytest.approx(-1 / 12)
    assert theoretical_rates(gates["linear"], 3, 3)["beta_1"].exponent is None
    assert theoretical_rates(gates["activation"], 3, 3)["tau"].exponent == -0.5
    score = LinearScore(1, 3, generator=seeded(0))
    warm = Gate(score, temperature=LearnableTemperature(), normalizer=NormalizedSigmoid())
    found = theoretical_rates(warm, 3, 3)  # as behind the softmax, beta_1 / tau alone is identified
    assert (found["tau"].exponent, found["beta_1"].exponent, found["hellinger"].exponent) == (None, None, -0.5)
    assert "gate" not in found
    laplace, sigmoid = laplace_gate(1, 3, generator=seeded(0)), sigmoid_gate(1, 3, generator=seeded(0))
    over = theoretical_rates(laplace, 3, 2)
    assert (over["gate"].exponent, over["slope shared"].exponent) == (-0.25, -0.25)
    assert (over["intercept shared"].exponent, over["variance shared"].exponent) == (-0.125, -0.25)
    assert {rates["gate"].exponent for rates in (theoretical_rates(g, 3, 3) for g in (laplace, sigmoid))} == {-0.5}
    assert set(theoretical_rates(sigmoid, 3, 2)) == {"hellinger", "total variation", "kl"}
    exact, over = (theoretical_rates(topk_gate(1, 3, 1, generator=seeded(0)), 3, k) for k in (3, 2))
    assert {exact[loss].exponent for loss in ("D1", "D2", "gate", "mass")} == {None}
    assert (exact["slope alone"].exponent, exact["hellinger"].exponent, over["hellinger"].exponent) == (-0.5,) * 3
    assert "slope alone" not in over
    for gate in (laplace_gate(1, 3, squared=True, generator=seeded(0)), Gate(CosineScore(1, 3, generator=seeded(0)))):
        assert theoretical_rates(gate, 3, 2) == {}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_slope([100], [np.ones(3)]), "sizes must be two or more"),
        (lambda: fit_slope([100, 200], [np.ones(3), np.zeros(3)]), "at n = 200"),
        (lambda: fit_slope([100, 200], [np.ones(3), np.ones(1)]), "two or more positive losses"),
        (lambda: fit_slope([100, 200], [np.ones(3), np.ones(4)], paired=True), "one number of replicates"),
        (lambda: judge(Slope(0, 1, 0, 1, 2, 2), 0.0, false_alarm_rate=1.0), "false_alarm_rate must be in"),
        (lambda: compare_laws(np.array([2.0, 10]), np.ones(2)), "sizes must be at least 3"),
        (lambda: compare_laws(np.array([20.0, 100]), np.zeros(2)), "loss must be positive"),
        (lambda: required_sample_size([10, 100], [np.ones(3)] * 2, 0.1, level=2.0), "level must be in"),
    ],
)
def test_bad_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def gate_cases() -> list[tuple[str, Gate, Gate, bool]]:
    def temperature(value, k=2):
        return Gate(LinearScore(1, k, generator=seeded(0)), temperature=FixedTemperature(value))

    def activated(activation, k=2):
        return activation_gate(1, k, activation=activation, generator=seeded(0))

    softmax, top = softmax_gate(1, 2, generator=seeded(0)), topk_gate(1, 3, 2, generator=seeded(0))
    unbiased = softmax_gate(1, 2, bias=False, generator=seeded(0))
    learned = dense_to_sparse_gate(1, 2, generator=seeded(0))
    return [
        ("more experts", softmax_gate(1, 4, generator=seeded(0)), softmax, True),
        ("more selected", topk_gate(1, 4, 3, generator=seeded(0)), top, True),
        ("more selected than the surplus allows", topk_gate(1, 3, 3, generator=seeded(0)), top, False),
        ("fewer selected", topk_gate(1, 4, 1, generator=seeded(0)), top, False),
        ("selects all", topk_gate(1, 2, 2, generator=seeded(0)), softmax, True),
        ("dense for top-K", softmax_gate(1, 3, generator=seeded(0)), top, False),
        ("sigmoid", sigmoid_gate(1, 2, generator=seeded(0)), softmax, False),
        ("Laplace", laplace_gate(1, 2, generator=seeded(0)), softmax, False),
        ("temperature learned", learned, softmax, False),
        ("temperature", temperature(0.5), softmax, False),
        ("one temperature", temperature(0.5, 3), temperature(0.5), True),
        ("activation", activated(torch.tanh), activated(torch.sigmoid), False),
        ("one activation", activated(torch.tanh, 3), activated(torch.tanh), True),
        ("no bias", unbiased, softmax, False),
        ("a bias too many", softmax, unbiased, True),
    ]


@pytest.mark.parametrize(
    ("gate", "true_gate", "expected"), [pytest.param(*case, id=name) for name, *case in gate_cases()]
)
def test_rates_are_declared_for_gates_of_the_true_kind_alone(gate, true_gate, expected):
    assert is_well_specified(gate, true_gate) is expected
    k, true_k = gate.num_experts, true_gate.num_experts
    found = theoretical_rates(gate, k, true_k, true_gate=true_gate)
    assert found == (theoretical_rates(gate, k, true_k) if expected else {})
