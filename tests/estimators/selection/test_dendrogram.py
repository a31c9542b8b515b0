"""Merging keeps what it says it keeps; heights, linkage and choices follow from it."""

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import is_valid_linkage
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import norm

from estimators import EM
from estimators.model_selection import mixing_dendrogram, select_experts
from estimators.model_selection.merging import (
    Atoms,
    bhattacharyya_gap,
    harmonic_mass,
    merge_by_moments,
    merge_by_projection,
    parameter_gap,
    soft_multinomial,
)
from mixkit import (
    ConstantPredictor,
    GaussianExperts,
    LinearPredictor,
    MixingMeasure,
    MixtureOfExperts,
    PoissonExperts,
    linear_gaussian_experts,
    sigmoid_gate,
    softmax_gate,
    topk_gate,
)
from mixkit.gates.temperatures import FixedTemperature
from tests.estimators.models import reference_truth, seeded, softmax_model


def random_atoms(k, d, seed=0):
    rng = np.random.default_rng(seed)
    return Atoms(
        rng.normal(size=k),
        rng.normal(size=(k, d)),
        rng.normal(size=(k, d)),
        rng.normal(size=k),
        rng.uniform(0.5, 2.0, k),
    )


def measure_of(atoms):
    return MixingMeasure(*(torch.as_tensor(part) for part in atoms))


def covariates(n, d, seed=1):
    return np.random.default_rng(seed).normal(size=(n, d))


def joint_divergence(old, pair, new, x):
    """Mean over x of the divergence of (expert, y), the pair's two taken as one expert, by its definition."""
    w, v = old.weights(x), new.weights(x)
    others = [j for j in range(w.shape[1]) if j not in pair]
    total = sum(w[:, j] * np.log(w[:, j] / v[:, i]) for i, j in enumerate(others))
    for j in pair:  # the last of the new atoms stands for both
        gap = old.means(x)[:, j] - new.means(x)[:, -1]
        gaussian = 0.5 * (np.log(new.variance[-1]) + (old.variance[j] + gap**2) / new.variance[-1])
        total = total + w[:, j] * gaussian
    both = w[:, list(pair)].sum(1)
    return float((total + both * np.log(both / v[:, -1])).mean())


class TestProjection:
    def test_no_other_merged_atom_is_nearer(self):
        atoms, x = random_atoms(4, 2), covariates(200, 2)
        merged = merge_by_projection(atoms, (0, 2), x)
        least = joint_divergence(atoms, (0, 2), merged, x)
        rng = np.random.default_rng(5)
        for _ in range(200):
            moved = [part + 1e-2 * rng.normal(size=part.shape) for part in merged]
            moved[2][:-1], moved[3][:-1], moved[4][:-1] = (part[:-1] for part in merged[2:])
            assert joint_divergence(atoms, (0, 2), Atoms(*moved), x) > least

    def test_mass_mean_and_variance_of_the_pair_are_kept(self):
        """What the projection on an exponential family keeps: E w, E w x, E of y, x y and the squared residual."""
        atoms, x = random_atoms(3, 1), covariates(300, 1)
        merged = merge_by_projection(atoms, (0, 1), x)
        w, v = atoms.weights(x)[:, :2], merged.weights(x)[:, -1]
        for column in (np.ones(300), x[:, 0]):
            assert (w.sum(1) * column).mean() == pytest.approx((v * column).mean(), rel=1e-6)
            means = (w * atoms.means(x)[:, :2]).sum(1)
            assert (means * column).sum() == pytest.approx((w.sum(1) * merged.means(x)[:, -1] * column).sum(), rel=1e-9)
        gap = atoms.means(x)[:, :2] - merged.means(x)[:, -1:]
        assert merged.variance[-1] == pytest.approx((w * (atoms.variance[:2] + gap**2)).sum() / w.sum())

    def test_the_other_experts_stay(self):
        atoms = random_atoms(4, 2)
        merged = merge_by_projection(atoms, (1, 3), covariates(50, 2))
        for new, old in zip(merged[2:], atoms[2:], strict=True):
            np.testing.assert_array_equal(new[:2], old[[0, 2]])

    def test_equal_experts_of_one_gate_merge_without_loss(self):
        atoms, x = random_atoms(3, 2), covariates(60, 2)
        halves = atoms.plus(Atoms(*(part[-1:] for part in atoms)))
        halves = halves._replace(gate_bias=halves.gate_bias - np.array([0.0, 0.0, np.log(2.0), np.log(2.0)]))
        y = covariates(60, 1)[:, 0]
        merged = merge_by_projection(halves, (2, 3), x)
        np.testing.assert_allclose(merged.log_density(x, y), atoms.log_density(x, y), atol=1e-6)

    def test_units_and_origins_do_not_matter(self):
        atoms, x, y = random_atoms(3, 1), covariates(80, 1), covariates(80, 1, 7)[:, 0]
        moved = Atoms(  # x' = 10 x + 3, y' = 5 y - 2
            atoms.gate_bias - atoms.gate_weight[:, 0] * 0.3,
            atoms.gate_weight / 10.0,
            atoms.slope * 0.5,
            5.0 * (atoms.intercept - atoms.slope[:, 0] * 0.3) - 2.0,
            25.0 * atoms.variance,
        )
        one = merge_by_projection(atoms, (0, 1), x).log_density(x, y)
        other = merge_by_projection(moved, (0, 1), 10.0 * x + 3.0).log_density(10.0 * x + 3.0, 5.0 * y - 2.0)
        np.testing.assert_allclose(one, other + np.log(5.0), atol=1e-5)

    def test_abrupt_gates_are_projected_too(self):
        """A gate with slopes of 1e5 takes a quarter of the pair's region: no single score follows it exactly."""
        atoms = Atoms(
            np.array([-7.5e4, 0.0, 5.0]), np.array([[1e5], [0.0], [-20.0]]), np.ones((3, 1)), np.zeros(3), np.ones(3)
        )
        x = np.linspace(0.0, 1.0, 400)[:, None]
        merged = merge_by_projection(atoms, (0, 1), x)
        np.testing.assert_allclose(merged.weights(x)[:, -1], atoms.weights(x)[:, :2].sum(1), atol=1e-3)


