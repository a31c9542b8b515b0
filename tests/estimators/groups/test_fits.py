"""Fits of rows that share an expert by group: against R, against enumeration, and against fits without groups."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from estimators import EM, MLE
from estimators.data.dataset import as_data
from estimators.objectives.softmax_gate import design
from estimators.search.starts import GivenResponsibilities
from mixkit import GaussianExperts, LinearPredictor, MixtureOfExperts, PoissonExperts, constant_gate, softmax_gate

from ..flexmix_data import flexmix_frame
from ..flexmix_fits import ROWS
from ..models import DTYPE, seeded
from .cases import (
    LABELS,
    PANEL,
    PANEL_SIZES,
    covariates,
    formula,
    model_of,
    panel,
    panel_weights,
    patterned_model,
    responses,
    weights,
)


def constant_model(experts, d):
    return MixtureOfExperts(
        constant_gate(2, dtype=DTYPE), experts(LinearPredictor(d, 2, dtype=DTYPE, generator=seeded(0)))
    )


class TestAgainstFlexmix:
    """NPreg with groups id2, R 4.2.2, flexmix 2.3-18, standard errors by ``refit``."""

    def test_gaussian(self):
        data, row = flexmix_frame("NPreg"), ROWS["NPreg in groups"]
        x = np.column_stack([data["x"], data["x"] ** 2])
        fit = EM(random_state=0).fit(constant_model(GaussianExperts, 2), x, data["yn"], groups=data["id2"])
        assert fit.converged
        assert row.llf < fit.llf < row.llf + 0.015  # there variances are divided by n - p: a little below the maximum
        published = {"intercept": "intercept", "slope,x0": "slope,x", "slope,x1": "slope,I(x ** 2)"}
        expected = {name: [own[term] for own in row.experts] for name, term in published.items()}
        found = dict(zip(fit.param_names, zip(fit.params, fit.bse, strict=True), strict=True))
        order = np.argsort([found["slope[0,x0]"][0], found["slope[1,x0]"][0]])
        for name, values in expected.items():
            kind, _, column = name.partition(",")
            for expert, (estimate, error) in zip(order, values, strict=True):
                own = found[f"{kind}[{expert},{column}]" if column else f"{kind}[{expert}]"]
                assert own[0] == pytest.approx(estimate, abs=1e-3)
                assert own[1] == pytest.approx(error, rel=1e-2)

    def test_counts(self):
        data, row = flexmix_frame("NPreg"), ROWS["NPreg counts in groups"]
        fit = EM(random_state=0).fit(
            constant_model(PoissonExperts, 1), data[["x"]].to_numpy(), data["yp"], groups=data["id2"]
        )
        assert fit.llf == pytest.approx(row.llf, abs=1e-5)
        assert fit.df_model == 5
        groups = len(set(data["id2"]))
        assert fit.num_groups == groups
        assert fit.nobs == 200
        assert fit.bic == fit.info_criteria("bic", nobs="groups") == pytest.approx(5 * np.log(groups) - 2 * fit.llf)
        assert fit.info_criteria("bic", nobs="rows") == pytest.approx(5 * np.log(200) - 2 * fit.llf)
        found = dict(zip(fit.param_names, zip(fit.params, fit.bse, strict=True), strict=True))
        order = np.argsort([-found["slope[0,x0]"][0], -found["slope[1,x0]"][0]])
        expected = [(*own["intercept"], *own["slope,x"]) for own in row.experts]
        for expert, values in zip(order, expected, strict=True):
            own = [*found[f"intercept[{expert}]"], *found[f"slope[{expert},x0]"]]
            assert own == pytest.approx(values, rel=1e-2)


ONE_ROW = [("gaussian", "softmax"), ("poisson", "softmax"), ("gaussian", "sigmoid"), ("categorical", "softmax")]


@pytest.mark.filterwarnings("ignore:the observed information")
@pytest.mark.parametrize(("experts", "gate"), ONE_ROW)
@pytest.mark.parametrize("weights_of", ["groups", "rows"])
def test_groups_of_one_row_each_give_the_fit_without_groups_bit_for_bit(experts, gate, weights_of):
    model = model_of(experts, gate)
    x, y = panel(counts=experts != "gaussian", is_constant=False)
    y = y.clamp(max=2.0) if experts == "categorical" else y
    labels, weight = np.random.default_rng(0).permutation(len(x)), panel_weights("rows")
    estimator = EM(random_state=0, n_init=2, max_iter=30)
    plain = estimator.fit(model, x, y, weight)
    fit = estimator.fit(model, x, y, weight, groups=labels, weights_of=weights_of)
    assert np.array_equal(fit.params, plain.params)
    assert fit.llf == plain.llf
    for cov_type in ("observed", "sandwich", "opg"):
        assert np.array_equal(fit.cov_params(cov_type), plain.cov_params(cov_type), equal_nan=True)


@pytest.mark.parametrize(("experts", "gate"), [("gaussian", "softmax"), ("poisson", "constant")])
@pytest.mark.parametrize("estimator", [EM, MLE])
def test_the_order_of_rows_does_not_matter(experts, gate, estimator):
    model = model_of(experts, gate)
    x, y = panel(counts=experts == "poisson")
    weight = panel_weights("groups")
    order = torch.randperm(len(x), generator=seeded(4))
    labels = [PANEL[row] for row in order.tolist()]
    fit = estimator(random_state=0, n_init=6).fit(model, x, y, weight, groups=PANEL)
    other = estimator(random_state=0, n_init=6).fit(model, x[order], y[order], weight[order], groups=labels)
    assert fit.llf == pytest.approx(other.llf, rel=1e-9)
    names = [name.startswith(("slope", "intercept")) for name in fit.param_names]
    assert np.sort(fit.bse[names]) == pytest.approx(np.sort(other.bse[names]), rel=1e-5)  # experts may be exchanged


def test_given_responsibilities_follow_their_rows():
    model = model_of("gaussian")
    x, y = panel()
    order = torch.randperm(len(x), generator=seeded(4))
    labels = [PANEL[row] for row in order.tolist()]
    guess = torch.rand(2, 60, generator=seeded(2), dtype=DTYPE)
    guess = (guess / guess.sum(0))[:, [int(label[1:]) for label in PANEL]]
    fits = []
    for rows, own in ((torch.arange(len(x)), PANEL), (order, labels)):
        settings = {"starts": [GivenResponsibilities(guess[:, rows])], "n_init": 1, "n_moves": 0}
        fits.append(EM(**settings).fit(model, x[rows], y[rows], groups=own))
    assert fits[0].params == pytest.approx(fits[1].params, rel=1e-5, abs=1e-6)
    assert fits[0].llf == pytest.approx(fits[1].llf, rel=1e-10)


@pytest.mark.parametrize("weights_of", [None, "groups", "rows"])
def test_the_log_likelihood_of_a_fit_is_that_of_the_formula(weights_of):
    model = model_of("gaussian")
    x, y = panel()
    weight = None if weights_of is None else panel_weights(weights_of)
    labels = {"groups": PANEL, "weights_of": weights_of or "groups"}
    fit = EM(random_state=0, n_init=3).fit(model, x, y, weight, **labels)
    data = as_data(model, x, y, weight, is_batch=False, **labels)
    expected = formula(fit.model, dict(fit.model.named_parameters()), data)
    assert fit.llf == pytest.approx(float(expected.detach()), rel=1e-10)
    assert fit.converged


def test_whole_weights_are_repeated_groups_or_repeated_rows():
    model = model_of("poisson", "constant")
    x, y = panel(counts=True)
    rows, settings = torch.arange(len(x)), {"random_state": 0, "n_init": 3}
    own = torch.tensor([row for row, label in enumerate(PANEL) if label == "g2"])
    assert len(own) == 3
    weight = torch.ones(len(x), dtype=DTYPE)
    weight[own] = 2.0
    twice = torch.cat([rows, own])
    as_groups = EM(**settings).fit(model, x, y, weight, groups=PANEL)
    repeated = EM(**settings).fit(model, x[twice], y[twice], groups=[*PANEL, *["copy"] * 3])
    assert as_groups.llf == pytest.approx(repeated.llf, rel=1e-9)
    as_rows = EM(**settings).fit(model, x, y, weight, groups=PANEL, weights_of="rows")
    repeated = EM(**settings).fit(model, x[twice], y[twice], groups=[*PANEL, *["g2"] * 3])
    assert as_rows.llf == pytest.approx(repeated.llf, rel=1e-9)
    assert abs(as_rows.llf - as_groups.llf) > 1e-3


def test_rows_of_weight_zero_are_left_out():
    model = model_of("poisson", "constant")
    x, y = panel(counts=True)
    weight = torch.ones(len(x), dtype=DTYPE)
    weight[[0, 3, 20]] = 0.0  # row 0 is a group
    kept = weight > 0
    labels = [label for label, is_kept in zip(PANEL, kept.tolist(), strict=True) if is_kept]
    settings = {"random_state": 0, "n_init": 2}
    left_out = EM(**settings).fit(model, x, y, weight, groups=PANEL, weights_of="rows")
    without = EM(**settings).fit(model, x[kept], y[kept], groups=labels)
    assert left_out.llf == pytest.approx(without.llf, rel=1e-9)
    assert left_out.nobs == without.nobs == len(x) - 3
    assert left_out.num_groups == without.num_groups == 59


def test_groups_of_very_unlike_sizes_and_tiny_densities_stay_finite():
    sizes = [1, 200, 2, 150, 1, 40, 3, 90]
    labels = np.repeat(np.arange(len(sizes)), sizes)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(len(labels), 1))
    y = np.where(labels % 2, 100.0 * x[:, 0], -100.0 * x[:, 0]) + rng.normal(size=len(labels))
    model = MixtureOfExperts(
        constant_gate(2, dtype=DTYPE),
        GaussianExperts(LinearPredictor(1, 2, dtype=DTYPE, generator=seeded(0)), dtype=DTYPE),
    )
    fit = EM(random_state=0).fit(model, x, y, groups=labels)
    assert np.isfinite(fit.llf)
    assert fit.converged
    with torch.no_grad():
        wrong = fit.model(torch.as_tensor(x)).components.log_prob(torch.as_tensor(y)[:, None]).sum(0)
    assert float(wrong.min()) < -1e5
    assert np.isfinite(fit.bse).all()
    posterior = fit.responsibilities(x, y, groups=labels)
    assert np.allclose(posterior.max(1), 1.0)
    slopes = fit.model.experts.predictor.slope.detach().abs().flatten()
    assert slopes.tolist() == pytest.approx([100.0, 100.0], abs=0.5)


def test_responsibilities_are_those_of_groups_at_each_of_their_rows():
    model = model_of("gaussian")
    x, y = panel()
    fit = EM(random_state=0, n_init=2).fit(model, x, y, groups=PANEL)
    posterior = fit.responsibilities(x, y, groups=PANEL)
    law = fit.model(x)
    densities = law.components.log_prob(y.unsqueeze(1)).detach()
    for label in set(PANEL):
        rows = [row for row, own in enumerate(PANEL) if own == label]
        joint = law.log_weights[rows[0]].detach() + densities[rows].sum(0)
        assert np.allclose(posterior[rows], torch.softmax(joint, -1).numpy(), atol=1e-12)
    assert not np.allclose(posterior, fit.responsibilities(x, y))
    order = torch.randperm(len(x), generator=seeded(0))
    shuffled = fit.responsibilities(x[order], y[order], groups=[PANEL[row] for row in order.tolist()])
    assert np.allclose(shuffled, posterior[order.numpy()], atol=1e-12)
    with pytest.raises(ValueError, match="one label for each"):
        fit.responsibilities(x, y, groups=PANEL[:-1])
    with pytest.raises(ValueError, match="constant within groups"):
        fit.responsibilities(x, y, groups=[0] * len(x))


def test_sandwich_sums_scores_over_groups():
    model = model_of("gaussian", "constant")
    x, y = panel(is_constant=False)
    fit = EM(random_state=0, n_init=3).fit(model, x, y, groups=PANEL)
    maximum = fit.maximum
    scores = maximum.objective.scores(maximum.theta)
    assert scores.shape == (60, len(fit.params))
    assert float(scores.sum(0).abs().max()) < 1e-2
    inverse = torch.linalg.inv(-maximum.hessian)
    expected = inverse @ scores.mT @ scores @ inverse
    torch.testing.assert_close(maximum.covariance("sandwich"), expected, rtol=1e-6, atol=1e-12)


class TestMisuse:
    def setup_method(self):
        self.model = model_of("gaussian")
        self.x = covariates()
        self.y = responses(self.model, self.x)

    def fit(self, x=None, **settings):
        return EM(n_init=1).fit(self.model, self.x if x is None else x, self.y, **settings)

    def test_a_column_of_the_gate_that_varies_within_a_group_is_named(self):
        pd = pytest.importorskip("pandas")
        x = self.x.clone()
        x[3, 1] += 1.0
        with pytest.raises(ValueError, match=r"constant within groups.* for column 1 in group 'g1'"):
            self.fit(x, groups=LABELS)
        with pytest.raises(ValueError, match=r"column 'age' in group 'g1'"):
            self.fit(pd.DataFrame(x.numpy(), columns=["sex", "age"]), groups=LABELS)

    def test_a_column_that_the_gate_does_not_read_may_vary(self):
        model = patterned_model("gaussian")
        x = covariates(of_gate=True)
        EM(n_init=1, max_iter=2, em_iter=1).fit(model, x, self.y, groups=LABELS, weights_of="rows")
        x[3, 0] += 1.0
        with pytest.raises(ValueError, match="for column 0 in group 'g1'"):
            EM(n_init=1).fit(model, x, self.y, groups=LABELS)

    def test_weights_of_groups_that_vary_within_one_are_refused(self):
        with pytest.raises(ValueError, match=r"one number for all rows of a group.*'g1'.*weights_of='rows'"):
            self.fit(sample_weight=weights("rows"), groups=LABELS)

    @pytest.mark.parametrize(
        ("groups", "kind", "words"),
        [
            (LABELS[:-1], ValueError, "one label for each of the 33 rows"),
            ([*LABELS[:-1], None], ValueError, "missing one in row 32"),
            ([*LABELS[:-1], float("nan")], ValueError, "missing one in row 32"),
            ([[label] for label in LABELS], TypeError, "hashable"),
            (np.zeros((33, 1)), ValueError, r"shape \(33, 1\)"),
            ("center", ValueError, "name of a column"),
            (3, TypeError, "labels"),
        ],
    )
    def test_labels(self, groups, kind, words):
        with pytest.raises(kind, match=words):
            self.fit(groups=groups)

    def test_fewer_groups_than_experts(self):
        model = model_of("gaussian", "constant")
        with pytest.raises(ValueError, match="at least as many as experts, 2, got 1"):
            EM(n_init=1).fit(model, self.x, self.y, groups=["one"] * len(self.x))

    def test_weights_of(self):
        with pytest.raises(ValueError, match="weights_of must be one of"):
            self.fit(groups=LABELS, weights_of="columns")


@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_a_column_of_a_frame_names_the_groups(kind):
    frames = pytest.importorskip(kind)
    model = model_of("gaussian")
    x, y = panel()
    frame = frames.DataFrame({"a": x[:, 0].numpy(), "center": PANEL, "b": x[:, 1].numpy()})
    fit = EM(random_state=0, n_init=2).fit(model, frame, y, groups="center")
    plain = EM(random_state=0, n_init=2).fit(model, x, y, groups=PANEL)
    assert fit.feature_names == ["a", "b"]
    assert fit.params == pytest.approx(plain.params, rel=1e-8)
    posterior = fit.responsibilities(frame, y, groups="center")
    assert posterior == pytest.approx(plain.responsibilities(x, y, groups=PANEL), abs=1e-8)


def test_fits_of_many_data_sets_are_those_of_each():
    model = model_of("gaussian", "constant")
    x, y = panel(is_constant=False)
    order = torch.randperm(len(PANEL), generator=seeded(0))
    labels = [PANEL[row] for row in order.tolist()]
    noise = 0.3 * torch.randn(3, len(x), generator=seeded(1), dtype=DTYPE)
    xs, ys = x[order].expand(3, -1, -1), y[order] + noise
    guess = torch.rand(2, 60, generator=seeded(2), dtype=DTYPE)[:, [int(label[1:]) for label in labels]]
    settings = {"starts": [GivenResponsibilities(guess / guess.sum(0))], "n_init": 1, "n_moves": 0}
    together = EM(**settings).fit_many(model, xs, ys, groups=labels)
    for index in range(3):
        alone = EM(**settings).fit(model, xs[index], ys[index], groups=labels)
        assert together.llf[index] == pytest.approx(alone.llf, rel=1e-8)


def test_subsamples_take_whole_groups():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(300), 5)
    x = rng.normal(size=(1500, 1))
    y = np.where(labels % 3 == 0, 1 + 2 * x[:, 0], -1 - x[:, 0]) + 0.3 * rng.normal(size=1500)
    model = MixtureOfExperts(
        constant_gate(2, dtype=DTYPE),
        GaussianExperts(LinearPredictor(1, 2, dtype=DTYPE, generator=seeded(0)), dtype=DTYPE),
    )
    part = EM(random_state=0, n_init=2, subsample=200).fit(model, x, y, groups=labels)
    whole = EM(random_state=0, n_init=2).fit(model, x, y, groups=labels)
    assert part.llf == pytest.approx(whole.llf, rel=1e-9)
    share = torch.softmax(part.model.gate.score.bias.detach(), -1).max()
    assert float(share) == pytest.approx(2 / 3, abs=0.01)


def test_chunks_do_not_cut_groups(monkeypatch):
    model = model_of("gaussian")
    x, y = panel()
    settings = {"random_state": 0, "n_init": 2}
    whole = EM(**settings).fit(model, x, y, groups=PANEL)
    monkeypatch.setattr(design, "_CHUNK_ENTRIES", 100)
    monkeypatch.setattr(design, "_SHORTEST_CHUNK", 3)
    cut = EM(**settings).fit(model, x, y, groups=PANEL)
    chunks = list(cut.maximum.objective.design.chunks())
    assert len(chunks) > 10
    ends = np.cumsum(PANEL_SIZES)
    assert all(chunk.rows.stop in ends for chunk in chunks)
    assert cut.llf == pytest.approx(whole.llf, rel=1e-9)


def test_a_gate_of_group_covariates_is_that_of_one_row_a_group():
    """With sharp experts the gate is a logistic regression on the groups, each counted once whatever its size."""
    rng = np.random.default_rng(1)
    sizes = rng.integers(1, 6, size=80)
    labels = np.repeat(np.arange(80), sizes)
    per_group = rng.normal(size=80)
    z = rng.random(80) < 1 / (1 + np.exp(-per_group))
    x = per_group[labels, None]
    y = np.where(z[labels], 100.0, -100.0) + rng.normal(size=len(labels))
    model = MixtureOfExperts(
        softmax_gate(1, 2, dtype=DTYPE, generator=seeded(0)),
        GaussianExperts(LinearPredictor(1, 2, dtype=DTYPE, generator=seeded(0)), dtype=DTYPE),
    )
    fit = EM(random_state=0).fit(model, x, y, groups=labels)
    logit = LogisticRegression(C=np.inf, tol=1e-10).fit(per_group[:, None], z)
    assert abs(fit.params[fit.param_names.index("gate_weight[0,x0]")]) == pytest.approx(
        abs(logit.coef_[0, 0]), rel=1e-4
    )


@pytest.mark.parametrize(("experts", "gate"), [("gaussian", "softmax"), ("categorical", "softmax")])
def test_groups_say_nothing_to_one_expert(experts, gate):
    model = model_of(experts, gate, 1)
    x, y = panel(counts=experts == "categorical")
    y = y.clamp(max=2.0) if experts == "categorical" else y
    plain, fit = EM(n_init=1).fit(model, x, y), EM(n_init=1).fit(model, x, y, groups=PANEL)
    assert fit.llf == pytest.approx(plain.llf, rel=1e-10)
    np.testing.assert_allclose(fit.cov_params(), plain.cov_params(), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(
        fit.cov_params("sandwich") * 60 / 59, plain.cov_params("cluster", groups=PANEL), rtol=1e-5, atol=1e-12
    )
