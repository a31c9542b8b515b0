"""Models and data in unbalanced groups, and the log-likelihood of groups as its formula says, for comparison."""

import torch
from torch import Tensor
from torch.func import functional_call

from estimators.data.dataset import Data, as_data
from mixkit import (
    CategoricalExperts,
    ConstantPredictor,
    GaussianExperts,
    LaplaceExperts,
    LinearPredictor,
    LogNormalExperts,
    MixedExperts,
    MixtureOfExperts,
    NegativeBinomialExperts,
    PointMassExperts,
    PoissonExperts,
    ProductExperts,
    StudentTExperts,
    ZeroInflatedLogNormalExperts,
    constant_gate,
    laplace_gate,
    sigmoid_gate,
    softmax_gate,
)
from mixkit.gates import Gate
from mixkit.gates.scores import LinearScore
from mixkit.gates.temperatures import LearnableTemperature
from mixkit.parameters import CoefficientPattern

from ..models import DTYPE, seeded

SIZES = (1, 4, 2, 7, 1, 3, 12, 3)
LABELS = [f"g{index}" for index, size in enumerate(SIZES) for _ in range(size)]
N, D = len(LABELS), 2


def _predictor(k, seed=1, **settings):
    return LinearPredictor(D, k, dtype=DTYPE, generator=seeded(seed), **settings)


def _atom(k):
    return MixedExperts([PointMassExperts(0.0), LogNormalExperts(_predictor(k - 1), dtype=DTYPE)])


def _counts(k):
    few = PoissonExperts(_predictor(1))
    return MixedExperts([few, NegativeBinomialExperts(_predictor(k - 1, 2), dtype=DTYPE)]) if k > 1 else few


EXPERTS = {
    "gaussian": lambda k: GaussianExperts(_predictor(k), dtype=DTYPE),
    "shared std": lambda k: GaussianExperts(_predictor(k), shared_std=True, dtype=DTYPE),
    "constant": lambda k: GaussianExperts(ConstantPredictor(k, dtype=DTYPE, generator=seeded(1)), dtype=DTYPE),
    "student": lambda k: StudentTExperts(_predictor(k), dtype=DTYPE),
    "poisson": lambda k: PoissonExperts(_predictor(k)),
    "negative binomial": lambda k: NegativeBinomialExperts(_predictor(k), dtype=DTYPE),
    "laplace": lambda k: LaplaceExperts(_predictor(k), dtype=DTYPE),
    "categorical": lambda k: CategoricalExperts(_predictor(k, response_dim=2)),
    "zero-inflated": lambda k: ZeroInflatedLogNormalExperts(_predictor(k, response_dim=2), dtype=DTYPE),
    "atom": _atom,
    "product": lambda k: ProductExperts(
        [GaussianExperts(_predictor(k), dtype=DTYPE), PoissonExperts(_predictor(k, 2))]
    ),
    "counts": _counts,
}
GATES = {
    "softmax": lambda k: softmax_gate(D, k, dtype=DTYPE, generator=seeded(5)),
    "constant": lambda k: constant_gate(k, dtype=DTYPE),
    "sigmoid": lambda k: sigmoid_gate(D, k, dtype=DTYPE, generator=seeded(5)),
    "laplace": lambda k: laplace_gate(D, k, dtype=DTYPE, generator=seeded(5)),
    "temperature": lambda k: Gate(
        LinearScore(D, k, dtype=DTYPE, generator=seeded(5)), temperature=LearnableTemperature(dtype=DTYPE)
    ),
}


def model_of(experts: str, gate: str = "softmax", k: int = 2) -> MixtureOfExperts:
    return MixtureOfExperts(GATES[gate](k), EXPERTS[experts](k))


def patterned_model(experts: str, k: int = 2) -> MixtureOfExperts:
    """The gate reads the first column alone; experts have the second in common, and one does not read the first."""
    gate = CoefficientPattern.of(k, D, columns=[0])
    locations = CoefficientPattern.of(k, D, common=[1], absent={k - 1: [0]})
    score = LinearScore(D, k, pattern=gate, dtype=DTYPE, generator=seeded(5))
    predictor = _predictor(k, pattern=locations)
    families = {
        "gaussian": lambda: GaussianExperts(predictor, dtype=DTYPE),
        "poisson": lambda: PoissonExperts(predictor),
        "counts": lambda: MixedExperts(
            [
                PoissonExperts(_predictor(1, pattern=CoefficientPattern.of(1, D, columns=[1]))),
                NegativeBinomialExperts(_predictor(k - 1, pattern=CoefficientPattern.of(k - 1, D, common=[0]))),
            ]
        ).to(DTYPE),
    }
    return MixtureOfExperts(Gate(score), families[experts]())