class TestMoments:
    def test_the_law_is_kept_to_second_order(self):
        """Of a pair that differs by eps in the directions the moments absorb, the law moves by O(eps^3) alone."""
        x, y = np.array([[0.7]]), np.linspace(-2.0, 3.0, 30)

        def gap(eps):
            pair = Atoms(
                np.log([0.3, 0.7]) - 0.4,
                np.array([[0.2 + eps], [0.2]]),
                np.array([[1.0], [1.0]]),
                np.array([0.5 + eps, 0.5]),
                np.array([1.0, 1.0]),
            )
            rest = random_atoms(1, 1)
            before = pair.plus(rest)
            numerator = [self.numerator(before, x, y), self.numerator(merge_by_moments(before, (0, 1)), x, y)]
            return numerator[0] - numerator[1]

        # what is left at second order is Var(beta_1) x^2 F / 2, known: take it off, the rest falls as eps^3
        def rest(eps):
            center = np.array([0.2 + 0.3 * eps, 0.5 + 0.3 * eps])
            density = norm.pdf(y, 0.7 + center[1], 1.0) * np.exp(-0.4 + 0.7 * center[0])
            return np.abs(gap(eps) - 0.5 * 0.21 * eps**2 * 0.49 * density).max()

        assert rest(1e-2) / rest(2e-2) == pytest.approx(1 / 8, rel=0.1)

    @staticmethod
    def numerator(atoms, x, y):
        scores, means = atoms.scores(x)[0], atoms.means(x)[0]
        return (np.exp(scores) * norm.pdf(y[:, None], means, np.sqrt(atoms.variance))).sum(1)

    def test_masses_add_and_a_translation_of_the_gate_goes_through(self):
        atoms = random_atoms(3, 2)
        shift = np.array([0.4, -1.0])
        moved = atoms._replace(gate_bias=atoms.gate_bias + 3.0, gate_weight=atoms.gate_weight + shift)
        one, other = merge_by_moments(atoms, (0, 2)), merge_by_moments(moved, (0, 2))
        assert one.gate_bias[-1] == pytest.approx(logsumexp(atoms.gate_bias[[0, 2]]))
        np.testing.assert_allclose(other.gate_bias, one.gate_bias + 3.0)
        np.testing.assert_allclose(other.gate_weight, one.gate_weight + shift)
        for mine, theirs in zip(one[2:], other[2:], strict=True):
            np.testing.assert_allclose(mine, theirs)

    def test_biases_may_be_huge(self):
        huge = random_atoms(2, 1)._replace(gate_bias=np.array([3e5, 3e5 + 1.0]))
        small = huge._replace(gate_bias=np.array([0.0, 1.0]))
        one, other = merge_by_moments(huge, (0, 1)), merge_by_moments(small, (0, 1))
        np.testing.assert_allclose(one.gate_bias, other.gate_bias + 3e5, rtol=1e-15)
        for mine, theirs in zip(one[1:], other[1:], strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-9)


