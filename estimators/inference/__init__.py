"""How sure a fit is: standard errors, intervals, bootstraps, tests."""

from ..covariance import SingularInformationWarning, inverse_information, propagate, sandwich
from ..maximum import DataRemovedError
from ..wald import DeltaEstimate, delta_method, wald_intervals
from .profile import ProfileWarning, profile_intervals, profile_likelihood

__all__ = [
    "DataRemovedError",
    "DeltaEstimate",
    "ProfileWarning",
    "SingularInformationWarning",
    "delta_method",
    "inverse_information",
    "profile_intervals",
    "profile_likelihood",
    "propagate",
    "sandwich",
    "wald_intervals",
]
