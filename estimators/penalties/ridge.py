"""Ridge: half the sum of squared slopes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mixkit._validation import check_non_negative
from mixkit.parameters import Axis, ParameterRecord, Slope

from .base import Penalty, PenaltyView

__all__ = ["Ridge"]


@dataclass(frozen=True)
class Ridge(Penalty):
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

    Args:
        gate: lambda of the gate, non-negative.
        experts: lambda of the experts, non-negative.

    Raises:
        ValueError: if one is negative or not finite.

    Source: Hoerl and Kennard (1970), Technometrics 12, 55-67.

    Example:
        >>> from estimators import EM
        >>> from estimators.penalties import Ridge
        >>> EM(penalty=Ridge(gate=1.0)).penalty
        Ridge(gate=1.0, experts=0.0)
    """

    gate: float = 0.0
    experts: float = 0.0

    is_quadratic = True

    def __post_init__(self) -> None:
        """Check the strengths."""
        check_non_negative("gate", self.gate)
        check_non_negative("experts", self.experts)

    def value(self, view: PenaltyView) -> Tensor:
        """The penalty at the parameters of ``view``."""
        total, records = view.x_std.new_zeros(()), view.records
        for strength, kind in ((self.gate, Slope.GATE), (self.experts, Slope.EXPERTS)):
            own = [name for name in view.parameters if records[name].slope is kind]
            slopes = [_standardized(records[name], view.parameters[name], view) for name in own]
            if slopes:
                total = total + strength * torch.stack([slope.square().sum() for slope in slopes]).sum()
        return 0.5 * total

    def determines(self, record: ParameterRecord) -> bool:
        """Slopes whose strength is positive."""
        return {Slope.GATE: self.gate, Slope.EXPERTS: self.experts, None: 0.0}[record.slope] > 0.0


def _standardized(record: ParameterRecord, value: Tensor, view: PenaltyView) -> Tensor:
    """Slopes of standardized covariates and locations, relative to their mean where that alone counts."""
    units, scale = record.units, record.along_covariates(view.x_std)
    if units.covariate_power and scale is not None:
        value = value * scale if units.covariate_power < 0 else value / scale
    if units.location_power and record.family is not None:
        value = value / _location_unit(record, view)
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