class TestDissimilarities:
    def test_the_gap_is_one_minus_the_overlap_of_two_densities(self):
        atoms, x = random_atoms(3, 1), covariates(5, 1)
        w, means, std = atoms.weights(x), atoms.means(x), np.sqrt(atoms.variance)
        total = 0.0
        for row in range(5):

            def product(t, row=row):
                return np.sqrt(norm.pdf(t, means[row, 0], std[0]) * norm.pdf(t, means[row, 2], std[2]))

            total += (w[row, 0] + w[row, 2]) * (1.0 - quad(product, -30, 30)[0])
        expected = total / (w[:, 0] + w[:, 2]).sum()
        assert bhattacharyya_gap(atoms, 0, 2, x, w) == pytest.approx(expected, rel=1e-7)

    def test_its_second_order_form(self):
        """(eta_i - eta_j)^2 / 8 s + (s_i - s_j)^2 / 16 s^2."""
        x = np.ones((1, 1))
        for shift, spread in ((1e-3, 0.0), (0.0, 1e-3)):
            atoms = Atoms(
                np.zeros(2), np.zeros((2, 1)), np.zeros((2, 1)), np.array([0.0, shift]), np.array([2.0, 2.0 + spread])
            )
            expected = shift**2 / 16.0 + spread**2 / 64.0
            assert bhattacharyya_gap(atoms, 0, 1, x, atoms.weights(x)) == pytest.approx(expected, rel=2e-3)

    def test_parameters_count_with_their_exponents(self):
        atoms = Atoms(
            np.zeros(2),
            np.zeros((2, 2)),
            np.array([[3.0, 4.0], [0.0, 0.0]]),
            np.array([3.0, 0.0]),
            np.array([1.0, 3.0]),
        )
        assert parameter_gap(atoms, 0, 1) == pytest.approx(9.0 + 5.0 + 2.0)

    @pytest.mark.parametrize(("p", "q", "expected"), [(0.5, 0.5, 0.25), (1.0, 0.0, 0.0), (0.0, 0.0, 0.0)])
    def test_masses_count_as_their_harmonic_sum(self, p, q, expected):
        assert harmonic_mass(p, q) == expected


def test_softmax_regression_reaches_its_stationary_point():
    rng = np.random.default_rng(0)
    design = np.column_stack([rng.normal(size=(100, 2)), np.ones(100)])
    targets = rng.dirichlet(np.ones(3), size=100)
    gates = soft_multinomial(design, targets, [np.zeros((3, 3))])
    scores = design @ gates.T
    fitted = np.exp(scores - logsumexp(scores, axis=1, keepdims=True))
    np.testing.assert_allclose((targets - fitted).T @ design / 100, 0.0, atol=1e-5)
    assert (gates[-1] == 0.0).all()


@pytest.fixture(scope="module")
def tree():
    return mixing_dendrogram(measure_of(random_atoms(5, 2)), covariates(150, 2), covariates(150, 1, 3)[:, 0])


