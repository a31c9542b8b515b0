"""The contract table: every part of a gate and every named gate, built on D covariates and K experts.

A new score, temperature, selection, normalizer or gate adds one line here and is then held to every contract.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

from mixkit.gates import (
    Gate,
    activation_gate,
    constant_gate,
    dense_to_sparse_gate,
    laplace_gate,
    sigmoid_gate,
    softmax_gate,
    topk_gate,
)
from mixkit.gates.normalizers import (
    Entmax,
    NormalizedSigmoid,
    Sinkhorn,
    Softmax,
    SoftplusL1,
    Sparsemax,
    SphericalSoftmax,
    StableMax,
    TaylorSoftmax,
)
from mixkit.gates.scores import (
    ActivationScore,
    ConstantScore,
    CosineScore,
    DistanceScore,
    LinearScore,
    ModuleScore,
    QuadraticScore,
    QueryKeyNormScore,
)
from mixkit.gates.selections import BiasedTopK, Dense, NoisyTopK, TopKByScore, TopKBySlope
from mixkit.gates.temperatures import FixedTemperature, InputTemperature, LearnableTemperature, ScheduledTemperature
from mixkit.gates.tuned_temperatures import PositionTemperature, TargetEntropyTemperature
from mixkit.schedules import GeometricSchedule

D, K, SELECTED = 3, 4, 2

Build = Callable[..., Any]  # takes batch_shape, dtype


def _module(batch_shape=(), dtype=None):
    with torch.random.fork_rng(devices=[]):
        return ModuleScore(nn.Linear(D, K, dtype=dtype), K, bias=True, batch_shape=batch_shape, dtype=dtype)


SCORES: dict[str, Build] = {
    "linear": lambda **o: LinearScore(D, K, generator=seeded(), **o),
    "linear-no-bias": lambda **o: LinearScore(D, K, bias=False, generator=seeded(), **o),
    "activation": lambda **o: ActivationScore(torch.tanh, D, K, generator=seeded(), **o),
    "quadratic": lambda **o: QuadraticScore(D, K, generator=seeded(), **o),
    "distance": lambda **o: DistanceScore(D, K, generator=seeded(), **o),
    "squared-distance": lambda **o: DistanceScore(D, K, squared=True, generator=seeded(), **o),
    "cosine": lambda **o: CosineScore(D, K, perturbation=(0.1, 0.2), generator=seeded(), **o),
    "cosine-unperturbed": lambda **o: CosineScore(D, K, perturbation=0.0, generator=seeded(), **o),
    "query-key": lambda **o: QueryKeyNormScore(D, K, 2, generator=seeded(), **o),
    "constant": lambda **o: ConstantScore(K, **o),
    "module": _module,
}

TEMPERATURES: dict[str, Build] = {
    "fixed": lambda batch_shape=(), dtype=None: FixedTemperature(0.7),
    "learnable": lambda **o: LearnableTemperature(0.7, **o),
    "scheduled": lambda batch_shape=(), dtype=None: ScheduledTemperature(GeometricSchedule(2.0, 0.5, 0.9), dtype=dtype),
    "input": lambda **o: InputTemperature(D, floor=0.1, **o),
    "position": lambda **o: PositionTemperature(**o),
    "entropy": lambda batch_shape=(), dtype=None: TargetEntropyTemperature(0.5, initial=0.7, dtype=dtype),
}

SELECTIONS: dict[str, Build] = {
    "dense": lambda **o: Dense(),
    "by-score": lambda **o: TopKByScore(SELECTED),
    "by-slope": lambda **o: TopKBySlope(SELECTED),
    "noisy": lambda **o: NoisyTopK(SELECTED, D, K, **o),
    "biased": lambda batch_shape=(), dtype=None: BiasedTopK(SELECTED, K, batch_shape=batch_shape),
    "grouped": lambda batch_shape=(), dtype=None: BiasedTopK(
        SELECTED, K, num_groups=2, num_selected_groups=1, batch_shape=batch_shape
    ),
}

NORMALIZERS: dict[str, Build] = {
    "softmax": lambda **o: Softmax(),
    "sigmoid": lambda **o: NormalizedSigmoid(),
    "softplus": lambda **o: SoftplusL1(),
    "stablemax": lambda **o: StableMax(),
    "spherical": lambda **o: SphericalSoftmax(0.1),
    "taylor": lambda **o: TaylorSoftmax(),
    "sparsemax": lambda **o: Sparsemax(),
    "entmax-1.2": lambda **o: Entmax(1.2),
    "entmax-1.5": lambda **o: Entmax(1.5),
    "sinkhorn": lambda **o: Sinkhorn(5),
}

NAMED_GATES: dict[str, Build] = {
    "softmax_gate": lambda **o: softmax_gate(D, K, generator=seeded(), **o),
    "topk_gate": lambda **o: topk_gate(D, K, SELECTED, generator=seeded(), **o),
    "dense_to_sparse_gate": lambda **o: dense_to_sparse_gate(D, K, generator=seeded(), **o),
    "activation_gate": lambda **o: activation_gate(D, K, activation=torch.tanh, generator=seeded(), **o),
    "sigmoid_gate": lambda **o: sigmoid_gate(D, K, generator=seeded(), **o),
    "laplace_gate": lambda **o: laplace_gate(D, K, generator=seeded(), **o),
    "constant_gate": lambda **o: constant_gate(K, **o),
}


def _compose(score: Build, temperature: Build, selection: Build, normalizer: Build) -> Build:
    return lambda **o: Gate(
        score(**o), temperature=temperature(**o), selection=selection(**o), normalizer=normalizer(**o)
    )


def _composed() -> dict[str, Build]:
    """Every part at least once: all selections with all normalizers, all scores, all temperatures."""
    linear, fixed, by_score, softmax = (
        SCORES["linear"],
        TEMPERATURES["fixed"],
        SELECTIONS["by-score"],
        NORMALIZERS["softmax"],
    )
    gates = {
        f"{s}/{n}": _compose(linear, fixed, SELECTIONS[s], NORMALIZERS[n]) for s in SELECTIONS for n in NORMALIZERS
    }
    gates |= {f"score {name}": _compose(SCORES[name], fixed, by_score, softmax) for name in SCORES}
    gates |= {f"temperature {name}": _compose(linear, TEMPERATURES[name], by_score, softmax) for name in TEMPERATURES}
    return gates


GATES: dict[str, Build] = NAMED_GATES | _composed()
PARTS: dict[str, Build] = SCORES | TEMPERATURES | SELECTIONS | NORMALIZERS


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 1, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> Tensor:
    return scale * torch.randn(shape, generator=seeded(seed), dtype=torch.float64).to(dtype)


@torch.no_grad()
def build(make: Build, batch_shape: tuple[int, ...] = (), dtype: torch.dtype = torch.float64, seed: int = 2) -> Any:
    """Make a part or a gate and give all its parameters and floating buffers values that matter."""
    module = make(batch_shape=batch_shape, dtype=dtype)
    generator = seeded(seed)
    for parameter in module.parameters():
        parameter.copy_(0.7 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    for name, buffer in module.named_buffers():
        if name.endswith("selection_bias"):
            buffer.copy_(0.2 * torch.randn(buffer.shape, generator=generator))
    return module


@torch.no_grad()
def one_of_batch(make: Build, batched: nn.Module, index: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Any:
    """The unbatched module whose parameters and buffers are entry ``index`` of a batched one."""
    single = build(make, dtype=dtype)
    state = batched.state_dict()
    own = single.state_dict()
    single.load_state_dict({n: v if v.shape == own[n].shape else v[index] for n, v in state.items()})
    return single.train(batched.training)


def select(
    selection: Any, scores: Tensor, slope_scores: Tensor | None = None, x: Tensor | None = None, seed=3
) -> Tensor:
    """Call a selection with its noise seeded; covariates default to ones."""
    x = scores.new_ones(*scores.shape[:-1], D) if x is None else x
    slopes = scores if slope_scores is None else slope_scores
    return selection(scores, slope_scores=slopes, x=x, generator=seeded(seed))


def check_derivatives(call: Callable[..., Tensor], leaves: tuple[Tensor, ...]) -> None:
    """First and second derivatives against finite differences, the global random state left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert gradcheck(call, leaves)
        assert gradgradcheck(call, leaves)


def as_function(module: nn.Module, x: Tensor, **arguments: Any) -> tuple[Callable[..., Tensor], tuple[Tensor, ...]]:
    """``module(x)`` as a function of x and all parameters, with leaves to differentiate in."""
    names = [name for name, _ in module.named_parameters()]
    leaves = [x, *(p for _, p in module.named_parameters())]

    def call(x: Tensor, *parameters: Tensor) -> Tensor:
        seeds = {"generator": seeded(3)} if isinstance(module, Gate) else {}
        given = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(module, given, (x,), {**arguments, **seeds})

    return call, tuple(leaf.detach().clone().requires_grad_() for leaf in leaves)
