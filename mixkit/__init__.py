"""What a mixture of experts is: gates, experts, the conditional distribution, the mixing measure."""

from . import datasets
from ._version import __version__
from .experts import (
    DiagonalCovariance,
    Experts,
    FullCovariance,
    GaussianExperts,
    LocationExperts,
    MultivariateGaussianExperts,
    PoissonExperts,
    SphericalCovariance,
    StudentTExperts,
    linear_gaussian_experts,
)
from .gates import *  # noqa: F403
from .gates import __all__ as _gates
from .measure import MixingMeasure
from .mixture import ExpertMixture, MixtureOfExperts
from .predictors import ConstantPredictor, LinearPredictor, ModulePredictor

__all__ = [
    "ConstantPredictor",
    "DiagonalCovariance",
    "ExpertMixture",
    "Experts",
    "FullCovariance",
    "GaussianExperts",
    "LinearPredictor",
    "LocationExperts",
    "MixingMeasure",
    "MixtureOfExperts",
    "ModulePredictor",
    "MultivariateGaussianExperts",
    "PoissonExperts",
    "SphericalCovariance",
    "StudentTExperts",
    "__version__",
    "datasets",
    "linear_gaussian_experts",
]
__all__ += _gates
