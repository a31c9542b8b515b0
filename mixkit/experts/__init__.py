"""Families of experts: one file each; start with ``base.py``."""

from .base import DensityExperts, DensityTerms, Experts, LocationExperts, MultiLocationExperts
from .beta import BetaExperts
from .binomial import BinomialExperts
from .categorical import CategoricalExperts
from .covariance import Covariance, DiagonalCovariance, FullCovariance, SphericalCovariance
from .dominating_measure import COUNTS, POSITIVE_LINE, REAL_LINE, DominatingMeasure
from .eigen_covariance import EigenCovariance, covariance_by_name, covariance_names
from .families import family, family_by_name, family_names, family_of
from .gamma import GammaExperts
from .gaussian import GaussianExperts, linear_gaussian_experts
from .generalized_gaussian import GeneralizedGaussianExperts
from .inverse_gaussian import InverseGaussianExperts
from .laplace import LaplaceExperts
from .location_scale import LocationScaleExperts
from .log_normal import LogNormalExperts, ZeroInflatedLogNormalExperts
from .mixed import MixedExperts
from .multivariate import MultivariateGaussianExperts
from .negative_binomial import NegativeBinomialExperts
from .noise import NoiseExperts
from .ordinal import OrdinalExperts
from .point_mass import PointMassExperts
from .poisson import PoissonExperts
from .product import MultivariateBinaryExperts, ProductExperts
from .student_t import StudentTExperts
from .zero_counts import (
    HurdleNegativeBinomialExperts,
    HurdlePoissonExperts,
    TruncatedNegativeBinomialExperts,
    TruncatedPoissonExperts,
    ZeroInflatedNegativeBinomialExperts,
    ZeroInflatedPoissonExperts,
)

__all__ = [
    "COUNTS",
    "POSITIVE_LINE",
    "REAL_LINE",
    "BetaExperts",
    "BinomialExperts",
    "CategoricalExperts",
    "Covariance",
    "DensityExperts",
    "DensityTerms",
    "DiagonalCovariance",
    "DominatingMeasure",
    "EigenCovariance",
    "Experts",
    "FullCovariance",
    "GammaExperts",
    "GaussianExperts",
    "GeneralizedGaussianExperts",
    "HurdleNegativeBinomialExperts",
    "HurdlePoissonExperts",
    "InverseGaussianExperts",
    "LaplaceExperts",
    "LocationExperts",
    "LocationScaleExperts",
    "LogNormalExperts",
    "MixedExperts",
    "MultiLocationExperts",
    "MultivariateBinaryExperts",
    "MultivariateGaussianExperts",
    "NegativeBinomialExperts",
    "NoiseExperts",
    "OrdinalExperts",
    "PointMassExperts",
    "PoissonExperts",
    "ProductExperts",
    "SphericalCovariance",
    "StudentTExperts",
    "TruncatedNegativeBinomialExperts",
    "TruncatedPoissonExperts",
    "ZeroInflatedLogNormalExperts",
    "ZeroInflatedNegativeBinomialExperts",
    "ZeroInflatedPoissonExperts",
    "covariance_by_name",
    "covariance_names",
    "family",
    "family_by_name",
    "family_names",
    "family_of",
    "linear_gaussian_experts",
]
