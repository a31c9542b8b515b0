"""Contracts of every gate, named or composed; routing, load and entropy."""

import copy
import itertools
import math
import pickle

import numpy as np
import pytest
import torch

from mixkit.gates import (
    Gate,
    activation_gate,
    constant_gate,
    dense_to_sparse_gate,
    entropy,
    laplace_gate,
    sigmoid_gate,
    softmax_gate,
    topk_gate,
)
from mixkit.gates.normalizers import NormalizedSigmoid, Softmax, Sparsemax
from mixkit.gates.scores import ConstantScore, LinearScore
from mixkit.gates.selections import BiasedTopK, TopKByScore, TopKBySlope
from mixkit.gates.temperatures import FixedTemperature
from tests.mixkit.gate_table import (
    GATES,
    NAMED_GATES,
    NORMALIZERS,
    SELECTED,
    D,
    K,
    as_function,
    build,
    check_derivatives,
    normal,
    one_of_batch,
    seeded,
)

every_gate = pytest.mark.parametrize("make", GATES.values(), ids=GATES.keys())
every_named_gate = pytest.mark.parametrize("make", NAMED_GATES.values(), ids=NAMED_GATES.keys())
INF = torch.inf


@every_gate
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_weights_sum_to_one_in_the_dtype_of_x_but_float32_at_least(make, dtype):
    gate = build(make, dtype=dtype)
    log_weights = gate(normal(40, D, dtype=dtype), seeded())
    wide = torch.promote_types(dtype, torch.float32)
    assert log_weights.dtype == wide
    assert log_weights.shape == (40, K)
    tolerance = 40 * torch.finfo(wide).eps
    torch.testing.assert_close(
        log_weights.double().exp().sum(-1), torch.ones(40, dtype=torch.float64), rtol=tolerance, atol=tolerance
    )
    assert ((log_weights > -INF).sum(-1) <= gate.num_selected).all()


@pytest.mark.parametrize("selected", [8, 64])
@pytest.mark.parametrize("normalizer", NORMALIZERS.values(), ids=NORMALIZERS.keys())
def test_weights_of_a_router_in_bfloat16_lose_nothing_beside_its_logits(selected, normalizer):
    """As routers in transformers, which take the softmax of their logits in float32."""
    score = LinearScore(32, 64, dtype=torch.bfloat16, generator=seeded())
    with torch.no_grad():
        score.weight.mul_(5)
    gate, x = Gate(score, selection=TopKByScore(selected), normalizer=normalizer()), normal(200, 32).bfloat16()
    for renormalize in (True, False):
        routing = gate.route(x, renormalize=renormalize)
        assert (routing.logits.dtype, routing.weights.dtype) == (torch.bfloat16, torch.float32)
        kept = gate.scores(x)[1] if renormalize else routing.logits
        exact = gate.normalizer(kept.double()).exp().gather(-1, routing.indices)
        torch.testing.assert_close(routing.weights.double(), exact, rtol=2e-5, atol=1e-7)
    torch.testing.assert_close(gate.route(x).weights.sum(-1), torch.ones(200), rtol=0, atol=1e-5)


@every_gate
@pytest.mark.parametrize("shared", [True, False], ids=["shared-x", "own-x"])
def test_a_batch_equals_a_loop(make, shared):
    gate = build(make, batch_shape=(2, 3)).eval()
    x = normal(5, D) if shared else normal(2, 3, 5, D)
    log_weights = gate(x).expand(2, 3, 5, K)
    for index in itertools.product(range(2), range(3)):
        single = one_of_batch(make, gate, index)
        torch.testing.assert_close(log_weights[index], single(x if shared else x[index]))


@every_gate
def test_first_and_second_derivatives(make):
    gate = build(make)
    call, leaves = as_function(gate, normal(3, D))
    check_derivatives(lambda *given: call(*given).exp(), leaves)


@every_gate
def test_the_flag_of_shift_invariance_is_true_to_the_facts(make):
    gate, x = build(make).eval(), normal(60, D)
    if gate.score.bias is None:
        return
    before = gate(x).exp()
    with torch.no_grad():
        gate.score.bias += 1.5
    unchanged = torch.allclose(gate(x).exp(), before, rtol=1e-10)
    assert unchanged or not gate.shift_invariant
    assert not unchanged or gate.shift_invariant or gate.normalizer.shift_invariant


