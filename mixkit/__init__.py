"""What a mixture of experts is: gates, experts, the conditional distribution, the mixing measure."""

from . import datasets, losses, normalizers, schedules, scores, selection, temperature
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
from .gates import (
    Gate,
    Routing,
    activation_gate,
    constant_gate,
    dense_to_sparse_gate,
    laplace_gate,
    sigmoid_gate,
    softmax_gate,
    topk_gate,
)
from .measure import MixingMeasure
from .mixture import ExpertMixture, MixtureOfExperts
from .predictors import ConstantPredictor, LinearPredictor, ModulePredictor

__all__ = [
    "ConstantPredictor",
    "DiagonalCovariance",
    "ExpertMixture",
    "Experts",
    "FullCovariance",
    "Gate",
    "GaussianExperts",
    "LinearPredictor",
    "LocationExperts",
    "MixingMeasure",
    "MixtureOfExperts",
    "ModulePredictor",
    "MultivariateGaussianExperts",
    "PoissonExperts",
    "Routing",
    "SphericalCovariance",
    "StudentTExperts",
    "__version__",
    "activation_gate",
    "constant_gate",
    "datasets",
    "dense_to_sparse_gate",
    "laplace_gate",
    "linear_gaussian_experts",
    "losses",
    "normalizers",
    "schedules",
    "scores",
    "selection",
    "sigmoid_gate",
    "softmax_gate",
    "temperature",
    "topk_gate",
]
