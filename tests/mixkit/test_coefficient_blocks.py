"""Blocks of coefficients: full from free, translations, orders of experts."""

import copy

import pytest
import torch

from mixkit import Gate, constant_gate
from mixkit.experts import GaussianExperts
from mixkit.experts.predictors import LinearPredictor
from mixkit.gates.scores import LinearScore, QueryKeyNormScore
from mixkit.gates.temperatures import InputTemperature
from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import CoefficientBlock, CoefficientPattern, distinct_orders, reorder_experts

# column 0: experts 0 and 2 share, 1 has its own; column 1: expert 1 is held at 3
BLOCK = CoefficientBlock(((0, 1), (2, -1), (0, 3)), ((0.0, 0.0), (0.0, 3.0), (0.0, 0.0)))
FREE = torch.tensor([1.0, 2.0, 4.0, 8.0], dtype=torch.float64)


def test_all_coefficients_follow_from_the_free_ones() -> None:
    assert BLOCK.full(FREE).tolist() == [[1.0, 2.0], [4.0, 3.0], [1.0, 8.0]]
    assert BLOCK.without_values().full(FREE).tolist() == [[1.0, 2.0], [4.0, 0.0], [1.0, 8.0]]
    batch = torch.stack([FREE, 10.0 * FREE])
    assert BLOCK.full(batch)[1].tolist() == [[10.0, 20.0], [40.0, 3.0], [10.0, 80.0]]
    assert torch.equal(BLOCK.read(BLOCK.full(batch)), batch)
    assert BLOCK.has_values
    assert not BLOCK.without_values().has_values


def test_entries_know_their_columns_and_experts() -> None:
    assert (BLOCK.num_experts, BLOCK.num_free) == (3, 4)
    assert BLOCK.columns == (0, 1, 0, 1)
    assert BLOCK.experts == ((0, 2), (0,), (1,), (2,))
    assert BLOCK.first_entries().tolist() == [0, 1, 2, 5]
    assert BLOCK.cancelling == ()
    assert CoefficientBlock(((0, 1), (0, 2)), ((0.0, 0.0),) * 2).cancelling == (0,)


def test_a_column_without_fixed_entries_is_relative_to_that_of_the_last_expert() -> None:
    assert BLOCK.references == (0, -1, 0, -1)
    assert BLOCK.pinned().tolist() == [True, False, False, False]
    assert BLOCK.relative(FREE).tolist() == [0.0, 2.0, 3.0, 8.0]
    # the full column 0 is 1, 4, 1, whose mean is 2
    assert BLOCK.centered(FREE).tolist() == [-1.0, 2.0, 2.0, 8.0]


def test_experts_of_each_draw_come_in_their_own_order() -> None:
    pattern = CoefficientPattern.of(3, 2, common=[1])
    free = torch.arange(8.0).reshape(2, 4)  # numbers of slopes: expert 0, common, expert 1, expert 2
    orders = torch.tensor([[2, 0, 1], [1, 0, 2]])
    moved = pattern.slopes.permuted(free, orders)
    assert moved.tolist() == [[3.0, 1.0, 0.0, 2.0], [6.0, 5.0, 4.0, 7.0]]
    vectors = torch.stack([free, free + 10.0], 1)  # two locations
    assert pattern.slopes.permuted(vectors, orders)[:, 1].tolist() == (moved + 10.0).tolist()


def test_blocks_without_free_coefficients_are_left_alone() -> None:
    block = CoefficientBlock(((-1,), (-1,)), ((1.0,), (2.0,)))
    free = torch.zeros(0, dtype=torch.float64)
    assert block.full(free).tolist() == [[1.0], [2.0]]
    assert block.num_free == block.relative(free).numel() == block.centered(free).numel() == 0


@pytest.mark.parametrize(("is_part", "first", "expected"), [(False, 0, "common"), (True, 0, "0+1"), (True, 2, "2+3")])
def test_experts_are_named(is_part: bool, first: int, expected: str) -> None:
    block = CoefficientBlock(((0, 1), (0, 2)), ((0.0, 0.0),) * 2)
    assert block.who(0, first, is_part=is_part) == expected
    assert block.who(1, first, is_part=is_part) == str(first)
    assert block.who(0) == "common"


def test_experts_in_another_order_are_the_same_mixture() -> None:
    pattern = CoefficientPattern.of(3, 2, common=[1], absent={2: [0]})
    draw = {"dtype": torch.float64, "generator": torch.Generator().manual_seed(0)}
    model = MixtureOfExperts(
        constant_gate(3, dtype=torch.float64), GaussianExperts(LinearPredictor(2, 3, pattern=pattern, **draw))
    )
    with torch.no_grad():
        model.gate.score.bias.copy_(torch.tensor([0.3, -0.2, 0.0]))
        model.experts.log_std.copy_(torch.tensor([0.1, 0.2, 0.3]))
    x = torch.randn(5, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = torch.linspace(-1.0, 1.0, 5, dtype=torch.float64)
    swapped, other = copy.deepcopy(model), copy.deepcopy(model)
    reorder_experts(swapped, [1, 0, 2])
    torch.testing.assert_close(swapped.log_prob(x, y), model.log_prob(x, y), rtol=1e-12, atol=1e-12)
    assert swapped.experts.log_std.tolist() == pytest.approx([0.2, 0.1, 0.3])
    reorder_experts(other, [2, 1, 0])  # the pattern does not allow it
    assert not torch.allclose(other.log_prob(x, y), model.log_prob(x, y))


@pytest.mark.parametrize(
    "gate",
    [
        Gate(QueryKeyNormScore(3, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))),
        Gate(
            LinearScore(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)),
            temperature=InputTemperature(3, dtype=torch.float64),
        ),
    ],
    ids=["queries", "temperature"],
)
def test_what_counts_no_experts_keeps_its_order_where_it_has_as_many_rows(gate: Gate) -> None:
    with torch.no_grad():
        for parameter in gate.parameters():
            parameter.add_(torch.linspace(-0.4, 0.5, parameter.numel(), dtype=torch.float64).reshape(parameter.shape))
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    other, order = copy.deepcopy(gate), [2, 0, 1]
    reorder_experts(other, order)
    torch.testing.assert_close(other(x), gate(x)[:, order], rtol=1e-12, atol=1e-12)
    assert not torch.allclose(other(x), gate(x))


def test_orders_that_mean_other_models() -> None:
    draw = {"generator": torch.Generator().manual_seed(0)}
    assert distinct_orders(LinearPredictor(2, 3, **draw), 3) == [[0, 1, 2]]
    alike = LinearPredictor(2, 4, pattern=CoefficientPattern.of(4, 2, absent={2: [0], 3: [0]}), **draw)
    orders = distinct_orders(alike, 4)
    assert orders[0] == [0, 1, 2, 3]
    assert sorted(tuple(sorted(order[:2])) for order in orders) == [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