@every_gate
def test_state_dict_pickle_and_copy_keep_the_weights(make):
    gate, x = build(make), normal(5, D)
    other = build(make, seed=9)
    other.load_state_dict(gate.state_dict())
    for twin in (other, pickle.loads(pickle.dumps(gate)), copy.deepcopy(gate)):
        assert torch.equal(twin(x, seeded()), gate(x, seeded()))
        assert repr(twin) == repr(gate)


@every_gate
def test_equal_scores_give_equal_weights_to_the_first_experts(make):
    gate = make(batch_shape=(), dtype=torch.float64).eval()
    with torch.no_grad():
        for parameter in gate.score.parameters():
            parameter.zero_()
    weights = gate(normal(6, D)).exp()
    chosen = torch.arange(K) < gate.num_selected
    torch.testing.assert_close(weights, torch.where(chosen, 1.0 / gate.num_selected, 0.0).double().expand(6, K))


@every_gate
@pytest.mark.parametrize("renormalize", [True, False])
def test_routing_is_the_weights_in_order(make, renormalize):
    gate, x = build(make), normal(30, D)
    routing, log_weights = gate.route(x, seeded(), renormalize=renormalize), gate(x, seeded())
    assert routing.logits.shape == (30, K)
    assert routing.weights.shape == routing.indices.shape == (30, gate.num_selected)
    torch.testing.assert_close(routing.logits, gate.score(x) / gate.temperature(x))
    full = log_weights if renormalize else gate.normalizer(routing.logits)
    torch.testing.assert_close(routing.weights, full.exp().gather(-1, routing.indices))
    in_order = log_weights.gather(-1, routing.indices)
    assert (in_order[:, :-1] >= in_order[:, 1:]).all()
    assert (routing.indices.sort(-1).values.diff(dim=-1) > 0).all()
    kept = gate.scores(x, seeded())[1] > -INF
    assert kept.gather(-1, routing.indices).all()  # selected experts only, even where their weight is zero


def keep_all(values):
    return values


def rows_that_count(gate, x, mask):
    """The rows of x by themselves, and what picks them out of the gate's answer; where places matter all stay."""
    if gate.temperature.depends_on_position:
        return x.nan_to_num(0.0), lambda values: values[..., mask, :]
    return x[:, mask], keep_all


@every_gate
def test_load_selection_rate_and_entropy_are_means_over_the_rows_that_count(make):
    gate, x, mask = build(make, batch_shape=(2,)).eval(), normal(2, 20, D), torch.arange(20) % 3 > 0
    for case in (None, mask, mask.expand(2, 20)):
        rows, pick = (x, keep_all) if case is None else rows_that_count(gate, x, mask)
        weights = pick(gate(rows)).exp().expand(2, -1, K)
        load, rate = gate.load(x, case), gate.selection_rate(x, case)
        torch.testing.assert_close(load.expand(2, K), weights.mean(-2))
        torch.testing.assert_close(load.sum(-1), torch.ones_like(load.sum(-1)))
        kept = (pick(gate.scores(rows)[1]) > -INF).expand(2, -1, K)
        torch.testing.assert_close(rate.expand(2, K), kept.float().mean(-2))
        expected = torch.special.entr(weights).sum(-1).mean(-1)
        torch.testing.assert_close(gate.entropy(x, case).expand(2), expected)


def test_noise_is_drawn_from_the_generator_that_is_given():
    """The fixture of conftest.py sees to it that the global state stays."""
    gate, x, mask = build(GATES["noisy/softmax"]).train(), normal(50, D), torch.arange(50) % 3 > 0
    every = gate(x, seeded(5))
    torch.testing.assert_close(gate.load(x, generator=seeded(5)), every.exp().mean(0))
    torch.testing.assert_close(gate.entropy(x, generator=seeded(5)), entropy(every).mean())
    torch.testing.assert_close(gate.selection_rate(x, generator=seeded(5)), (every > -INF).float().mean(0))
    assert not torch.equal(gate.load(x, generator=seeded(6)), gate.load(x, generator=seeded(5)))
    torch.testing.assert_close(gate.load(x, mask, generator=seeded(5)), every[mask].exp().mean(0))


