"""Component distributions that keep their precision in the tails; start with ``per_component.py``."""

from .atom import Atom
from .atoms import has_atom
from .beta import Beta, beta_log_density
from .binomial import Binomial, binomial_log_prob
from .box import Box
from .categorical import Categorical
from .gamma import Gamma, gamma_log_density
from .generalized_normal import GeneralizedNormal, generalized_normal_log_density
from .independent_responses import IndependentResponses
from .inverse_gaussian import InverseGaussian, inverse_gaussian_log_density
from .laplace import Laplace
from .log_normal import LogNormal
from .negative_binomial import NegativeBinomial, negative_binomial_log_prob
from .normal import Normal
from .per_component import PerComponentDistribution
from .poisson import Poisson
from .student_t import StudentT, log1p_square, student_t_log_density, student_t_log_normalizer
from .zero_counts import Hurdle, ZeroInflated, ZeroTruncated
from .zero_inflated import ZeroInflatedLogNormal

__all__ = [
    "Atom",
    "Beta",
    "Binomial",
    "Box",
    "Categorical",
    "Gamma",
    "GeneralizedNormal",
    "Hurdle",
    "IndependentResponses",
    "InverseGaussian",
    "Laplace",
    "LogNormal",
    "NegativeBinomial",
    "Normal",
    "PerComponentDistribution",
    "Poisson",
    "StudentT",
    "ZeroInflated",
    "ZeroInflatedLogNormal",
    "ZeroTruncated",
    "beta_log_density",
    "binomial_log_prob",
    "gamma_log_density",
    "generalized_normal_log_density",
    "has_atom",
    "inverse_gaussian_log_density",
    "log1p_square",
    "negative_binomial_log_prob",
    "student_t_log_density",
    "student_t_log_normalizer",
]
