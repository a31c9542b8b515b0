"""Gaussian experts of a vector response."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from .._validation import check_last_dim
from ..parameters import Axis, ParameterRecord, has_form, module_records
from .base import Experts, check_predictor, first_parameter, linear_locations
from .covariance import Covariance
from .dominating_measure import REAL_LINE
from .eigen_covariance import covariance_by_name
from .families import family
from .predictors import Predictor

__all__ = ["MultivariateGaussianExperts"]


@family("multivariate_gaussian")
class MultivariateGaussianExperts(Experts):
    r"""Gaussian experts of a response of dimension p, :math:`y \mid x, j \sim N_p(\eta_j(x), \Sigma_j)`.

    Args:
        predictor: the means, built with ``response_dim=p`` (see :mod:`mixkit.experts.predictors`).
        covariance: full, diagonal or spherical, own or shared (see :mod:`mixkit.experts`); moved to dtype and device
            of the predictor. Of batch shape ``()`` it is one for all models of a batch.

    Raises:
        TypeError: if ``predictor`` or ``covariance`` is of another kind.
        ValueError: if predictor and covariance differ in the number of experts or the dimension of the response.

    Example:
        >>> import torch
        >>> from mixkit.experts import FullCovariance
        >>> from mixkit.experts.predictors import LinearPredictor
        >>> means = LinearPredictor(1, 3, response_dim=2, generator=torch.Generator().manual_seed(0))
        >>> MultivariateGaussianExperts(means, FullCovariance(3, 2))(torch.zeros(5, 1)).event_shape
        torch.Size([2])
    """

    dominating_measure = REAL_LINE
    needed_options = ("response_dim",)

    def __init__(self, predictor: Predictor, covariance: Covariance) -> None:
        super().__init__()
        check_predictor(predictor)
        if not isinstance(covariance, Covariance):
            raise TypeError(f"covariance must be a mixkit.experts.Covariance, got {type(covariance).__name__}")
        for name in ("num_experts", "response_dim"):
            if getattr(predictor, name) != getattr(covariance, name):
                raise ValueError(
                    f"predictor and covariance must have one {name}, "
                    f"got {getattr(predictor, name)} and {getattr(covariance, name)}"
                )
        own = first_parameter(predictor)
        self.predictor = predictor
        self.covariance = covariance if own is None else covariance.to(dtype=own.dtype, device=own.device)
        self.num_experts = predictor.num_experts

    @classmethod
    def linear(cls, num_features: int, num_experts: int, **options: Any) -> "MultivariateGaussianExperts":
        """Experts with means linear in the covariates (see :meth:`Experts.linear`).

        Of its own options ``response_dim`` is the dimension p, ``covariance`` one of the names of
        :func:`~mixkit.experts.covariance_by_name`, "VVV" if it is left out: each expert's own, and full.
        """
        size, name = options.pop("response_dim", None), options.pop("covariance", "VVV")
        predictor, own = linear_locations(num_features, num_experts, size, options)
        covariance = covariance_by_name(name, num_experts, size, batch_shape=predictor.batch_shape)
        return cls(predictor, covariance, **own)

    @classmethod
    def options_of(cls, response: Tensor) -> dict[str, Any]:
        """The dimension of the response."""
        return {"response_dim": response.shape[-1]}

    def forward(self, x: Tensor) -> MultivariateNormal:
        """Normal distributions of batch shape ``(*batch, n, k)`` and event shape ``(p,)``."""
        mean = self.predictor(x)
        tril = self.covariance.scale_tril().unsqueeze(-4)
        return MultivariateNormal(mean, scale_tril=tril, validate_args=False)

    @property
    def is_location_scale(self) -> bool:
        """It is, if the covariance says how its parameters change with the units of the responses."""
        records = module_records(self.covariance)
        return has_form(self, MultivariateGaussianExperts) and not any(record.is_generic for record in records)

    def adapt_record(self, record: ParameterRecord) -> ParameterRecord:
        """A record; locations are coordinates of the response."""
        axes = tuple(Axis.RESPONSE if axis is Axis.LOCATION else axis for axis in record.axes)
        return replace(super().adapt_record(record), axes=axes)

    def location_moments(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of the responses, ``(p,)`` each."""
        std, mean = torch.std_mean(y, -2, correction=0)
        return mean, std

    def common_scale(self, mean: Tensor, std: Tensor) -> Tensor:
        """The geometric mean of the responses' scales."""
        return std.log().mean().exp()

    def check_response(self, y: Tensor) -> Tensor:
        """Return ``y`` if its last dimension is p, else raise ``ValueError``."""
        return check_last_dim("y", super().check_response(y), self.covariance.response_dim, "responses")
