"""Our gates against the routers of transformers: one set of weights, the same logits, weights and indices."""

import pytest
import torch

from mixkit.gates import Gate
from mixkit.losses import load_balance_loss
from mixkit.normalizers import NormalizedSigmoid
from mixkit.scores import LinearScore
from mixkit.selection import BiasedTopK, TopKByScore
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
        routed_scaling_factor=1.0,
    )
    router = theirs(DeepseekV3TopkRouter(config), gate)
    router.e_score_correction_bias.copy_(selection.selection_bias)
    if renormalize:
        assert_same(gate, router, x)
    else:  # theirs are then bare sigmoids; ours are shares of all k sigmoids
        _, weights, indices = router(x)
        total = torch.sigmoid(gate.score(x)).sum(-1, keepdim=True)
        routing = gate.route(x, renormalize=False)
        order = weights.argsort(-1, descending=True)
        torch.testing.assert_close(routing.weights * total, weights.gather(-1, order))
        assert torch.equal(routing.indices, indices.gather(-1, order))
