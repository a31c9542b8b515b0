"""Covariances of experts of a vector response."""

import pytest
import torch

from mixkit.experts import DiagonalCovariance, FullCovariance, SphericalCovariance
from tests.mixkit.expert_table import (
    K,
    P,
)
from tests.mixkit.gate_table import normal

COVARIANCES = [FullCovariance, DiagonalCovariance, SphericalCovariance]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", COVARIANCES)
def test_the_update_of_a_covariance_maximizes_the_likelihood(kind, shared):
    """The gradient of the weighted log-likelihood of centered data vanishes at the update."""
    residual, weight = normal(50, P, seed=3) @ torch.tensor([[2.0, 0.0], [1.5, 0.5]]).double(), normal(50, K).exp()
    covariance = kind(K, P, shared=shared, dtype=torch.float64)
    scatter = torch.einsum("nk,np,nq->kpq", weight, residual, residual)
    covariance.update(scatter, weight.sum(0), 1e-9)
    law = torch.distributions.MultivariateNormal(torch.zeros(P).double(), scale_tril=covariance.scale_tril())
    loss = (weight * law.log_prob(residual.unsqueeze(1))).sum()
    for gradient in torch.autograd.grad(loss, list(covariance.parameters())):
        assert gradient.abs().max() < 1e-10 * weight.sum()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", COVARIANCES)
def test_the_update_of_independent_models_is_that_of_each_alone(kind, shared):
    residual, weight = normal(4, 50, P, seed=3), normal(4, 50, K).exp()
    scatter = torch.einsum("bnk,bnp,bnq->bkpq", weight, residual, residual)
    together = kind(K, P, shared=shared, batch_shape=(4,), dtype=torch.float64)
    together.update(scatter, weight.sum(-2), 1e-9)
    for index in range(4):
        alone = kind(K, P, shared=shared, dtype=torch.float64)
        alone.update(scatter[index], weight[index].sum(-2), 1e-9)
        torch.testing.assert_close(together.scale_tril()[index], alone.scale_tril(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", COVARIANCES)
def test_the_update_of_a_covariance_keeps_its_floor(kind):
    covariance = kind(2, P, dtype=torch.float64)
    direction = torch.tensor([[1.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    covariance.update(torch.stack([direction, 0 * direction]), torch.tensor([1.0, 0.0]).double(), 0.01)
    tril = covariance.scale_tril()
    smallest = torch.linalg.eigvalsh(tril @ tril.mT)[:, 0]
    assert (smallest >= 0.01 * (1 - 1e-12)).all()
    torch.testing.assert_close(tril[1], 0.1 * torch.eye(P).double())


@pytest.mark.parametrize("kind", COVARIANCES)
def test_sizes_of_a_covariance_are_checked(kind):
    with pytest.raises(ValueError, match="num_experts must be at least 1, got 0"):
        kind(0, 2)
    with pytest.raises(ValueError, match="response_dim must be at least 1, got 0"):
        kind(2, 0)
    with pytest.raises(TypeError, match="num_experts must be an integer"):
        kind(2.0, 2)