class TestTheTree:
    def test_every_level_has_its_measure(self, tree):
        assert [m.num_experts for m in tree.measures] == [5, 4, 3, 2, 1]
        assert tree.measure(3) is tree.measures[2]
        assert tree.num_experts == 5
        assert tree.masses.sum() == pytest.approx(1.0)

    def test_the_linkage_is_scipys(self, tree):
        assert is_valid_linkage(tree.linkage)
        assert tree.linkage[-1, 3] == 5
        np.testing.assert_array_equal(tree.linkage[:, 2], tree.heights)
        assert [tree.height(k) for k in (5, 4, 3, 2)] == tree.heights.tolist()

    def test_labels_follow_the_merges(self, tree):
        assert tree.labels(5).tolist() == [0, 1, 2, 3, 4]
        assert tree.labels(1).tolist() == [0] * 5
        first = tree.linkage[0, :2].astype(int)
        labels = tree.labels(4)
        assert labels[first[0]] == labels[first[1]] == 3
        assert sorted(labels) == [0, 1, 2, 3, 3]

    def test_the_mass_of_a_merged_atom_is_that_of_its_leaves(self, tree):
        x = covariates(150, 2)
        for k in (4, 3, 2):
            kept = Atoms.of(tree.measure(k)).weights(x).mean(0)
            summed = np.bincount(tree.labels(k), tree.masses, minlength=k)
            np.testing.assert_allclose(kept, summed, rtol=1e-4)

    def test_log_densities_are_those_of_the_measures(self, tree):
        x, y = covariates(150, 2), covariates(150, 1, 3)[:, 0]
        for k in (5, 3, 1):
            model = tree.measure(k).to_module()
            with torch.no_grad():
                mean = model.log_prob(torch.as_tensor(x), torch.as_tensor(y)).mean()
            assert tree.mean_log_density[5 - k] == pytest.approx(float(mean))

    def test_criteria_are_their_formulas(self, tree):
        heights, floor = tree.heights[::-1], 0.3 * 150**-0.25
        gaps = np.log((heights + floor) / (np.append(heights[1:], 0.0) + floor))
        np.testing.assert_allclose(tree.gaps(), gaps)
        first = np.log((0.25 + floor) / (heights[0] + floor))
        assert tree.choose() == (1 if first > 2 * gaps.max() else 2 + int(gaps.argmax()))
        dsc = [-(tree.height(k) + np.log(150) * tree.mean_log_density[5 - k]) for k in (2, 3, 4, 5)]
        np.testing.assert_allclose(tree.dsc(), dsc)
        assert tree.choose("dsc") == 2 + int(np.argmin(dsc))

    def test_it_prints_a_row_for_every_k(self, tree):
        lines = repr(tree).splitlines()
        assert lines[0] == "Dendrogram(K=5, n=150)"
        assert [int(line.split()[0]) for line in lines[2:]] == [5, 4, 3, 2, 1]

    def test_duplicates_merge_first_and_at_no_height(self):
        atoms = random_atoms(3, 1)
        doubled = atoms.plus(Atoms(*(part[:1] for part in atoms)))
        tree = mixing_dendrogram(measure_of(doubled), covariates(50, 1))
        assert set(tree.linkage[0, :2]) == {0.0, 3.0}
        assert tree.height(4) == pytest.approx(0.0, abs=1e-12)

    def test_one_atom_is_a_tree_of_its_own(self):
        tree = mixing_dendrogram(measure_of(random_atoms(1, 1)), covariates(20, 1))
        assert tree.linkage.shape == (0, 4)
        assert tree.choose() == 1

    def test_without_data_it_is_the_papers_rule_on_parameters(self):
        atoms = random_atoms(4, 2)
        tree = mixing_dendrogram(measure_of(atoms))
        masses = np.exp(atoms.gate_bias - logsumexp(atoms.gate_bias))
        heights = {
            (i, j): parameter_gap(atoms, i, j) / (1 / masses[i] + 1 / masses[j])
            for i in range(4)
            for j in range(i + 1, 4)
        }
        pair = min(heights, key=heights.get)
        assert tuple(tree.linkage[0, :2]) == pair
        assert tree.heights[0] == pytest.approx(heights[pair])
        with pytest.raises(ValueError, match="floor must be given for a dendrogram without data"):
            tree.choose()
        assert tree.choose(floor=0.01) in (2, 3, 4)
        with pytest.raises(ValueError, match="dsc needs the log-density of data"):
            tree.choose("dsc")


@pytest.mark.parametrize("outliers", [0, 40])
def test_the_reference_problem_is_read_off_one_fit_with_four_experts(outliers):
    x, y = reference_truth().sample_xy(800, generator=seeded(11))
    extra = torch.rand(outliers, 2, dtype=x.dtype, generator=seeded(12))
    x = torch.cat([x, extra[:, :1]])
    y = torch.cat([y, y.min() + (y.max() - y.min()) * extra[:, 1]])
    found = [select_experts(x, y, [4], random_state=0, estimator=EM(n_moves=n)).best for n in (None, 0)]
    assert [mixing_dendrogram(fit, x, y).choose() for fit in found] == [2, 2]
    assert found[0].llf >= found[1].llf  # moves find a higher maximum: without outliers, an expert on four rows
    tree = mixing_dendrogram(found[1], x, y)
    if not outliers:
        merged, truth = tree.measure(2).align(reference_truth()), reference_truth()
        torch.testing.assert_close(merged.slope, truth.slope, rtol=0.05, atol=0.0)
    else:
        assert select_experts(x, y, range(1, 4), random_state=0).best_num_experts == 3  # they are a third component


