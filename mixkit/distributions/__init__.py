"""Component distributions that keep their precision in the tails; start with ``per_component.py``."""

from .atom import Atom
from .atoms import has_atom
from .binomial import Binomial, binomial_log_prob
from .categorical import Categorical
from .laplace import Laplace
from .log_normal import LogNormal
from .negative_binomial import NegativeBinomial, negative_binomial_log_prob
from .normal import Normal
from .per_component import PerComponentDistribution
from .poisson import Poisson
from .student_t import StudentT, log1p_square, student_t_log_density, student_t_log_normalizer
from .zero_inflated import ZeroInflatedLogNormal

__all__ = [
    "Atom",
    "Binomial",
    "Categorical",
    "Laplace",
    "LogNormal",
    "NegativeBinomial",
    "Normal",
    "PerComponentDistribution",
    "Poisson",
    "StudentT",
    "ZeroInflatedLogNormal",
    "binomial_log_prob",
    "has_atom",
    "log1p_square",
    "negative_binomial_log_prob",
    "student_t_log_density",
    "student_t_log_normalizer",
]