def covariates(seed: int = 0, *, is_constant: bool = True, of_gate: bool = False) -> Tensor:
    """``(n, d)``, the same in all rows of a group, or not; ``of_gate``: the first column alone."""
    if of_gate:
        own = covariates(seed + 1, is_constant=False)
        return torch.stack([covariates(seed)[:, 0], own[:, 1]], -1)
    if not is_constant:
        return torch.randn(N, D, generator=seeded(seed), dtype=DTYPE)
    rows = torch.tensor([index for index, size in enumerate(SIZES) for _ in range(size)])
    return torch.randn(len(SIZES), D, generator=seeded(seed), dtype=DTYPE)[rows]


def weights(weights_of: str) -> Tensor:
    per_group = torch.rand(len(SIZES), generator=seeded(7), dtype=DTYPE) + 0.2
    per_row = torch.rand(N, generator=seeded(8), dtype=DTYPE) + 0.2
    rows = torch.tensor([index for index, size in enumerate(SIZES) for _ in range(size)])
    return per_group[rows] if weights_of == "groups" else per_row


def responses(model: MixtureOfExperts, x: Tensor, seed: int = 3) -> Tensor:
    """Of groups, each by one expert that is drawn at its first row."""
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(seed)
        law = model(x)
        drawn = law.components.sample()
        first = torch.tensor([LABELS.index(label) for label in LABELS])
        expert = torch.multinomial(law.log_weights.exp(), 1, generator=seeded(seed + 1))[first]
    return drawn[torch.arange(len(drawn)), expert.squeeze(1)]


def grouped(model: MixtureOfExperts, weights_of: str | None = None, **columns: bool) -> Data:
    x = covariates(**columns)
    weight = None if weights_of is None else weights(weights_of)
    labels = {"groups": LABELS, "weights_of": weights_of or "groups"}
    return as_data(model, x, responses(model, x), weight, is_batch=False, **labels)


def formula(model: MixtureOfExperts, parameters: dict[str, Tensor], data: Data) -> Tensor:
    r""":math:`\sum_u W_u \log \sum_j w_j(x_u) \prod_{i \in u} f_j(y_i \mid x_i)^{v_i}`, group by group."""
    law = functional_call(model, parameters, (data.x[0],))
    densities = law.components.log_prob(data.y[0].unsqueeze(1))
    assert data.units is not None
    total = data.x.new_zeros(())
    for unit in range(data.num_units):
        rows = (data.units.index == unit).nonzero().squeeze(-1)
        power = 1.0 if data.units.power is None else data.units.power[0, rows].unsqueeze(-1)
        weight = 1.0 if data.units.weight is None else data.units.weight[0, unit]
        joint = law.log_weights[rows[0]] + (power * densities[rows]).sum(0)
        total = total + weight * torch.logsumexp(joint, -1)
    return total


PANEL_SIZES = [1 + (7 * index) % 6 for index in range(60)]
PANEL = [f"g{index}" for index, size in enumerate(PANEL_SIZES) for _ in range(size)]


def panel(counts: bool = False, *, is_constant: bool = True) -> tuple[Tensor, Tensor]:
    """Sixty groups of one to six rows, each from one of two experts: ``x (n, 2)``, ``y (n,)``."""
    generator = seeded(11)
    rows = torch.tensor([int(label[1:]) for label in PANEL])
    per_group = torch.randn(60, D, generator=generator, dtype=DTYPE)
    own = torch.randn(len(PANEL), D, generator=generator, dtype=DTYPE)
    x = per_group[rows] if is_constant else own
    is_second = (torch.rand(60, generator=generator, dtype=DTYPE) < torch.sigmoid(per_group[:, 0]))[rows]
    level = torch.where(is_second, 1.0 + 0.5 * x[:, 0], 0.2 - 0.7 * x[:, 0] + 0.3 * x[:, 1])
    if counts:
        return x, torch.poisson(level.exp(), generator=generator)
    return x, level + 0.8 * torch.randn(len(PANEL), generator=generator, dtype=DTYPE)


def panel_weights(weights_of: str) -> Tensor:
    generator = seeded(12)
    rows = torch.tensor([int(label[1:]) for label in PANEL])
    per_group = torch.rand(60, generator=generator, dtype=DTYPE) + 0.2
    return per_group[rows] if weights_of == "groups" else torch.rand(len(PANEL), generator=generator, dtype=DTYPE) + 0.2
