"""Patterns of coefficients: words, checks, and modules that follow them."""

import copy
import pickle

import pytest
import torch

from mixkit.experts import GaussianExperts, MixedExperts, PoissonExperts
from mixkit.experts.predictors import LinearPredictor
from mixkit.gates import Gate
from mixkit.gates.normalizers import NormalizedSigmoid
from mixkit.gates.scores import ActivationScore, LinearScore
from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import CoefficientPattern, free_mask, records_of, relative_to_reference


def settings(seed: int = 0) -> dict[str, object]:
    return {"dtype": torch.float64, "generator": torch.Generator().manual_seed(seed)}


def labels(model: torch.nn.Module) -> list[str]:
    """What users call the entries of all parameters."""
    found = []
    for record in records_of(model):
        places = torch.ones_like(model.get_parameter(record.name)).nonzero().tolist()
        found += [record.label(tuple(place)) for place in places]
    return found


def test_a_pattern_in_words_is_the_one_in_numbers() -> None:
    told = CoefficientPattern.of(
        3, ["a", "b", "c"], columns=["a", "b"], common={"a": (0, 2), -1: (1, 2)}, absent={1: ["b"]}, fixed={(2, 1): 1.5}
    )
    assert told.index == ((0, 1, -1, 2), (3, -1, -1, 4), (0, -1, -1, 4))
    assert told.fixed == ((0.0,) * 4, (0.0,) * 4, (0.0, 1.5, 0.0, 0.0))
    assert told == CoefficientPattern(told.index, told.fixed)
    assert told.num_free == 5
    assert told.can_shift == (False, False, True)


