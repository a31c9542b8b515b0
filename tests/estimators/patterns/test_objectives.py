"""Log-likelihoods of patterned models: exact derivatives, round trips, EM steps that never lower them."""

import itertools

import pytest
import torch
from torch.func import functional_call

from estimators.data.dataset import as_data
from estimators.objectives.autograd import AutogradObjective
from estimators.objectives.choose import make_objective
from estimators.objectives.multi_location.objective import MultiLinearObjective
from estimators.objectives.smooth_gate.objective import SmoothGateObjective
from estimators.objectives.softmax_gate.objective import LinearObjective
from estimators.optimizers.em_iterations import em_iterations
from estimators.optimizers.objective import Objective
from mixkit.gates import Gate
from mixkit.gates.normalizers import NormalizedSigmoid
from mixkit.gates.scores import LinearScore
from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import CoefficientPattern

from .cases import GATES, LOCATION_FAMILIES, MULTI_FAMILIES, PATTERNS, D, built, covariates, responses, settings

NONE = torch.zeros(D, dtype=torch.bool)
CELLS = [(pattern, gate) for pattern in PATTERNS for gate in GATES if (pattern, gate) != ("own", "own")]
FAMILIES = LOCATION_FAMILIES | MULTI_FAMILIES
SOME = [("known", "known"), ("pairs", "pairs"), ("common", "column"), ("no intercept", "own")]
EVERY = [(name, *cell) for name in FAMILIES for cell in (CELLS if name in ("gaussian", "categorical") else SOME)]


def objective_of(model: MixtureOfExperts, kind: str) -> tuple[Objective, torch.Tensor, torch.Tensor]:
    x, y = covariates(), responses(kind)
    data = as_data(model, x, y, torch.linspace(0.5, 2.0, len(y)), is_batch=False)
    return make_objective(model, data, 1e-6, NONE), x, y