@every_gate
def test_rows_that_a_mask_leaves_out_have_no_part_in_the_others(make):
    """Sinkhorn's rows share one balance; in all other gates each row is by itself."""
    gate, x, mask = build(make, batch_shape=(2,)).eval(), normal(2, 9, D), torch.arange(9) % 3 > 0
    x[:, ~mask] = torch.nan
    rows, pick = rows_that_count(gate, x, mask)
    alone = pick(gate(rows))
    found = gate(x, mask=mask)
    torch.testing.assert_close(found[..., mask, :].expand(2, -1, K), alone.expand(2, -1, K))
    torch.testing.assert_close(found.exp().sum(-1), torch.ones_like(found[..., 0]))
    for renormalize in (True, False):
        routing = gate.route(x, mask=mask, renormalize=renormalize)
        expected = gate.route(rows, renormalize=renormalize)
        assert torch.equal(routing.indices[..., mask, :], pick(expected.indices))
        torch.testing.assert_close(routing.weights[..., mask, :], pick(expected.weights))
    nobody = gate(x, mask=torch.zeros(9, dtype=torch.bool))
    torch.testing.assert_close(nobody.exp().sum(-1), torch.ones_like(nobody[..., 0]))


@pytest.mark.parametrize("name", ["by-score/softmax", "by-score/sinkhorn"])
def test_padding_may_hold_anything(name):
    gate, x, mask = build(GATES[name]), normal(6, D), torch.arange(6) < 4
    padded = torch.where(mask.unsqueeze(-1), x, torch.nan)
    for measure in (gate.load, gate.selection_rate, gate.entropy):
        assert torch.equal(measure(padded, mask), measure(x, mask))
    gate.entropy(padded, mask).backward()
    assert all(p.grad.isfinite().all() for p in gate.parameters())


def test_the_entropy_has_a_finite_gradient_at_unselected_experts():
    log_weights = torch.tensor([[math.log(0.5), math.log(0.5), -INF]], dtype=torch.float64, requires_grad=True)
    value = entropy(log_weights)
    value.backward()
    assert value.item() == pytest.approx(math.log(2), rel=1e-15)
    torch.testing.assert_close(
        log_weights.grad, torch.tensor([[math.log(2) / 2 - 0.5, math.log(2) / 2 - 0.5, 0.0]]).double()
    )


@every_named_gate
@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_extreme_scores(make, scale):
    gate = build(make)
    with torch.no_grad():
        for parameter in gate.score.parameters():
            parameter *= scale
    x = normal(20, D).requires_grad_()
    log_weights = gate(x)
    assert not log_weights.isnan().any()
    torch.testing.assert_close(log_weights.exp().sum(-1), torch.ones(20, dtype=torch.float64))
    log_weights.exp().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in gate.parameters())
    assert x.grad is None or x.grad.isfinite().all()


@every_gate
def test_an_expert_may_be_switched_off_by_its_bias(make):
    gate, x = build(make).eval(), normal(20, D)
    if gate.score.bias is None:
        return
    with torch.no_grad():
        gate.score.bias[1] = -INF
    if isinstance(gate.selection, BiasedTopK) and gate.selection.num_groups > 1:
        return  # half of its group is left, too few for K = 2
    log_weights = gate(x)
    assert (log_weights[:, 1] == -INF).all()
    log_weights.exp().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in gate.parameters() if p.grad is not None)


@every_gate
def test_bad_covariates_are_named(make):
    gate, x = build(make), normal(5, D)
    x[3, 1] = torch.nan
    with pytest.raises(
        ValueError, match=r"x must be finite, got 1 NaN or infinite entries, the first at index \(3, 1\)"
    ):
        gate(x)
    with pytest.raises(ValueError, match=r"x must have shape \(\*batch, n, d\), got shape \(3,\)"):
        gate(normal(D))
    with pytest.raises(TypeError, match=r"x must be a torch\.Tensor, got ndarray"):
        gate(np.ones((5, D)))


@every_gate
def test_no_rows_are_no_error(make):
    gate, x = build(make), normal(0, D)
    routing = gate.route(x, seeded())
    assert gate(x, seeded()).shape == (0, K)
    assert routing.weights.shape == routing.indices.shape == (0, gate.num_selected)
    assert torch.equal(gate.load(x), torch.zeros(K, dtype=torch.float64))
    gate(x, seeded()).sum().backward()


