"""Statistics, p values and Wald tests of a fit's parameters."""

from typing import Any

import numpy as np

from mixkit._validation import check_choice

from ..statistics.linear_restrictions import linear_restrictions
from ..statistics.named_vector import NamedVector
from ..statistics.wald_tests import WaldTest, wald_test
from .likelihood_inference import LikelihoodInference
from .linear_combinations import LinearCombinations, linear_combinations
from .maximum import COVARIANCES
from .summary import table_rows

__all__ = ["HypothesisTests"]


class HypothesisTests(LikelihoodInference):
    """The part of a result that tests its parameters by their standard errors.

    Example:
        >>> from estimators import fit_formula
        >>> from mixkit.datasets import load_tone
        >>> stretch, tuned = load_tone()
        >>> data = {"stretch": stretch[:, 0].numpy(), "tuned": tuned.numpy()}
        >>> fit = fit_formula("tuned ~ stretch | stretch", data, 2, random_state=0)
        >>> bool(fit.pvalues["slope[0,stretch]"] < 1e-3)
        True
        >>> fit.wald_test("slope[0,stretch] = slope[1,stretch]").df
        1
    """

    @property
    def tvalues(self) -> NamedVector:
        """Estimates over their standard errors ``(P,)``, standard normal where a parameter is zero.

        NaN for positive parameters (``std``, ``scale``, ...), which are never zero, and for undetermined ones.
        """
        return NamedVector(self._rows()[:, 2], self.param_names)

    @property
    def pvalues(self) -> NamedVector:
        """Two-sided p values ``(P,)`` of :attr:`tvalues`, as in the summary."""
        return NamedVector(self._rows()[:, 3], self.param_names)

    def _rows(self) -> np.ndarray:
        return table_rows(self.params, self.standard_errors(), self.is_positive, level=0.95)

    def wald_test(self, restrictions: Any, *, cov_type: str = "observed", groups: Any = None) -> WaldTest:
        """Test that linear restrictions hold together, by a chi-square statistic.

        Args:
            restrictions: with the names of the parameters, ``"slope[0,x] = slope[1,x]"``; several are separated by
                commas, or a list, a mapping to values, or a matrix ``(q, P)``, alone or in a pair with ``(q,)`` values
                (:func:`~estimators.statistics.linear_restrictions.linear_restrictions`).
            cov_type: of the estimates (see :meth:`cov_params`).
            groups: for ``cov_type="cluster"``.

        Raises:
            TypeError: if ``restrictions`` is something else.
            ValueError: for other names, expressions that are not linear, restrictions that follow from others, or
                another covariance.

        Restrictions at the border of what a parameter can be (``std[0] = 0``) have no such test.
        """
        covariance = self.cov_params(check_choice("cov_type", cov_type, COVARIANCES), groups=groups)
        return wald_test(self.params, covariance, linear_restrictions(restrictions, self.param_names))

    def t_test(
        self, restrictions: Any, *, cov_type: str = "observed", level: float = 0.95, groups: Any = None
    ) -> LinearCombinations:
        """Estimate and test each of some linear combinations by itself, against the normal distribution.

        Args:
            restrictions: as for :meth:`wald_test`.
            cov_type: of the estimates (see :meth:`cov_params`).
            groups: for ``cov_type="cluster"``.
            level: of the intervals, in (0, 1).

        Raises:
            TypeError: if ``restrictions`` is something else, or ``level`` is not a number.
            ValueError: as for :meth:`wald_test`, or for a level outside (0, 1).
        """
        covariance = self.cov_params(check_choice("cov_type", cov_type, COVARIANCES), groups=groups)
        found = linear_restrictions(restrictions, self.param_names)
        return linear_combinations(self.params, covariance, found, level=level)