def weighted_log_prob(model: MixtureOfExperts, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (torch.linspace(0.5, 2.0, len(y)).double() * model.log_prob(x, y)).sum()


@pytest.mark.parametrize(("name", "pattern", "gate"), EVERY)
def test_derivatives_are_those_of_the_module(name: str, pattern: str, gate: str) -> None:
    family, kind = FAMILIES[name]
    model = built(family, pattern, gate)
    objective, x, y = objective_of(model, kind)
    assert isinstance(objective, LinearObjective if name in LOCATION_FAMILIES else MultiLinearObjective)
    theta = objective.read(model)

    def value(vector: torch.Tensor) -> torch.Tensor:
        law = functional_call(model, objective.parameters(vector), (x,))
        return (torch.linspace(0.5, 2.0, len(y)).double() * law.log_prob(y)).sum()

    at = objective.evaluate(theta)
    expected = weighted_log_prob(model, x, y)
    torch.testing.assert_close(at.value[0, 0], expected, rtol=1e-11, atol=0.0)
    torch.testing.assert_close(objective.value(theta)[0, 0], expected, rtol=1e-11, atol=0.0)
    gradient = torch.autograd.functional.jacobian(value, theta[0, 0])
    torch.testing.assert_close(at.gradient[0, 0], gradient, rtol=1e-9, atol=1e-9 * float(gradient.abs().max()))
    torch.testing.assert_close(objective.scores(theta[0, 0]).sum(0), gradient, rtol=1e-9, atol=1e-8)
    if name != "laplace":  # its curvature is the expected one
        hessian = torch.autograd.functional.hessian(value, theta[0, 0])
        torch.testing.assert_close(at.hessian[0, 0], hessian, rtol=1e-9, atol=1e-10 * float(hessian.abs().max()))


@pytest.mark.parametrize(("pattern", "gate"), CELLS)
@pytest.mark.parametrize("name", ["gaussian"])
def test_derivatives_behind_a_smooth_gate_are_those_of_autograd(name: str, pattern: str, gate: str) -> None:
    family, kind = LOCATION_FAMILIES[name]
    model = built(family, pattern, gate, NormalizedSigmoid())
    objective, x, y = objective_of(model, kind)
    assert isinstance(objective, SmoothGateObjective)
    theta = objective.read(model)
    at, expected = objective.evaluate(theta), AutogradObjective.evaluate(objective, theta)
    for one, other in zip(at, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10 * float(other.abs().max()))
    torch.testing.assert_close(at.value[0, 0], weighted_log_prob(model, x, y), rtol=1e-11, atol=0.0)


@pytest.mark.parametrize(("name", "pattern", "gate"), EVERY)
def test_vectors_are_written_and_read_back_and_named_as_by_autograd(name: str, pattern: str, gate: str) -> None:
    family, kind = FAMILIES[name]
    model = built(family, pattern, gate)
    objective, x, y = objective_of(model, kind)
    theta = objective.read(model)
    expected = weighted_log_prob(model, x, y)
    objective.write(theta[0, 0], model)
    torch.testing.assert_close(weighted_log_prob(model, x, y), expected, rtol=1e-11, atol=0.0)
    torch.testing.assert_close(objective.read(model), theta, rtol=1e-9, atol=1e-9)
    plain = AutogradObjective(model, objective.data, variance_floor=1e-6)
    assert sorted(plain.user_map().names) == sorted(objective.user_map().names)
    users = dict(zip(plain.user_map().names, plain.user_map().values(plain.read(model)[0, 0]).tolist(), strict=True))
    own = objective.user_map()
    found = dict(zip(own.names, own.values(theta[0, 0]).tolist(), strict=True))
    assert found == pytest.approx(users, rel=1e-8, abs=1e-9)


@pytest.mark.parametrize(("name", "pattern", "gate"), EVERY)
def test_no_em_iteration_lowers_the_likelihood(name: str, pattern: str, gate: str) -> None:
    family, kind = FAMILIES[name]
    model = built(family, pattern, gate)
    objective, _, _ = objective_of(model, kind)
    generator = torch.Generator().manual_seed(4)
    guesses = torch.rand(1, 3, model.num_experts, len(covariates()), generator=generator, dtype=torch.float64)
    values: list[torch.Tensor] = []
    start = objective.from_responsibilities(guesses / guesses.sum(2, keepdim=True))
    em_iterations(objective, start, 8, relative_tol=0.0, callback=values.append)
    for before, after in itertools.pairwise(values):
        assert bool((after >= before - 1e-9 * before.abs()).all())


@pytest.mark.parametrize("pattern", [name for name in PATTERNS if name != "own"])
@pytest.mark.parametrize("name", ["gaussian", "gaussian, one std"])
def test_the_experts_step_alone_never_lowers_the_likelihood(name: str, pattern: str) -> None:
    """With different variances common coefficients and variances are maximized in turn, which is an ECM step."""
    family, kind = LOCATION_FAMILIES[name]
    model = built(family, pattern, "own")
    objective, _, _ = objective_of(model, kind)
    theta = objective.read(model)
    for _ in range(10):
        value, candidate = objective.em_step(theta)
        theta = objective.damped_m_step(theta, candidate, 0.0)  # the gate stays
        assert float(objective.value(theta)) >= float(value) - 1e-9 * abs(float(value))


def drawn_pattern(generator: torch.Generator, k: int = 3, d: int = D) -> CoefficientPattern:
    """A pattern by chance: each entry is fixed, absent, or one of at most k free coefficients of its column."""
    groups = torch.randint(0, k, (k, d + 1), generator=generator)
    kinds = torch.rand((k, d + 1), generator=generator, dtype=torch.float64)
    known = torch.randn((k, d + 1), generator=generator, dtype=torch.float64)
    numbers: dict[tuple[int, int], int] = {}
    index = [
        [-1 if kinds[j, c] < 0.3 else numbers.setdefault((int(groups[j, c]), c), len(numbers)) for c in range(d + 1)]
        for j in range(k)
    ]
    fixed = [[float(0.1 * known[j, c]) if kinds[j, c] < 0.15 else 0.0 for c in range(d + 1)] for j in range(k)]
    return CoefficientPattern(tuple(map(tuple, index)), tuple(map(tuple, fixed)))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["gaussian", "poisson", "categorical"])
def test_derivatives_are_exact_for_patterns_by_chance(name: str, seed: int) -> None:
    """Gates of chance may have a column that cancels in a softmax: those are drawn again."""
    generator = torch.Generator().manual_seed(seed)
    family, kind = FAMILIES[name]
    experts, gate = family(drawn_pattern(generator)), drawn_pattern(generator)
    while gate.slopes.cancelling or gate.intercepts.cancelling:
        gate = drawn_pattern(generator)
    model = MixtureOfExperts(Gate(LinearScore(D, 3, pattern=gate, **settings())), experts)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.05)
    objective, x, y = objective_of(model, kind)
    theta = objective.read(model)

    def value(vector: torch.Tensor) -> torch.Tensor:
        law = functional_call(model, objective.parameters(vector), (x,))
        return (torch.linspace(0.5, 2.0, len(y)).double() * law.log_prob(y)).sum()

    at = objective.evaluate(theta)
    torch.testing.assert_close(at.value[0, 0], weighted_log_prob(model, x, y), rtol=1e-10, atol=0.0)
    gradient = torch.autograd.functional.jacobian(value, theta[0, 0])
    hessian = torch.autograd.functional.hessian(value, theta[0, 0])
    torch.testing.assert_close(at.gradient[0, 0], gradient, rtol=1e-8, atol=1e-9 * float(gradient.abs().max()))
    torch.testing.assert_close(at.hessian[0, 0], hessian, rtol=1e-8, atol=1e-9 * float(hessian.abs().max()))
