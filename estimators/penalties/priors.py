"""Priors on users' parameters: the fit is the maximum a posteriori."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributions import Distribution

from .base import Penalty, PenaltyView

__all__ = ["LogPrior"]

_ALIASES = {"gate_weight": "gate.score.weight", "gate_bias": "gate.score.bias"}


class LogPrior(Penalty):
    r"""Minus the log-density of priors on the parameters: the fit maximizes the posterior density.

    Args:
        priors: torch or Pyro distributions by the name of what they are laws of, in the units of the data:
            ``gate_weight`` and ``gate_bias`` (of all experts but the reference), ``slope``, ``intercept``, a constant
            on its natural scale (``std``, ``scale``, ``df``, ``dispersion``) or as it is kept (``log_std``), or a
            parameter's full name in the model (``experts.predictor.slope``). Batch shapes must broadcast to the
            parameter's.

    The mode depends on the coordinates: a prior on ``std`` has its density taken on the standard deviation itself, one
    on ``log_std`` on its logarithm.

    Raises:
        TypeError: if a prior is no distribution.
        ValueError: from a fit, if the model has no parameter of a name.

    Example:
        >>> from torch.distributions import Gamma, Normal
        >>> from estimators import EM
        >>> from estimators.penalties import LogPrior
        >>> EM(penalty=LogPrior({"slope": Normal(0.0, 10.0), "std": Gamma(2.0, 1.0)})).penalty
        LogPrior(slope, std)
    """

    is_in_data_units = True

    def __init__(self, priors: Mapping[str, Distribution]) -> None:
        for name, prior in priors.items():
            if not isinstance(prior, Distribution):
                raise TypeError(f"priors[{name!r}] must be a distribution, got {type(prior).__name__}")
        self.priors = dict(priors)

    def value(self, view: PenaltyView) -> Tensor:
        """Minus the sum of the log-densities."""
        terms = [-prior.log_prob(part).sum() for name, prior in self.priors.items() for part in _parameters(name, view)]
        return torch.stack(terms).sum() if terms else view.x_std.new_zeros(())

    def __repr__(self) -> str:
        """The names."""
        return f"LogPrior({', '.join(self.priors)})"


def _parameters(name: str, view: PenaltyView) -> list[Tensor]:
    """The free parameters that a name means."""
    full = _ALIASES.get(name, name)
    found = [_free(own, value, view) for own, value in view.parameters.items() if own == full or _is_last(own, name)]
    found += [value.exp() for own, value in view.parameters.items() if _is_last(own, f"log_{name}")]
    if not found:
        known = sorted({*(own.split(".")[-1] for own in view.parameters if own.startswith("experts.")), *_ALIASES})
        raise ValueError(f"priors must name parameters of the model, such as {known}, got {name!r}")
    return found


def _is_last(own: str, name: str) -> bool:
    return own.startswith("experts.") and own.split(".")[-1] == name


def _free(own: str, value: Tensor, view: PenaltyView) -> Tensor:
    """Without the row of the reference expert."""
    score = view.model.gate.score
    is_pinned = own.startswith("gate.score.") and own.removeprefix("gate.score.") in score.translated
    return value[:-1] if is_pinned and view.model.gate.shift_invariant else value
