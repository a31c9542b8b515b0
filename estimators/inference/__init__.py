"""How sure a fit is: standard errors, intervals, bootstraps, tests."""

from ..covariance import SingularInformationWarning, inverse_information, propagate

__all__ = ["SingularInformationWarning", "inverse_information", "propagate"]
