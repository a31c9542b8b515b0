"""Our gates against the routers of transformers: one set of weights, the same logits, weights and indices."""

import pytest
import torch

from mixkit.gates import Gate
from mixkit.gates.normalizers import NormalizedSigmoid
from mixkit.gates.router_losses import load_balance_loss
from mixkit.gates.scores import LinearScore
from mixkit.gates.selections import BiasedTopK, TopKByScore
from tests.mixkit.gate_table import normal, seeded

pytest.importorskip("transformers")
D, K, SELECTED, N = 8, 12, 3, 200
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def ours(selection, normalizer=None):
    score = LinearScore(D, K, bias=False, generator=seeded())
    with torch.no_grad():
        score.weight.copy_(normal(K, D))
    return Gate(score, selection=selection, normalizer=normalizer)


def theirs(router, gate):
    with torch.no_grad():
        router.weight.copy_(gate.score.weight)
    return router


def assert_same(gate, router, x, **options):
    routing, (logits, weights, indices) = gate.route(x, **options), router(x)
    order = weights.argsort(-1, descending=True)
    torch.testing.assert_close(routing.logits, logits)
    torch.testing.assert_close(routing.weights, weights.gather(-1, order))
    assert torch.equal(routing.indices, indices.gather(-1, order))


def test_mixtral():
    from transformers.models.mixtral.modeling_mixtral import MixtralConfig, MixtralTopKRouter, load_balancing_loss_func

    gate, x = ours(TopKByScore(SELECTED)), normal(N, D, dtype=torch.float32)
    config = MixtralConfig(hidden_size=D, num_local_experts=K, num_experts_per_tok=SELECTED)
    assert_same(gate, theirs(MixtralTopKRouter(config), gate), x)
    routing, mask = gate.route(x), torch.arange(N) % 5 > 0
    for rows in (None, mask):
        loss = load_balance_loss(gate.normalizer(routing.logits), routing.indices, rows)
        attention = None if rows is None else rows.long().unsqueeze(0)
        expected = load_balancing_loss_func((routing.logits,), K, SELECTED, attention)
        torch.testing.assert_close(SELECTED * loss, expected)  # theirs counts K selections a token as K tokens


@pytest.mark.parametrize("num_selected_groups", [1, 2, 4])
@pytest.mark.parametrize("renormalize", [True, False])
def test_deepseek(num_selected_groups, renormalize):
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Config, DeepseekV3TopkRouter

    selection = BiasedTopK(SELECTED, K, num_groups=4, num_selected_groups=num_selected_groups)
    selection.selection_bias.copy_(normal(K, seed=3, scale=0.2).abs())
    gate, x = ours(selection, NormalizedSigmoid()), normal(N, D, dtype=torch.float32)
    config = DeepseekV3Config(
        hidden_size=D,
        n_routed_experts=K,
        num_experts_per_tok=SELECTED,
        n_group=4,
        topk_group=num_selected_groups,
        norm_topk_prob=renormalize,
        routed_scaling_factor=2.5,
    )
    router = theirs(DeepseekV3TopkRouter(config), gate)
    router.e_score_correction_bias.copy_(selection.selection_bias)
    assert_same(gate, router, x, bare=not renormalize, scale=2.5)
    sigmoids, rows = torch.sigmoid(gate.score(x)), gate.route(x, renormalize=False)  # shares of all k sigmoids
    torch.testing.assert_close(rows.weights, (sigmoids / sigmoids.sum(-1, keepdim=True)).gather(-1, rows.indices))


@pytest.mark.parametrize("num_selected_groups", [None, 1, 2])
def test_deepseek_v2(num_selected_groups):
    from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Config, DeepseekV2TopkRouter

    greedy = num_selected_groups is None
    groups = {} if greedy else {"num_groups": 4, "num_selected_groups": num_selected_groups, "merit_size": 1}
    selection = TopKByScore(SELECTED) if greedy else BiasedTopK(SELECTED, K, affinity=torch.nn.Identity(), **groups)
    gate, x = ours(selection), normal(N, D, dtype=torch.float32)
    config = DeepseekV2Config(
        hidden_size=D,
        num_attention_heads=1,
        n_routed_experts=K,
        num_experts_per_tok=SELECTED,
        n_group=4,
        topk_group=num_selected_groups,
        topk_method="greedy" if greedy else "group_limited_greedy",
        routed_scaling_factor=16.0,
    )
    config.num_experts = K
    assert_same(gate, theirs(DeepseekV2TopkRouter(config), gate), x, renormalize=False, scale=16.0)
