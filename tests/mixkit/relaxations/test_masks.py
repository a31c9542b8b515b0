"""N:M masks: patterns, laws, training and export."""

import copy
import itertools
import math
import pickle

import pytest
import torch
from torch import nn

from mixkit.gates.temperatures import ScheduledTemperature
from mixkit.relaxations import GumbelSoftmax, ReinMax, StraightThrough, StraightThroughGumbelSoftmax
from mixkit.relaxations.masks import (
    PatternMask,
    SubsetMask,
    add_masks,
    advance_masks,
    harden_masks,
    is_nm_mask,
    magnitude_mask,
    masked_layers,
    nm_patterns,
    retained_energy,
)
from mixkit.relaxations.subsets import RelaxedSubset, Simple
from mixkit.schedules import ConstantSchedule, LinearSchedule

ALL_PATTERNS = [(n, m) for m in range(2, 9) for n in range(1, m)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pattern_mask(n=2, m=4, shape=(3, 8), **options):
    if shape == (3, 8) and m != 4:
        shape = (3, 2 * m)
    return PatternMask(shape, n, m, generator=seeded(), dtype=torch.float64, **options)


@pytest.fixture
def model():
    layers = [nn.utils.skip_init(nn.Linear, 8, 4), nn.ReLU(), nn.utils.skip_init(nn.Linear, 4, 2)]
    generator = seeded()
    for layer in (layers[0], layers[2]):
        nn.init.normal_(layer.weight, generator=generator)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers)


def masked(model, **options):
    return add_masks(model, lambda weight: PatternMask(weight.shape, 2, 4, generator=seeded(1), **options))


@pytest.mark.parametrize(("n", "m"), ALL_PATTERNS)
def test_patterns_are_all_of_them(n, m):
    patterns = nm_patterns(n, m)
    assert patterns.shape == (math.comb(m, n), m)
    assert len(patterns.unique(dim=0)) == len(patterns)
    assert (patterns.sum(-1) == n).all()


@pytest.mark.parametrize(("n", "m"), ALL_PATTERNS)
def test_hard_masks_keep_exactly_n_of_m(n, m):
    mask = pattern_mask(n, m)
    hard = mask.hard_mask()
    assert is_nm_mask(hard, n, m)
    assert (hard.unflatten(1, (-1, m)).sum(-1) == n).all()
    assert is_nm_mask(mask.eval()(torch.ones(hard.shape)), n, m)


@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_groups_run_along_the_dimension_told(dim):
    shape = (8, 4, 12)
    hard = PatternMask(shape, 1, 4, dim=dim, generator=seeded()).hard_mask()
    assert hard.shape == shape
    assert (hard.movedim(dim, -1).unflatten(-1, (-1, 4)).sum(-1) == 1).all()
    assert is_nm_mask(hard, 1, 4, dim=dim)


def test_magnitude_mask_is_the_best_mask_by_enumeration():
    weight = torch.randn(5, 12, generator=seeded())
    kept = (weight * magnitude_mask(weight, 2, 4)).square().unflatten(1, (-1, 4)).sum(-1)
    every = torch.einsum("rgm,cm->rgc", weight.square().unflatten(1, (-1, 4)), nm_patterns(2, 4))
    torch.testing.assert_close(kept, every.amax(-1))


def test_magnitude_mask_breaks_ties_by_the_lower_index():
    assert magnitude_mask(torch.ones(1, 8, dtype=torch.bfloat16), 2, 4).tolist() == [[True, True, False, False] * 2]


@pytest.mark.parametrize(("n", "m"), [(2, 4), (1, 4), (3, 6), (4, 8)])
def test_prior_sets_the_first_mode(n, m):
    weight = torch.randn(6, 2 * m, generator=seeded(4), dtype=torch.float64)
    prior = magnitude_mask(weight, n, m)
    mask = pattern_mask(n, m, shape=weight.shape, prior=prior, prior_strength=40.0)
    assert torch.equal(mask.hard_mask(), prior)


