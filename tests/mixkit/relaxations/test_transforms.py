"""Forward mode, compilation in one graph, export and made-up tensors, for every relaxation, normalizer and gate."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import jvp

from mixkit.gates import softmax_gate, topk_gate
from mixkit.gates.normalizers import Entmax, NormalizedSigmoid, Sinkhorn, Softmax, SoftplusL1, Sparsemax, StableMax
from mixkit.relaxations import (
    ExponentialFamilySubset,
    LogRelaxedOneHot,
    SoftTopK,
    StraightThrough,
    harden,
    ordered_log_prob,
    subset_log_marginals,
    subset_log_partition,
    subset_log_prob,
    successive_softmax,
)
from tests.mixkit.relaxations.sampler_table import PATHS, K

FIRST_TWO = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0, 0.0])


def _seeded():
    return {"generator": torch.Generator().manual_seed(0)}


DETERMINISTIC = {
    "harden": lambda q: harden(q.log_softmax(-1)),
    "soft_top_k": lambda q: SoftTopK(0.5)(q, 2),
    "successive_softmax": lambda q: successive_softmax(q, 2, 0.5),
    "marginals": lambda q: subset_log_marginals(q, 2),
    "partition": lambda q: subset_log_partition(q, 2),
    "plackett_luce_sets": lambda q: subset_log_prob(q, FIRST_TWO.expand(q.shape), 2),
    "orders": lambda q: ordered_log_prob(q, torch.tensor([2, 0]).expand(*q.shape[:-1], 2)),
    "entropy": lambda q: ExponentialFamilySubset(2, q, validate_args=False).entropy(),
    "density": lambda q: LogRelaxedOneHot(0.5, logits=q, validate_args=False).log_prob(torch.full((K,), 1 / K).log()),
    "softmax": Softmax(),
    "sigmoid": NormalizedSigmoid(),
    "softplus": SoftplusL1(),
    "stablemax": StableMax(),
    "sparsemax": Sparsemax(),
    "entmax-1.2": Entmax(1.2),
    "entmax-1.5": Entmax(1.5),
    "sinkhorn": Sinkhorn(3),
    "softmax_gate": softmax_gate(K, 4, **_seeded()),
    "topk_gate": topk_gate(K, 4, 2, **_seeded()),
}
ALL = {**DETERMINISTIC, **PATHS}
NO_FORWARD_MODE = {"implicit_mle"}  # its gradient is a difference along the loss's, the product with no matrix

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*:UserWarning"),  # the compiler's own
    pytest.mark.filterwarnings("ignore:.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning"),
]
some = pytest.mark.parametrize("name", ["harden", "marginals", "entmax-1.5", "topk_gate"])


def logits():
    return torch.randn(4, K, generator=torch.Generator().manual_seed(1))


def finite(value):
    return torch.where(value.isfinite(), value, 0.0)


@pytest.fixture
def forked():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("name", sorted(set(ALL) - NO_FORWARD_MODE))
def test_forward_mode_agrees_with_reverse_mode(name, forked):
    """<w, J v> both ways, the noise the same."""
    function, x = ALL[name], logits()
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    torch.manual_seed(3)
    value, tangent = jvp(function, (x,), (v,))
    w = torch.randn(value.shape, generator=torch.Generator().manual_seed(4)) * value.isfinite()
    torch.manual_seed(3)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((finite(function(leaf)) * w).sum(), leaf)
    torch.testing.assert_close((finite(tangent) * w).sum(), (gradient * v).sum(), rtol=1e-4, atol=1e-5)


def test_what_has_no_forward_mode_says_so(forked):
    with pytest.raises(NotImplementedError, match="jvp"):
        jvp(PATHS["implicit_mle"], (logits(),), (logits(),))


@pytest.mark.parametrize("name", ALL)
def test_compiles_in_one_graph(name, forked):
    torch.compiler.reset()
    compiled = torch.compile(ALL[name], backend="eager", fullgraph=True)
    value = compiled(logits())
    assert not value.isnan().any()
    if name in DETERMINISTIC:
        torch.testing.assert_close(value, ALL[name](logits()))


@some
def test_compiled_derivatives_are_those_of_the_plain_call(name):
    torch.compiler.reset()
    function, x = DETERMINISTIC[name], logits()

    def forward_mode(q):
        return jvp(function, (q,), (torch.arange(float(K)).expand(q.shape),))[1]

    expected = forward_mode(x)
    assert finite(expected).abs().sum() > 0
    torch.testing.assert_close(torch.compile(forward_mode, backend="aot_eager", fullgraph=True)(x), expected)
    gradients = []
    for call in (function, torch.compile(function, backend="aot_eager", fullgraph=True)):
        leaf = x.clone().requires_grad_()
        finite(call(leaf)).square().sum().backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("draw", ["reinmax", "reinmax_tempered", "straight_through", "simple"])
def test_compiled_estimators_are_hard_with_a_gradient(draw, forked):
    torch.compiler.reset()
    leaf = logits().requires_grad_()
    value = torch.compile(PATHS[draw], backend="aot_eager", fullgraph=True)(leaf)
    assert ((value == 0) | (value == 1)).all()
    (value * torch.arange(float(K))).sum().backward()
    assert (leaf.grad.abs().sum(-1) > 0).all()


@pytest.mark.parametrize("alpha", [1.1, 1.5, 2.0])
def test_the_compiled_entmax_holds_to_second_order(alpha):
    torch.compiler.reset()
    x = torch.randn(3, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    plain = Entmax(alpha)

    def hessian_product(function):
        def loss(q):
            return function(q).exp().square().sum()

        return jvp(torch.func.grad(loss), (x,), (torch.ones_like(x).cumsum(-1),))[1]

    compiled = torch.compile(lambda q: plain(q), backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), plain(x), rtol=1e-12, atol=1e-12)
    expected = hessian_product(plain)
    found = torch.compile(lambda: hessian_product(plain), backend="eager", fullgraph=True)()
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


class _Module(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, logits):
        return self.function(logits)


@pytest.mark.parametrize("name", ALL)
def test_exports(name, forked):
    program = torch.export.export(_Module(ALL[name]), (logits(),))
    assert program.module()(logits()).shape == ALL[name](logits()).shape


@pytest.mark.parametrize("name", ALL)
def test_made_up_tensors_have_the_right_shape(name, forked):
    function = ALL[name]
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        made_up = function(mode.from_tensor(logits()))
    assert made_up.shape == function(logits()).shape
    assert made_up.dtype == torch.float32


def test_a_compiled_straight_through_keeps_the_bits(forked):
    torch.compiler.reset()
    value = torch.compile(StraightThrough(), backend="eager", fullgraph=True)(logits() * 1e4)
    assert torch.equal(value.sum(-1), torch.ones(4))
