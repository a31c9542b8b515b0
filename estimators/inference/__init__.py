"""How sure a fit is: standard errors, intervals, bootstraps, tests."""

from ..covariance import SingularInformationWarning, inverse_information, propagate, sandwich
from ..maximum import DataRemovedError
from ..wald import DeltaEstimate, delta_method, wald_intervals
from .likelihood_ratio import LikelihoodRatioTest, NonRegularTestWarning, likelihood_ratio_test
from .profile import ProfileWarning, profile_intervals, profile_likelihood
from .refits import bootstrap
from .replicates import BootstrapResult
from .resampling import Cases, Parametric, RandomWeights, Resampling
from .simulated_ratio import BootstrapLRT, bootstrap_lrt

__all__ = [
    "BootstrapLRT",
    "BootstrapResult",
    "Cases",
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
    "delta_method",
    "inverse_information",
    "likelihood_ratio_test",
    "profile_intervals",
    "profile_likelihood",
    "propagate",
    "sandwich",
    "wald_intervals",
]