def test_covariates_whose_sum_overflows_are_fine():
    gate = build(GATES["softmax_gate"], dtype=torch.float16)
    assert gate(torch.full((50, D), 6e4, dtype=torch.float16) * 1e-2).isfinite().all()
    assert torch.full((50, D), 6e2, dtype=torch.float16).sum().isinf()


@pytest.mark.parametrize("num_selected", [K + 1, 100])
def test_selecting_more_than_there_are_is_named(num_selected):
    with pytest.raises(ValueError, match=f"selection must keep at most num_experts=4 experts, got {num_selected}"):
        topk_gate(D, K, num_selected, generator=seeded())


def test_parts_of_a_wrong_kind_are_named():
    with pytest.raises(TypeError, match=r"score must be a mixkit\.gates\.scores\.Score, got Identity"):
        Gate(torch.nn.Identity())
    with pytest.raises(TypeError, match=r"temperature must be a mixkit\.gates\.temperatures\.Temperature, got float"):
        Gate(ConstantScore(K), temperature=0.5)
    with pytest.raises(TypeError, match=r"selection must be a mixkit\.gates\.selections\.Selection, got int"):
        Gate(ConstantScore(K), selection=2)
    with pytest.raises(TypeError, match=r"normalizer must be a mixkit\.gates\.normalizers\.Normalizer, got str"):
        Gate(ConstantScore(K), normalizer="softmax")


@pytest.mark.parametrize("mask", [torch.ones(4, dtype=torch.bool), torch.ones(5, 2, dtype=torch.bool)])
def test_a_mask_of_the_wrong_shape_is_named(mask):
    with pytest.raises(ValueError, match=r"mask must broadcast to shape \(5, ?5?\), got shape"):
        build(GATES["softmax_gate"]).load(normal(5, D), mask)


def test_a_mask_that_is_not_boolean_is_named():
    with pytest.raises(TypeError, match=r"mask must be a boolean tensor, got torch\.float32"):
        build(GATES["softmax_gate"]).entropy(normal(5, D), torch.ones(5))


def test_the_temperature_and_the_length_of_the_weights_are_one_parameter():
    """dF/dtau = -(1/tau) beta . dF/dbeta (arXiv 2401.13875), the interaction that slows estimation."""
    gate = build(NAMED_GATES["dense_to_sparse_gate"])
    loss = (gate(normal(30, D)).exp() * normal(30, K, seed=5)).sum()
    parts = [gate.temperature.log_temperature, gate.score.weight, gate.score.bias]
    by_log_temperature, by_weight, by_bias = torch.autograd.grad(loss, parts)
    interaction = -(by_weight * gate.score.weight).sum() - (by_bias * gate.score.bias).sum()
    torch.testing.assert_close(by_log_temperature, interaction)


def test_the_bias_of_the_selection_stays_out_of_the_weights():
    score, x = build(GATES["softmax_gate"]).score, normal(50, D)
    plain = Gate(score, selection=TopKByScore(SELECTED), normalizer=NormalizedSigmoid())
    biased = Gate(score, selection=BiasedTopK(SELECTED, K), normalizer=NormalizedSigmoid())
    assert torch.equal(plain(x), biased(x))
    biased.selection.selection_bias.copy_(torch.tensor([9.0, 9.0, 0.0, 0.0]))
    first_two = torch.log_softmax(torch.nn.functional.logsigmoid(score(x)[:, :2]), -1)
    torch.testing.assert_close(biased(x)[:, :2], first_two)


def test_one_selected_expert_learns_through_unnormalized_weights_only():
    gate, x = build(GATES["softmax_gate"]), normal(20, D)
    gate = Gate(gate.score, selection=TopKBySlope(1))
    for renormalize, learns in ((True, False), (False, True)):
        gate.zero_grad()
        gate.route(x, renormalize=renormalize).weights.square().sum().backward()
        assert bool((gate.score.weight.grad != 0).any()) is learns


LINKS = {"sigmoid": torch.sigmoid, "softplus": torch.nn.functional.softplus}


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("renormalize", [True, False])
def test_bare_weights_are_the_links_of_the_scores(name, renormalize):
    gate, x = build(GATES[f"biased/{name}"]), normal(20, D)
    routing = gate.route(x, bare=True, renormalize=renormalize, scale=2.5)
    expected = 2.5 * LINKS[name](routing.logits).gather(-1, routing.indices)
    torch.testing.assert_close(routing.weights, expected)
    assert torch.equal(routing.indices, gate.route(x).indices)
    torch.testing.assert_close(gate.route(x, scale=2.5).weights, 2.5 * gate.route(x).weights)
    gate.score.bias.data[1] = -INF
    dense = Gate(gate.score, normalizer=gate.normalizer).route(x, bare=True)
    assert (dense.weights[:, -1] == 0).all()
    assert (dense.indices[:, -1] == 1).all()


