"""Binomial experts: logistic regressions of successes among trials."""

import torch
from torch import Tensor

from .._validation import can_read_values, check_finite, check_integer
from ..distributions.binomial import Binomial, binomial_log_prob
from .base import DensityTerms, LocationExperts, check_counts
from .dominating_measure import COUNTS
from .families import family
from .predictors import Predictor

__all__ = ["BinomialExperts"]


@family("binomial")
class BinomialExperts(LocationExperts):
    r"""Binomial experts with a logit link: y successes in m trials of probability :math:`1 / (1 + e^{-\eta_j(x)})`.

    With ``trials=None`` every row has its own number of trials, the last column of x (behind an offset, if there is
    one), which neither gate nor locations see. It belongs to the row, not to the response: what is predicted or drawn
    at x has as many trials as x says.

    Args:
        predictor: the log-odds of success (see :mod:`mixkit.experts.predictors`).
        trials: number of trials m of every row; 1 for binary responses, None for a column of x.

    Raises:
        TypeError: if ``trials`` is no integer.
        ValueError: if it is below 1.

    Source: McCullagh and Nelder (1989), Generalized Linear Models, chapter 4.

    Example:
        >>> import torch
        >>> from mixkit.experts.predictors import LinearPredictor
        >>> predictor = LinearPredictor(1, 2, generator=torch.Generator().manual_seed(0))
        >>> x = torch.tensor([[0.5, 10.0], [0.5, 20.0]])  # one covariate, then the trials
        >>> law = BinomialExperts(predictor, trials=None)(x)
        >>> law.batch_shape, (law.mean[1] / law.mean[0]).tolist()
        (torch.Size([2, 2]), [2.0, 2.0])
    """

    dominating_measure = COUNTS

    def __init__(self, predictor: Predictor, *, trials: int | None = 1) -> None:
        super().__init__(predictor)
        self.trials = None if trials is None else check_integer("trials", trials, low=1)

    @property
    def known_columns(self) -> tuple[str, ...]:
        """The offset and the numbers of trials, if they are columns of x."""
        return super().known_columns + (("trials",) if self.trials is None else ())

    def forward(self, x: Tensor) -> Binomial:
        """Binomial distributions of batch shape ``(*batch, n, k)``."""
        if self.trials is None:
            return Binomial(self.predictor(x[..., :-1]), x[..., -1:], validate_args=False)
        logit = self.predictor(x)
        return Binomial(logit, logit.new_full((), float(self.trials)), validate_args=False)

    def check_response(self, y: Tensor) -> Tensor:
        """Return ``y`` if it holds counts, at most the number of trials if that is known, else raise."""
        check_counts(super().check_response(y), "binomial")
        return y if self.trials is None else _check_at_most(y, y.new_full((), float(self.trials)))

    def check_rows(self, x: Tensor, y: Tensor) -> Tensor:
        """Return ``y`` if it holds no more successes than x says trials, which are positive integers, else raise."""
        self.check_response(y)
        if self.trials is not None or not can_read_values(x):
            return y
        trials = check_finite("trials, the last column of x,", x[..., -1].detach())
        bad = (trials < 1) | (trials != trials.floor())
        if bool(bad.any()):
            raise ValueError(f"trials, the last column of x, must be positive integers, got {float(trials[bad][0])}")
        return _check_at_most(y, trials)

    def observed(self, x: Tensor, y: Tensor) -> Tensor:
        """Successes, and trials where they are a column of x: ``(..., n, 2)``."""
        return y if self.trials is not None else torch.stack([y, x[..., -1]], -1)

    def _counts(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Successes and trials."""
        return (y[0], y[1]) if self.trials is None else (y, y.new_full((), float(self.trials)))

    def start_locations(self, y: Tensor) -> list[Tensor]:
        """The log-odds of ``y + 1/2`` to ``m - y + 1/2``, finite at both ends."""
        count, trials = self._counts(y)
        return [torch.log(count + 0.5) - torch.log(trials - count + 0.5)]

    def location_moments(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Zero and one: log-odds have no units."""
        return y.new_zeros(()), y.new_ones(())

    def log_density(self, y: Tensor, eta: Tensor, *constants: Tensor) -> Tensor:
        """Elementwise log-probability at log-odds ``eta``; where trials are a column, ``y`` is successes and trials."""
        return binomial_log_prob(*self._counts(y), eta)

    def density_terms(self, y: Tensor, eta: Tensor, *constants: Tensor) -> DensityTerms:
        """Log-probability and derivatives in ``eta`` in closed form."""
        count, trials = self._counts(y)
        success = trials * torch.sigmoid(eta)
        return DensityTerms(self.log_density(y, eta), [count - success], [[-success * torch.sigmoid(-eta)]])

    def extra_repr(self) -> str:
        """The setting shown by ``repr``."""
        return f"trials={self.trials}"


def _check_at_most(y: Tensor, trials: Tensor) -> Tensor:
    if can_read_values(y):
        bad = y > trials
        if bool(bad.any()):
            most = trials.expand(torch.broadcast_shapes(y.shape, trials.shape))
            raise ValueError(
                f"y must be at most the number of trials, got {float(y.expand_as(most)[bad][0])} "
                f"of {float(most[bad][0])}"
            )
    return y