def test_intercepts_absorb_shifts_of_columns_whose_experts_are_all_of_theirs() -> None:
    own = CoefficientPattern.of(3, 2, common=[0])
    assert own.can_shift == (True, True)
    shared = CoefficientPattern.of(3, 2, common={"intercept": (0, 1), 0: (0, 1)})
    assert shared.can_shift == (True, False)  # experts 0 and 1 have slopes of column 1 of their own, but one intercept
    assert CoefficientPattern.of(3, 2, intercept=False).can_shift == (False, False)
    assert CoefficientPattern.of(2, 2, fixed={(0, 1): 1.0}).can_shift == (True, False)
    assert CoefficientPattern.of(2, 2, absent={0: ["intercept", 1]}).can_shift == (False, True)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"columns": [2]}, "columns must name columns 0 to 1"),
        ({"common": ["z"]}, "common must name columns of"),
        ({"absent": {2: [0]}}, "absent must be at most 1"),
        ({"absent": {0: [0]}, "fixed": {(0, 0): 1.0}}, "fixed must not name what is absent"),
        ({"columns": [0], "common": [1]}, "common must name columns that are read"),
        ({"columns": [0], "absent": {0: [1]}}, "absent and fixed must name columns that are read"),
        ({"common": {0: ((0, 1), (0, 1))}}, "common must not name what is absent, fixed or common"),
        ({"fixed": {(0, 0): float("nan")}}, "fixed must hold finite numbers"),
    ],
)
def test_words_that_contradict_are_refused(arguments: dict[str, object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        CoefficientPattern.of(2, 2, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("index", "match"),
    [
        (((0, 0, 1),), "each in one column"),
        (((0, 2, 1),), None),
        (((0, 3, 1),), "without a gap"),
        (((0,),), "one row an expert"),
        (((0, 1), (0,)), "one row an expert"),
    ],
)
def test_numbers_that_are_no_pattern_are_refused(index: tuple[tuple[int, ...], ...], match: str | None) -> None:
    fixed = tuple((0.0,) * len(row) for row in index)
    if match is None:
        assert CoefficientPattern(index, fixed).num_free == 3
        return
    with pytest.raises(ValueError, match=match):
        CoefficientPattern(index, fixed)


def test_values_stand_where_no_coefficient_is_free() -> None:
    with pytest.raises(ValueError, match="fixed must be 0 where index has a free coefficient"):
        CoefficientPattern(((0, 1),), ((1.0, 0.0),))


def test_columns_are_sequences_of_names_or_positions() -> None:
    with pytest.raises(TypeError, match="columns must name columns by position or name, got float"):
        CoefficientPattern.of(2, 2, columns=[0.5])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="absent must hold sequences of columns"):
        CoefficientPattern.of(2, ["a"], absent={0: "a"})


def test_a_predictor_reads_its_free_coefficients() -> None:
    pattern = CoefficientPattern.of(2, 2, common=[1], fixed={(1, 0): 1.5, (0, "intercept"): -1.0})
    predictor = LinearPredictor(2, 2, pattern=pattern, **settings())
    first, second, third = *predictor.free_slope.tolist(), *predictor.free_intercept.tolist()
    assert predictor.slope.tolist() == [[first, second], [1.5, second]]
    assert predictor.intercept.tolist() == [-1.0, third]
    x = torch.tensor([[2.0, 3.0]], dtype=torch.float64)
    expected = [2.0 * first + 3.0 * second - 1.0, 3.0 + 3.0 * second + third]
    assert predictor(x)[0].tolist() == pytest.approx(expected, rel=1e-15)
    predictor(x).sum().backward()
    assert predictor.free_slope.grad is not None
    assert predictor.free_slope.grad.tolist() == [2.0, 6.0]


def test_vector_locations_have_the_pattern_in_every_coordinate() -> None:
    pattern = CoefficientPattern.of(3, 2, common=[1], absent={0: [0]})
    predictor = LinearPredictor(2, 3, response_dim=2, pattern=pattern, batch_shape=(4,), **settings())
    assert predictor.free_slope.shape == (4, 2, 3)
    assert predictor.slope.shape == (4, 3, 2, 2)
    assert predictor.intercept.shape == (4, 3, 2)
    assert predictor.batch_shape == (4,)
    assert bool((predictor.slope[:, 0, :, 0] == 0).all())
    assert bool((predictor.slope[:, :1, :, 1] == predictor.slope[..., 1]).all())
    assert predictor(torch.ones(5, 2, dtype=torch.float64)).shape == (4, 5, 3, 2)


def test_a_patterned_model_is_copied_pickled_and_stored() -> None:
    pattern = CoefficientPattern.of(2, 2, common=[1])
    first, second = (LinearPredictor(2, 2, pattern=pattern, **settings(seed)) for seed in (0, 1))
    second.load_state_dict(first.state_dict())
    assert list(first.state_dict()) == ["free_slope", "free_intercept"]
    for twin in (second, copy.deepcopy(first), pickle.loads(pickle.dumps(first))):
        assert torch.equal(twin.slope, first.slope)
        assert twin.pattern == pattern
    single = copy.deepcopy(first).to(torch.float32)
    assert single.slope.dtype == torch.float32


def test_a_block_without_free_coefficients_has_no_parameter() -> None:
    pattern = CoefficientPattern.of(2, 1, columns=[], fixed={(0, -1): 1.0, (1, -1): 2.0})
    predictor = LinearPredictor(1, 2, pattern=pattern, **settings())
    assert not list(predictor.parameters())
    assert predictor(torch.ones(3, 1, dtype=torch.float64)).tolist() == [[1.0, 2.0]] * 3


def test_labels_say_which_experts_share_a_coefficient() -> None:
    experts = CoefficientPattern.of(3, 2, common={0: (0, 1), 1: (0, 1, 2)}, absent={2: [0]})
    gate = CoefficientPattern.of(3, 2, columns=[1], common={1: (1, 2)})
    model = MixtureOfExperts(
        Gate(LinearScore(2, 3, pattern=gate, **settings())),
        GaussianExperts(LinearPredictor(2, 3, pattern=experts, **settings())),
    )
    assert labels(model)[:2] == ["gate_weight[0,x1]", "gate_weight[1+2,x1]"]
    assert labels(model)[5:10] == ["slope[0+1,x0]", "slope[common,x1]", "intercept[0]", "intercept[1]", "intercept[2]"]


def test_labels_number_experts_among_all_families() -> None:
    pattern = CoefficientPattern.of(2, 1, common=[0])
    families = [kind(LinearPredictor(1, 2, pattern=pattern, **settings())) for kind in (PoissonExperts, PoissonExperts)]
    names = labels(MixedExperts(families))
    wanted = ["slope[0+1,x0]", "intercept[0]", "intercept[1]", "slope[2+3,x0]", "intercept[2]", "intercept[3]"]
    assert names == wanted


def test_a_coefficient_common_to_all_experts_cancels_in_a_softmax() -> None:
    score = LinearScore(2, 3, pattern=CoefficientPattern.of(3, 2, common=[1]), **settings())
    with pytest.raises(ValueError, match=r"they cancel, got x1 common"):
        Gate(score)
    Gate(score, normalizer=NormalizedSigmoid())
    Gate(ActivationScore(torch.tanh, 2, 3, pattern=score.pattern, **settings()))  # no shift of all scores
    with pytest.raises(ValueError, match=r"they cancel, got intercept common"):
        Gate(LinearScore(2, 3, pattern=CoefficientPattern.of(3, 2, common=["intercept"]), **settings()))
    Gate(LinearScore(2, 1, pattern=CoefficientPattern.of(1, 2), **settings()))


def test_the_reference_of_a_patterned_gate_is_that_of_each_column() -> None:
    pattern = CoefficientPattern.of(3, 2, common={0: (1, 2)}, absent={0: [1]})
    gate = Gate(LinearScore(2, 3, pattern=pattern, **settings()))
    record = next(record for record in records_of(gate) if record.block == "gate_weight")
    weight = gate.get_parameter(record.name)
    # column 0: experts 1 and 2 are the reference; column 1: expert 0 has none, which fixes the others
    assert free_mask(record, weight).tolist() == [True, False, True, True]
    moved = copy.deepcopy(gate)
    with torch.no_grad():
        moved.score.free_weight.copy_(relative_to_reference(record, weight))
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    torch.testing.assert_close(moved(x), gate(x), rtol=1e-12, atol=1e-12)


def test_modules_refuse_patterns_of_other_sizes() -> None:
    pattern = CoefficientPattern.of(2, 2)
    with pytest.raises(ValueError, match="pattern must have 3 experts and 2 covariates, got 2 and 2"):
        LinearPredictor(2, 3, pattern=pattern)
    with pytest.raises(ValueError, match="bias must be True beside a pattern"):
        LinearScore(2, 2, bias=False, pattern=pattern)
    with pytest.raises(TypeError, match=r"pattern must be a mixkit\.parameters\.CoefficientPattern, got str"):
        LinearPredictor(2, 2, pattern="common")  # type: ignore[arg-type]


def test_experts_in_another_order_have_the_pattern_in_that_order() -> None:
    pattern = CoefficientPattern.of(3, 1, common={0: (0, 1)}, absent={2: [0]})
    assert pattern.permuted([1, 0, 2]) == pattern.permuted([0, 1, 2])
    assert pattern.permuted([2, 1, 0]) != pattern.permuted([0, 1, 2])