def test_bare_weights_are_asked_of_links_alone():
    gate, x = build(GATES["topk_gate"]), normal(2, D)
    with pytest.raises(ValueError, match="bare must be False unless the normalizer divides links by their sum, got"):
        gate.route(x, bare=True)
    for scale in (0.0, -1.0, INF):
        with pytest.raises(ValueError, match="scale must be positive"):
            gate.route(x, scale=scale)


def test_selected_experts_of_weight_zero_are_listed_before_unselected_ones():
    score = ConstantScore(4, dtype=torch.float64)
    with torch.no_grad():
        score.bias.copy_(torch.tensor([0.0, -1.0, 5.0, 1.0]))
    gate = Gate(score, selection=TopKByScore(2), normalizer=Sparsemax())
    routing = gate.route(torch.zeros(1, 1, dtype=torch.float64))
    assert routing.indices.tolist() == [[2, 3]]
    assert routing.weights.tolist() == [[1.0, 0.0]]


def test_permuted_parameters_permute_the_weights():
    gate, x, order = build(GATES["topk_gate"]), normal(20, D), torch.tensor([2, 0, 3, 1])
    before = gate(x)
    gate.load_state_dict({name: value[order] for name, value in gate.state_dict().items()})
    torch.testing.assert_close(gate(x), before[:, order])


def test_a_compiled_gate_gives_the_same_weights():
    gate, x = build(GATES["topk_gate"]), normal(20, D)
    torch.testing.assert_close(torch.compile(gate, backend="aot_eager")(x), gate(x))


@every_gate
def test_the_device_follows(make):
    """The meta device has no values: anything made on another device on the way would raise."""
    gate = build(make).eval().to("meta")
    x = normal(5, D).to("meta")
    routing = gate.route(x, renormalize=False)
    results = (gate(x), gate.load(x), gate.selection_rate(x), gate.entropy(x), *routing)
    assert all(result.is_meta for result in results)


def test_per_model_gradients_by_vmap():
    gate, x = build(GATES["topk_gate"]), normal(5, D)
    parameters = {name: p.detach().expand(3, *p.shape).clone() for name, p in gate.named_parameters()}
    call = torch.vmap(lambda p, rows: torch.func.functional_call(gate, p, (rows,)), in_dims=(0, None))
    torch.testing.assert_close(call(parameters, x), gate(x).expand(3, 5, K))


@every_named_gate
def test_named_gates_take_the_same_options(make):
    gate = make(batch_shape=(2, 3), dtype=torch.float64)
    assert {p.dtype for p in gate.parameters()} == {torch.float64}
    assert all(p.shape[:2] == (2, 3) for p in gate.parameters())


def test_a_gate_without_bias():
    for gate in (
        softmax_gate(D, K, bias=False, generator=seeded()),
        laplace_gate(D, K, bias=False, generator=seeded()),
    ):
        assert gate.score.bias is None


@pytest.mark.parametrize("make", [activation_gate, dense_to_sparse_gate])
def test_the_temperature_of_a_named_gate_may_be_given(make):
    gate = make(D, K, temperature=FixedTemperature(0.5), generator=seeded())
    assert gate.temperature.value == 0.5


def test_the_start_is_the_generators():
    for make in (softmax_gate, sigmoid_gate, laplace_gate):
        first, second = (make(D, K, generator=seeded(5)).state_dict() for _ in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_constant_gate_starts_equal():
    assert torch.equal(constant_gate(4)(torch.zeros(3, 1)).exp(), torch.full((3, 4), 0.25))


def test_the_repr_shows_the_parts():
    text = repr(topk_gate(D, K, SELECTED, generator=seeded()))
    for part in ("LinearScore(num_features=3, num_experts=4, bias=True)", "TopKBySlope(num_selected=2)", "Softmax()"):
        assert part in text
    assert isinstance(topk_gate(D, K, SELECTED, generator=seeded()).normalizer, Softmax)
