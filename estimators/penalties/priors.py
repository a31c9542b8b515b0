"""Priors on users' parameters: the fit is the maximum a posteriori."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributions import Distribution

from mixkit.parameters import ParameterRecord

from .base import Penalty, PenaltyView

__all__ = ["LogPrior"]


class LogPrior(Penalty):
    r"""Minus the log-density of priors on the parameters: the fit maximizes the posterior density.

    Args:
        priors: torch or Pyro distributions by the name of what they are priors of, in the units of the data:
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

    def determines(self, record: ParameterRecord) -> bool:
        """What it has a prior of."""
        return not {record.block, record.name, record.name.rpartition(".")[2]}.isdisjoint(self.priors)

    def __repr__(self) -> str:
        """The names."""
        return f"LogPrior({', '.join(self.priors)})"


def _parameters(name: str, view: PenaltyView) -> list[Tensor]:
    """The free parameters that a name means: what users call them, as they read them; or a parameter as it is kept."""
    found, records = [], view.records
    for own, value in view.parameters.items():
        record = records[own]
        if name == record.block:
            found.append(_free(record, record.transform.value(value)))
        elif name in (own, own.rpartition(".")[2]):
            found.append(_free(record, value))
    if not found:
        known = sorted({records[own].block for own in view.parameters})
        raise ValueError(f"priors must name parameters of the model, such as {known}, got {name!r}")
    return found


def _free(record: ParameterRecord, value: Tensor) -> Tensor:
    """Without the row of the reference expert."""
    if record.is_translated and record.pattern is not None:
        return value[..., ~record.pattern.pinned()]
    return value[:-1] if record.is_translated else value
