"""Gaussian experts of a vector response."""

from torch import Tensor
from torch.distributions import MultivariateNormal

from .._validation import check_last_dim
from ..predictors import Predictor
from .base import Experts
from .covariance import Covariance

__all__ = ["MultivariateGaussianExperts"]


class MultivariateGaussianExperts(Experts):
    r"""Gaussian experts of a response of dimension p, :math:`y \mid x, j \sim N_p(\eta_j(x), \Sigma_j)`.

    Args:
        predictor: the means, built with ``response_dim=p`` (see :mod:`mixkit.predictors`).
        covariance: full, diagonal or spherical, own or shared (see :mod:`mixkit.experts`).

    Raises:
        ValueError: if predictor and covariance differ in the number of experts.

    Example:
        >>> import torch
        >>> from mixkit.experts import FullCovariance
        >>> from mixkit.predictors import LinearPredictor
        >>> means = LinearPredictor(1, 3, response_dim=2, generator=torch.Generator().manual_seed(0))
        >>> MultivariateGaussianExperts(means, FullCovariance(3, 2))(torch.zeros(5, 1)).event_shape
        torch.Size([2])
    """

    def __init__(self, predictor: Predictor, covariance: Covariance) -> None:
        super().__init__()
        if predictor.num_experts != covariance.num_experts:
            raise ValueError(
                f"predictor and covariance must have one number of experts, "
                f"got {predictor.num_experts} and {covariance.num_experts}"
            )
        self.predictor = predictor
        self.covariance = covariance
        self.num_experts = predictor.num_experts

    def forward(self, x: Tensor) -> MultivariateNormal:
        """Normal laws of batch shape ``(*batch, n, k)`` and event shape ``(p,)``."""
        mean = self.predictor(x)
        tril = self.covariance.scale_tril().unsqueeze(-4)
        return MultivariateNormal(mean, scale_tril=tril, validate_args=False)

    def check_response(self, y: Tensor) -> Tensor:
        """Return ``y`` if its last dimension is p, else raise ``ValueError``."""
        return check_last_dim("y", super().check_response(y), self.covariance.response_dim, "responses")
