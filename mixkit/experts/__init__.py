"""Families of experts: one file each."""

from .base import DensityTerms, Experts, LocationExperts
from .covariance import Covariance, DiagonalCovariance, FullCovariance, SphericalCovariance
from .gaussian import GaussianExperts, linear_gaussian_experts
from .multivariate import MultivariateGaussianExperts
from .poisson import PoissonExperts
from .student_t import StudentTExperts

__all__ = [
    "Covariance",
    "DensityTerms",
    "DiagonalCovariance",
    "Experts",
    "FullCovariance",
    "GaussianExperts",
    "LocationExperts",
    "MultivariateGaussianExperts",
    "PoissonExperts",
    "SphericalCovariance",
    "StudentTExperts",
    "linear_gaussian_experts",
]