def test_prior_shifts_the_logits_as_published():
    prior = torch.tensor([[True, True, False, False]])
    plain, shifted = (pattern_mask(shape=(1, 4), prior=p) for p in (None, prior))
    agreement = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, -1.0], dtype=torch.float64)  # <prior, S_j> - N^2 / M
    torch.testing.assert_close((shifted.logits - plain.logits).flatten(), 3.0 * 0.01 * agreement)


def test_marginals_are_those_of_the_law():
    mask = pattern_mask(scale=ConstantSchedule(100.0))
    groups = mask.marginals().unflatten(1, (-1, 4))
    torch.testing.assert_close(groups.sum(-1), torch.full((3, 2), 2.0, dtype=torch.float64))
    probabilities = torch.softmax(100.0 * mask.logits, -1)
    by_hand = torch.zeros(3, 2, 4, dtype=torch.float64)
    for j, kept in enumerate(itertools.combinations(range(4), 2)):
        by_hand[..., list(kept)] += probabilities[..., j, None]
    torch.testing.assert_close(groups, by_hand)


@pytest.mark.parametrize("sampler", [Simple(), RelaxedSubset(0.3, hard=True)], ids=["simple", "relaxed"])
def test_subset_masks_of_large_groups_are_hard_and_learn(sampler):
    mask = SubsetMask((3, 64), 16, 32, sampler=sampler, scale=ConstantSchedule(100.0), generator=seeded())
    sample = mask.sample()
    assert (sample.unflatten(1, (-1, 32)).sum(-1) == 16).all()
    assert (mask.hard_mask().unflatten(1, (-1, 32)).sum(-1) == 16).all()
    (sample * torch.arange(64.0)).sum().backward()
    assert torch.isfinite(mask.logits.grad).all()
    assert mask.logits.grad.abs().max() > 0


def test_subset_mask_is_the_pattern_mask_with_additive_logits():
    subset = SubsetMask((3, 12), 3, 6, scale=ConstantSchedule(40.0), generator=seeded(), dtype=torch.float64)
    pattern = PatternMask((3, 12), 3, 6, scale=ConstantSchedule(40.0), generator=seeded(), dtype=torch.float64)
    pattern.logits.data = subset.logits.detach() @ nm_patterns(3, 6, dtype=torch.float64).T
    torch.testing.assert_close(subset.marginals(), pattern.marginals())
    assert torch.equal(subset.hard_mask(), pattern.hard_mask())
    weight = torch.randn(3, 12, generator=seeded(), dtype=torch.float64)
    torch.testing.assert_close(subset.retained_energy(weight), pattern.retained_energy(weight))


def test_subset_mask_starts_from_its_prior():
    prior = magnitude_mask(torch.randn(4, 32, generator=seeded()), 3, 16)
    mask = SubsetMask((4, 32), 3, 16, prior=prior, prior_strength=40.0, generator=seeded())
    assert torch.equal(mask.hard_mask(), prior)


def test_retained_energy_is_the_expectation_by_enumeration():
    mask, weight = (
        pattern_mask(shape=(1, 4), scale=ConstantSchedule(50.0)),
        torch.randn(1, 4, generator=seeded()).double(),
    )
    energies = (weight * nm_patterns(2, 4, dtype=torch.float64)).square().sum(-1)
    expected = (torch.softmax(50.0 * mask.logits.flatten(), -1) * energies).sum()
    torch.testing.assert_close(mask.retained_energy(weight), expected)


