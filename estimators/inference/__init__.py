"""How sure a fit is: standard errors, intervals, bootstraps, tests."""

from ..covariance import SingularInformationWarning, inverse_information, propagate, sandwich
from ..maximum import DataRemovedError
from ..wald import DeltaEstimate, delta_method, wald_intervals
from .bootstrap import bootstrap
from .profile import ProfileWarning, profile_intervals, profile_likelihood
from .replicates import BootstrapResult
from .resampling import Cases, Parametric, RandomWeights, Resampling

__all__ = [
    "BootstrapResult",
    "Cases",
    "DataRemovedError",
    "DeltaEstimate",
    "Parametric",
    "ProfileWarning",
    "RandomWeights",
    "Resampling",
    "SingularInformationWarning",
    "bootstrap",
    "delta_method",
    "inverse_information",
    "profile_intervals",
    "profile_likelihood",
    "propagate",
    "sandwich",
    "wald_intervals",
]
