"""How sure a fit is: standard errors, intervals, bootstraps, tests; start with ``bootstrap.py``."""

from ..results.maximum import DataRemovedError
from ..results.profile import ProfileWarning, profile_intervals, profile_likelihood
from ..statistics.covariance import SingularInformationWarning, inverse_information, propagate, sandwich
from ..statistics.wald import DeltaEstimate, delta_method, wald_intervals
from .bootstrap import bootstrap
from .bootstrap_lrt import BootstrapLRT, bootstrap_lrt
from .bootstrap_result import BootstrapLevelWarning, BootstrapResult
from .comparison import Comparison, compare
from .likelihood_ratio import LikelihoodRatioTest, NonRegularTestWarning, likelihood_ratio_test
from .resampling import Cases, Parametric, RandomWeights, Resampling

__all__ = [
    "BootstrapLRT",
    "BootstrapLevelWarning",
    "BootstrapResult",
    "Cases",
    "Comparison",
    "DataRemovedError",
    "DeltaEstimate",
    "LikelihoodRatioTest",
    "NonRegularTestWarning",
    "Parametric",
    "ProfileWarning",
    "RandomWeights",
    "Resampling",
    "SingularInformationWarning",
    "bootstrap",
    "bootstrap_lrt",
    "compare",
    "delta_method",
    "inverse_information",
    "likelihood_ratio_test",
    "profile_intervals",
    "profile_likelihood",
    "propagate",
    "sandwich",
    "wald_intervals",
]