def test_samples_are_relaxed_masks_and_harden_with_the_temperature():
    warm = pattern_mask(estimator=GumbelSoftmax(4.0)).sample()
    torch.testing.assert_close(warm.unflatten(1, (-1, 4)).sum(-1), torch.full((3, 2), 2.0, dtype=torch.float64))
    assert ((warm > 0) & (warm < 1)).all()
    cold = pattern_mask(estimator=GumbelSoftmax(1e-4)).sample()
    torch.testing.assert_close(cold, cold.round(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("estimator", [ReinMax(), StraightThrough(), StraightThroughGumbelSoftmax()], ids=repr)
def test_other_estimators_give_hard_masks_with_gradients(estimator):
    mask = pattern_mask(estimator=estimator, scale=ConstantSchedule(10.0))
    sample = mask.sample()
    assert is_nm_mask(sample, 2, 4)
    (gradient,) = torch.autograd.grad((sample * torch.arange(8.0, dtype=torch.float64)).sum(), mask.logits)
    assert gradient.abs().max() > 0
    assert torch.isfinite(gradient).all()


def test_frequencies_of_hard_samples_follow_the_law():
    mask = PatternMask(
        (1, 4 * 20000), 2, 4, estimator=StraightThrough(), scale=ConstantSchedule(1.0), generator=seeded()
    )
    mask.logits.data[:] = torch.tensor([0.5, 0.0, -1.0, 1.0, 0.3, -0.2])
    frequency = mask.sample().detach().unflatten(1, (-1, 4)).mean((0, 1))
    expected = mask.marginals().detach().unflatten(1, (-1, 4))[0, 0]
    deviation = (frequency - expected) / (expected * (1 - expected) / 20000).sqrt()
    assert deviation.abs().max() < 4.8  # 1e-5 over four entries, nearly


def test_gradcheck_through_the_masked_weight():
    mask = pattern_mask(shape=(2, 4), scale=ConstantSchedule(20.0), estimator=GumbelSoftmax(0.7))

    def run(logits, weight):
        mask.generator.manual_seed(3)
        return torch.func.functional_call(mask, {"logits": logits}, (weight,))

    weight = torch.randn(2, 4, dtype=torch.float64, generator=seeded(), requires_grad=True)
    assert torch.autograd.gradcheck(run, (mask.logits.detach().requires_grad_(True), weight))


def test_extreme_logits_give_finite_gradients():
    mask = pattern_mask(scale=ConstantSchedule(1.0), estimator=GumbelSoftmax(0.05))
    mask.logits.data[:] = torch.tensor([1e4, -1e4, 0.0, 1e4, 3.0, -1e4])
    (mask(torch.ones(3, 8, dtype=torch.float64)).sum() + mask.retained_energy(torch.ones(3, 8).double())).backward()
    assert torch.isfinite(mask.logits.grad).all()
    gradient = mask.logits.grad
    assert (gradient[..., [1, 2, 4, 5]] == 0.0).all()  # patterns that are never drawn
    assert gradient.sum(-1).abs().max() < 1e-9


@pytest.mark.parametrize("make", [PatternMask, SubsetMask])
def test_what_is_ruled_out_is_never_kept(make):
    mask = make((3, 8), 2, 4, scale=ConstantSchedule(2.0), generator=seeded(), dtype=torch.float64)
    out = 3 if make is SubsetMask else nm_patterns(2, 4)[:, 3] > 0  # the last entry of every group
    mask.logits.data[..., out] = -torch.inf
    last = torch.tensor([0.0, 0.0, 0.0, 1.0] * 2, dtype=torch.float64)
    for value in (mask.sample(), mask.marginals(), mask.hard_mask().double()):
        assert (value @ last == 0).all()
    weight = torch.ones(3, 8, dtype=torch.float64)
    (mask(weight).sum() + mask.retained_energy(weight)).backward()
    assert torch.isfinite(mask.logits.grad).all()


@pytest.mark.parametrize("make", [PatternMask, SubsetMask])
def test_compile(make):
    mask, weight = make((3, 8), 2, 4, generator=seeded()), torch.randn(3, 8, generator=seeded())
    torch.testing.assert_close(torch.compile(mask.eval(), backend="aot_eager")(weight), mask(weight))
    torch.testing.assert_close(
        torch.compile(mask.retained_energy, backend="aot_eager")(weight), mask.retained_energy(weight)
    )


def test_vmap_over_weights():
    mask, weights = pattern_mask().eval(), torch.randn(4, 3, 8, generator=seeded())
    torch.testing.assert_close(torch.func.vmap(mask)(weights), torch.stack([mask(weight) for weight in weights]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtype_of_the_weight_is_kept(dtype):
    mask = pattern_mask()
    weight = torch.arange(24.0).reshape(3, 8)
    assert mask(weight.to(dtype)).dtype == dtype
    torch.testing.assert_close(mask.eval()(weight.to(dtype)).double(), mask(weight.double()), rtol=1e-2, atol=0.0)


def test_parametrized_model_trains_and_hardens(model):
    masks = masked(model)
    assert list(masks) == ["0", "2"]
    assert [(name, layer, mask) for name, layer, mask in masked_layers(model)] == [
        (name, model[int(name)], mask) for name, mask in masks.items()
    ]
    x = torch.randn(5, 8, generator=seeded())
    (model(x).square().sum() - retained_energy(model)).backward()
    assert all(mask.logits.grad.abs().sum() > 0 for mask in masks.values())
    weights = {name: model[int(name)].parametrizations.weight.original.detach().clone() for name in masks}
    expected = model.eval()(x)
    hard = harden_masks(model)
    torch.testing.assert_close(model(x), expected)
    for name, mask in hard.items():
        assert isinstance(model[int(name)].weight, nn.Parameter)
        assert torch.equal(model[int(name)].weight, weights[name] * mask)
        assert is_nm_mask(model[int(name)].weight, 2, 4)


def test_a_frozen_model_learns_masks_only(model):
    masks = masked(model.requires_grad_(False))
    learning = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert learning == [f"{name}.parametrizations.weight.0.logits" for name in masks]


def test_learning_finds_the_weights_that_matter():
    """Inputs 4 to 7 carry no signal, so a 1:2 mask over interleaved inputs must keep the ones that do."""
    generator = seeded()
    layer = nn.utils.skip_init(nn.Linear, 8, 1, bias=False)
    layer.weight.data = torch.tensor([[1.0, 2.0, -1.0, 2.0, 1.5, -2.0, 0.5, 2.0]])
    x = torch.randn(256, 8, generator=generator)
    x[:, 1::2] = 0.0  # the larger weights read nothing
    y = x @ layer.weight.detach().T
    layer.requires_grad_(False)
    add_masks(
        layer,
        lambda weight: PatternMask(
            weight.shape,
            1,
            2,
            prior=magnitude_mask(weight, 1, 2),
            scale=LinearSchedule(100.0, 500.0, 150),
            estimator=GumbelSoftmax(ScheduledTemperature(LinearSchedule(4.0, 0.05, 150))),
            generator=generator,
        ),
    )
    optimizer = torch.optim.Adam([p for p in layer.parameters() if p.requires_grad], lr=3e-3)
    for _ in range(150):
        optimizer.zero_grad()
        (layer(x) - y).square().mean().backward()
        optimizer.step()
        advance_masks(layer)
    assert harden_masks(layer)[""].tolist() == [[True, False] * 4]


def test_convolutions_are_masked_along_their_inputs():
    layer = nn.utils.skip_init(nn.Conv2d, 8, 3, 3)
    nn.init.normal_(layer.weight, generator=seeded())
    add_masks(layer, lambda weight: PatternMask(weight.shape, 2, 4, generator=seeded()), layer_types=(nn.Conv2d,))
    assert (harden_masks(layer)[""].unflatten(1, (-1, 4)).sum(2) == 2).all()


def test_schedules_advance_and_travel_with_the_state(model):
    shared = GumbelSoftmax(ScheduledTemperature(LinearSchedule(4.0, 2.0, 10)))
    masks = masked(model, scale=LinearSchedule(1.0, 11.0, 10), estimator=shared)
    for _ in range(3):
        advance_masks(model)
    assert {(int(mask.step), float(mask.scale_value)) for mask in masks.values()} == {(3, 4.0)}
    assert float(shared.temperature.value) == pytest.approx(3.4)
    other = copy.deepcopy(model)
    for _, _, mask in masked_layers(other):
        mask.step.zero_()
        mask.scale_value.zero_()
        mask.logits.data.zero_()
    other.load_state_dict(model.state_dict())
    for (_, _, mine), (_, _, theirs) in zip(masked_layers(model), masked_layers(other), strict=True):
        assert int(theirs.step) == 3
        torch.testing.assert_close(mine.marginals(), theirs.marginals())


def test_pickle_repr_and_seed():
    mask = pattern_mask()
    again = pickle.loads(pickle.dumps(mask))
    assert "2:4" in repr(mask)
    assert torch.equal(mask.sample(), again.sample())
    assert not torch.equal(mask.sample(), mask.sample())


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: nm_patterns(4, 4), ValueError, "num_kept must be at most 3"),
        (lambda: nm_patterns(5, 4), ValueError, "num_kept must be at most 3"),
        (lambda: nm_patterns(0, 4), ValueError, "num_kept must be at least 1"),
        (lambda: nm_patterns(2.0, 4), TypeError, "num_kept must be an integer"),
        (lambda: pattern_mask(2, 9, shape=(1, 9)), ValueError, "group_size must be at most 8"),
        (lambda: pattern_mask(shape=(3, 6)), ValueError, "multiple of group_size=4 entries along dim 1"),
        (lambda: pattern_mask(shape=(8,)), ValueError, "dim must be at most 0"),
        (lambda: pattern_mask(init_std=0.0), ValueError, "init_std must be positive"),
        (
            lambda: pattern_mask(prior=torch.ones(3, 8)),
            ValueError,
            "prior must keep exactly 2 of every 4",
        ),
        (lambda: is_nm_mask(torch.ones(2, 6), 2, 4), ValueError, "multiple of group_size=4"),
        (lambda: magnitude_mask(torch.tensor([[1.0, torch.nan]]), 1, 2), ValueError, "weight must be finite"),
        (lambda: add_masks(nn.ReLU(), pattern_mask), ValueError, r"model must have a layer of \['Linear'\]"),
        (lambda: harden_masks(nn.ReLU()), ValueError, "model must have masks"),
        (lambda: retained_energy(nn.ReLU()), ValueError, "model must have masks"),
    ],
)
def test_bad_input_is_refused(call, error, match):
    with pytest.raises(error, match=match):
        call()


def test_masking_twice_is_refused(model):
    masked(model)
    with pytest.raises(ValueError, match="no mask or other parametrization"):
        masked(model)


class TestMasksGoWhereTheirWeightsAre:
    makes = pytest.mark.parametrize("make", [PatternMask, SubsetMask])

    @makes
    def test_device(self, make):
        """The meta device has no values: a mask left on another would raise as it is registered."""
        layer = nn.Linear(8, 4, device="meta")
        add_masks(layer, lambda w: make(w.shape, 2, 4, generator=seeded()))
        assert all(tensor.is_meta for tensor in (*layer.parameters(), *layer.buffers(), layer.weight))

    @makes
    @pytest.mark.parametrize(
        ("weight", "told", "expected"),
        [
            (torch.float64, None, torch.float64),
            (torch.float32, None, torch.float32),
            (torch.bfloat16, None, torch.float32),
            (torch.float16, torch.float16, torch.float16),
            (torch.float32, torch.float64, torch.float64),
        ],
    )
    def test_dtype(self, make, weight, told, expected):
        layer = nn.utils.skip_init(nn.Linear, 8, 4, dtype=weight)
        nn.init.ones_(layer.weight)
        mask = add_masks(layer, lambda w: make(w.shape, 2, 4, generator=seeded(), dtype=told))[""]
        assert mask.logits.dtype == expected
        assert layer.train().weight.dtype == weight
        retained_energy(layer).backward()
        assert mask.logits.grad.dtype == expected

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
    @makes
    def test_on_a_gpu(self, make):
        layer, other = (nn.utils.skip_init(nn.Linear, 8, 4, device="cuda") for _ in range(2))
        nn.init.ones_(layer.weight)
        add_masks(layer, lambda w: make(w.shape, 2, 4, prior=magnitude_mask(w, 2, 4), generator=None))
        layer.weight.square().sum().backward()
        assert harden_masks(layer)[""].device.type == "cuda"
        with pytest.raises(ValueError, match="generator of a mask must be on the device of its weight, cuda:0"):
            add_masks(other, lambda w: make(w.shape, 2, 4, generator=seeded()))

    def test_what_is_no_mask(self, model):
        with pytest.raises(TypeError, match=r"make must return an NMMask .*, got Tensor"):
            add_masks(model, lambda w: magnitude_mask(w, 2, 4))
        assert not list(masked_layers(model))