@pytest.mark.parametrize("outliers", [0, 40])
def test_one_line_is_one_expert(outliers):
    generator = seeded(5)
    x = torch.rand(800 + outliers, 1, dtype=torch.float64, generator=generator)
    y = 1.0 + 2.0 * x[:, 0] + 0.5 * torch.randn(len(x), dtype=torch.float64, generator=generator)
    y[800:] = -1.0 + 5.0 * torch.rand(outliers, dtype=torch.float64, generator=generator)
    fit = select_experts(x, y, [3], random_state=0, estimator=EM(n_init=3)).best
    assert mixing_dendrogram(fit).choose() == 1
    assert mixing_dendrogram(fit).choose("dsc") > 1
    assert mixing_dendrogram(fit, x, y, dissimilarity="parameters").choose() > 1


def test_a_fit_brings_its_data():
    x, y = reference_truth().sample_xy(300, generator=seeded(1))
    fit = select_experts(x, y, [3], random_state=0, estimator=EM(n_init=2)).best
    given, own = mixing_dendrogram(fit, x, y), mixing_dendrogram(fit)
    np.testing.assert_array_equal(given.linkage, own.linkage)
    np.testing.assert_array_equal(given.mean_log_density, own.mean_log_density)
    weighted = select_experts(x, y, [2], sample_weight=torch.ones(300), random_state=0, estimator=EM(n_init=2)).best
    with pytest.raises(ValueError, match="x must be given for a fit with sample weights"):
        mixing_dendrogram(weighted)
    assert mixing_dendrogram(weighted, x).num_rows == 300
    fit.remove_data()
    np.testing.assert_array_equal(mixing_dendrogram(fit).linkage, mixing_dendrogram(fit.measure).linkage)


class TestBadInput:
    def test_other_models(self):
        settings = {"generator": seeded(0)}
        experts = linear_gaussian_experts(1, 3, **settings)
        for gate in (sigmoid_gate(1, 3, **settings), topk_gate(1, 3, 2, **settings)):
            with pytest.raises(TypeError, match="fit must have the dense softmax gate of linear scores"):
                mixing_dendrogram(MixtureOfExperts(gate, experts))
        for other in (
            PoissonExperts(LinearPredictor(1, 3, **settings)),
            GaussianExperts(ConstantPredictor(3, **settings)),
        ):
            with pytest.raises(TypeError, match="fit must have Gaussian experts with linear means and no offset"):
                mixing_dendrogram(MixtureOfExperts(softmax_gate(1, 3, **settings), other))
        warm = softmax_model(1, 2)
        warm.gate.temperature = FixedTemperature(2.0)
        with pytest.raises(TypeError, match="at temperature 1"):
            mixing_dendrogram(warm)
        with pytest.raises(TypeError, match="fit must be a FitResult, a MixtureOfExperts or a MixingMeasure, got int"):
            mixing_dendrogram(3)

    def test_a_batch(self):
        measure = measure_of(random_atoms(2, 1))
        batch = MixingMeasure(*(torch.stack([part, part]) for part in vars(measure).values()))
        with pytest.raises(ValueError, match=r"fit must be a single measure, got a batch of shape \(2,\)"):
            mixing_dendrogram(batch)

    def test_data_of_another_shape(self):
        measure = measure_of(random_atoms(2, 2))
        with pytest.raises(ValueError, match=r"x must have shape \(n, 2\), got \(5, 1\)"):
            mixing_dendrogram(measure, np.ones((5, 1)))
        with pytest.raises(ValueError, match=r"y must have shape \(5\), got \(4,\)"):
            mixing_dendrogram(measure, np.ones((5, 2)), np.ones(4))
        with pytest.raises(ValueError, match="x must be finite"):
            mixing_dendrogram(measure, np.full((5, 2), np.nan))
        with pytest.raises(ValueError, match="x must be given where y is"):
            mixing_dendrogram(measure, y=np.ones(4))

    def test_names_and_numbers(self):
        measure = measure_of(random_atoms(2, 1))
        with pytest.raises(ValueError, match="dissimilarity must be one of"):
            mixing_dendrogram(measure, dissimilarity="ward")
        with pytest.raises(ValueError, match='x must be given for dissimilarity "overlap"'):
            mixing_dendrogram(measure, dissimilarity="overlap")
        tree = mixing_dendrogram(measure, np.ones((3, 1)))
        with pytest.raises(ValueError, match=r"rule must be one of \['gap', 'dsc'\], got 'bic'"):
            tree.choose("bic")
        with pytest.raises(ValueError, match=r"floor must be positive, got 0"):
            tree.choose(floor=0.0)
        with pytest.raises(ValueError, match="num_experts must be at most 2, got 3"):
            tree.measure(3)
