"""Ridge: half the sum of squared slopes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mixkit.parameters import Axis, ParameterRecord

from .base import PenaltyView
from .slopes import SlopePenalty

__all__ = ["Ridge"]


@dataclass(frozen=True)
class Ridge(SlopePenalty):
    r"""Ridge penalty on the slopes of gate and experts, in standardized units.

    .. math:: \frac{\lambda_g}{2} \sum_j \| \gamma_j - \bar \gamma \|^2 + \frac{\lambda_e}{2} \sum_j \| a_j \|^2

    is subtracted from the total (not the mean) log-likelihood. Here :math:`\gamma_j` and :math:`a_j` are the slopes of
    gate and experts on covariates divided by their standard deviations (those of location-scale families also on the
    standardized response), so that units of measurement do not matter; intercepts, biases and scales are not
    penalized. Gate slopes behind a shift-invariant normalizer enter by their distance from their mean, and so do the
    logits of categorical experts over the classes: the penalty does not depend on which expert or class is the
    reference, and is that of scikit-learn's multinomial ``LogisticRegression`` with ``C`` one over lambda. With one
    Gaussian expert the fit is ``Ridge(alpha)`` of scikit-learn on standardized data with
    :math:`\alpha = \lambda_e \hat\sigma^2`. The centers of a Laplace gate enter by their distance from their mean, in
    standard deviations of the covariates: the penalty draws them together. Weight matrices of modules are penalized as
    they are.

    A positive ``gate`` makes the estimates of gates finite that would otherwise jump; it is also the logarithm of a
    normal prior. Standard errors are those of the penalized curvature.

    With ``scaled`` the slopes of an expert with a scale are divided by that, not by the response's:
    :math:`\frac{\lambda_e}{2} \sum_j \| a_j \|^2 / \sigma_j^2`. Then the log-likelihood has a bound even with more
    covariates than rows, where an expert that fits all rows would else have a scale of zero whatever lambda; and with
    one Gaussian expert :math:`\alpha = \lambda_e`.

    Args:
        gate: lambda of the gate, non-negative.
        experts: lambda of the experts, non-negative.
        scaled: whether slopes of experts count in units of the expert's scale.

    Raises:
        TypeError: if ``scaled`` is no bool.
        ValueError: if lambda is negative or not finite; from a fit, if ``scaled`` meets slopes of several scales: those
            common to experts, and those of vector responses.

    Source: Hoerl and Kennard (1970), Technometrics 12, 55-67.

    Example:
        >>> from estimators import EM
        >>> from estimators.penalties import Ridge
        >>> EM(penalty=Ridge(gate=1.0)).penalty
        Ridge(gate=1.0, experts=0.0, scaled=False)
    """

    scaled: bool = False

    @property
    def is_quadratic(self) -> bool:  # type: ignore[override]
        """Whether the value is quadratic: not where scales divide slopes."""
        return not self.scaled

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        if not isinstance(self.scaled, bool):
            raise TypeError(f"scaled must be a bool, got {self.scaled!r}")

    def value(self, view: PenaltyView) -> Tensor:
        """The penalty at the parameters of ``view``."""
        total, records = view.x_std.new_zeros(()), view.records
        for name, value in view.parameters.items():
            if self.determines(records[name]):
                slopes = _standardized(records[name], value, view, self.scaled)
                total = total + self.strength(records[name]) * slopes.square().sum()
        return 0.5 * total


def _standardized(record: ParameterRecord, value: Tensor, view: PenaltyView, scaled: bool) -> Tensor:
    """Slopes of standardized covariates and locations, relative to their mean where that alone counts."""
    units, scale = record.units, record.along_covariates(view.x_std)
    if units.covariate_power and scale is not None:
        value = value * scale if units.covariate_power < 0 else value / scale
    if units.location_power and record.family is not None:
        value = value / (_own_scale(record, value, view) if scaled else _location_unit(record, view))
    if Axis.CLASS in record.axes:
        at = record.axes.index(Axis.CLASS)
        value = torch.cat([value, torch.zeros_like(value.narrow(at, 0, 1))], at)
        value = value - value.mean(at, keepdim=True)
    if not record.is_centered:
        return value
    return value - value.mean(0) if record.pattern is None else record.pattern.centered(value)


def _location_unit(record: ParameterRecord, view: PenaltyView) -> Tensor:
    """The standard deviation of the response (of vectors each coordinate's) where locations have its unit, else one."""
    if Axis.RESPONSE in record.axes:
        behind = len(record.axes) - 1 - record.axes.index(Axis.RESPONSE)
        return view.y_std.reshape(-1, *(1,) * behind)
    family = view.model.get_submodule(str(record.family))
    return view.y_std if getattr(family, "scale_name", None) else torch.ones_like(view.y_std)


def _own_scale(record: ParameterRecord, value: Tensor, view: PenaltyView) -> Tensor:
    """The scale of each expert, beside its slopes; one where the family has none."""
    name = getattr(view.model.get_submodule(str(record.family)), "scale_name", None)
    if Axis.RESPONSE in record.axes or (name is not None and record.pattern is not None):
        raise ValueError(
            f"penalty must not be scaled where slopes belong to several scales, got scaled=True for {record.block}"
        )
    if name is None:
        return torch.ones_like(view.y_std)
    logs = view.parameters[f"{record.family}.{name}"]
    return logs.exp().reshape(-1, *(1,) * (value.ndim - 1))
