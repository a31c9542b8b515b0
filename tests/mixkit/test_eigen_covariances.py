"""The fourteen covariances of mclust."""

import pytest
import torch

from mixkit.experts import covariance_by_name, covariance_names
from mixkit.experts.rotations import rotation_from_angles, rotation_to_angles
from mixkit.parameters import free_mask, module_records
from tests.mixkit.gate_table import check_derivatives, normal, seeded

K = 3
EIGEN = ("VEI", "EVI", "VEE", "EVE", "VVE", "EEV", "VEV", "EVV")


def orientations(p):
    return p * (p - 1) // 2


COUNTS = {  # of K experts in p dimensions, as mclust's manual of its models counts them
    "EII": lambda p: 1,
    "VII": lambda p: K,
    "EEI": lambda p: p,
    "VEI": lambda p: K + p - 1,
    "EVI": lambda p: 1 + K * (p - 1),
    "VVI": lambda p: K * p,
    "EEE": lambda p: p + orientations(p),
    "VEE": lambda p: K + p - 1 + orientations(p),
    "EVE": lambda p: 1 + K * (p - 1) + orientations(p),
    "VVE": lambda p: K * p + orientations(p),
    "EEV": lambda p: p + K * orientations(p),
    "VEV": lambda p: K + p - 1 + K * orientations(p),
    "EVV": lambda p: 1 + K * (p - 1) + K * orientations(p),
    "VVV": lambda p: K * (p + orientations(p)),
}


@torch.no_grad()
def built(name, p, seed=1):
    """A covariance of moderate random parameters."""
    covariance = covariance_by_name(name, K, p, dtype=torch.float64)
    for i, parameter in enumerate(covariance.parameters()):
        parameter.copy_(0.5 * normal(*parameter.shape, seed=seed + i))
    return covariance


def matrices(covariance, p):
    tril = covariance.scale_tril()
    return (tril @ tril.mT).expand(K, p, p)


def scatters(p, seed=0):
    residual = normal(K, 40, p, seed=seed) @ normal(K, p, p, seed=seed + 1)
    weight = 10.0 + 50.0 * torch.rand(K, dtype=torch.float64, generator=seeded(seed + 2))
    return residual.mT @ residual * weight[:, None, None] / 40, weight


def loss(covariance, scatter, weight):
    sigma = matrices(covariance, scatter.shape[-1])
    return (weight * torch.logdet(sigma)).sum() + (torch.linalg.inv(sigma) * scatter).sum()


def test_the_table_is_that_of_mclust():
    assert covariance_names() == tuple(COUNTS)


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("p", [1, 2, 3, 4])
def test_numbers_of_parameters_are_mclusts(name, p):
    covariance = covariance_by_name(name, K, p)
    parameters = dict(covariance.named_parameters())
    masks = [free_mask(record, parameters[record.name]) for record in module_records(covariance)]
    assert sum(int(mask.sum()) for mask in masks) == COUNTS[name](p)


@pytest.mark.parametrize("name", EIGEN)
@pytest.mark.parametrize("p", [1, 2, 3])
def test_experts_share_what_the_letters_say(name, p):
    covariance = built(name, p)
    volume, shape, orientation = name
    sigma = matrices(covariance, p).detach()
    values = torch.linalg.eigvalsh(sigma)
    sizes = values.log().mean(-1)
    assert bool((sizes.diff().abs() < 1e-10).all()) == (volume == "E")
    shapes = values.log() - sizes.unsqueeze(-1)
    if p > 1:
        assert bool((shapes.diff(dim=0).abs() < 1e-10).all()) == (shape == "E")
        product = sigma[0] @ sigma[1]
        assert bool(((product - product.mT).abs() < 1e-10).all()) == (orientation != "V")  # they commute
        assert bool((sigma[0].tril(-1).abs() < 1e-10).all()) == (orientation == "I")


@pytest.mark.parametrize("name", EIGEN)
@pytest.mark.parametrize("p", [1, 2, 4])
def test_updates_never_lower_the_likelihood_and_end_where_its_gradient_vanishes(name, p):
    scatter, weight = scatters(p)
    for seed in (1, 5):
        covariance = built(name, p, seed)
        before = loss(covariance, scatter, weight).item()
        for _ in range(3):
            covariance.update(scatter, weight, 1e-12)
            after = loss(covariance, scatter, weight)
            assert after.item() <= before + 1e-9 * abs(before)
            before = after.item()
        for gradient in torch.autograd.grad(after, list(covariance.parameters())):
            assert gradient.abs().max() < 1e-4 * weight.sum()


@pytest.mark.parametrize("name", EIGEN)
def test_scatters_of_the_model_are_reproduced(name):
    """The scatter of a member of the model has that member as its maximum."""
    truth, weight = built(name, 3), torch.tensor([20.0, 30.0, 50.0], dtype=torch.float64)
    sigma = matrices(truth, 3).detach()
    found = covariance_by_name(name, K, 3, dtype=torch.float64)
    found.update(sigma * weight[:, None, None], weight, 1e-12)
    torch.testing.assert_close(matrices(found, 3), sigma, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", EIGEN)
def test_updates_of_a_batch_are_those_of_each_and_keep_the_floor(name):
    both = [scatters(2, seed) for seed in (0, 7)]
    together = covariance_by_name(name, K, 2, batch_shape=(2,), dtype=torch.float64)
    together.update(torch.stack([one[0] for one in both]), torch.stack([one[1] for one in both]), 1e-9)
    for index, (scatter, weight) in enumerate(both):
        alone = covariance_by_name(name, K, 2, dtype=torch.float64)
        alone.update(scatter, weight, 1e-9)
        torch.testing.assert_close(together.scale_tril()[index], alone.scale_tril(), rtol=1e-9, atol=1e-9)
    line = torch.tensor([[1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    alone.update(torch.stack([line, 0 * line, line]), torch.tensor([1.0, 0.0, 2.0]).double(), 0.01)
    assert torch.linalg.eigvalsh(matrices(alone, 2)).min() > 1e-3
    assert matrices(alone, 2).isfinite().all()


@pytest.mark.parametrize("name", ["VEI", "EVE", "VEV"])
def test_first_and_second_derivatives_of_the_factors(name):
    covariance = built(name, 3)
    names = [key for key, _ in covariance.named_parameters()]

    def factors(*values):
        return torch.func.functional_call(covariance_of, dict(zip(names, values, strict=True)), ())

    covariance_of, names = _Factors(covariance), [f"part.{name}" for name in names]
    check_derivatives(factors, tuple(p.detach().clone().requires_grad_() for p in covariance.parameters()))


class _Factors(torch.nn.Module):
    def __init__(self, part):
        super().__init__()
        self.part = part

    def forward(self):
        return self.part.scale_tril()


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_angles_give_their_rotation_again(size):
    made = rotation_from_angles(3.0 * normal(20, size * (size - 1) // 2, seed=size), size)
    torch.testing.assert_close(rotation_from_angles(rotation_to_angles(made), size), made, rtol=0, atol=1e-10)
    torch.testing.assert_close(torch.linalg.det(made), torch.ones(20, dtype=torch.float64))
    half_turn = torch.eye(size, dtype=torch.float64)
    half_turn[0, 0] = half_turn[1, 1] = -1.0
    torch.testing.assert_close(rotation_from_angles(rotation_to_angles(half_turn), size), half_turn)


def test_unknown_models_are_refused():
    with pytest.raises(ValueError, match=r"name must be one of \['EII', .*\], got 'XXX'"):
        covariance_by_name("XXX", 2, 2)
