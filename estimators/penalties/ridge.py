"""Ridge: half the sum of squared slopes."""

from dataclasses import dataclass

import torch
from torch import Tensor

from mixkit._validation import check_non_negative
from mixkit.experts import CategoricalExperts, Experts, MixedExperts
from mixkit.gates.scores import DistanceScore

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
        gate = [_gate_slope(name, value, view) for name, value in view.parameters.items()]
        experts = [_expert_slope(name, value, view) for name, value in view.parameters.items()]
        return 0.5 * (self.gate * _squares(gate, view) + self.experts * _squares(experts, view))


def _squares(slopes: list[Tensor | None], view: PenaltyView) -> Tensor:
    squares = [slope.square().sum() for slope in slopes if slope is not None]
    return torch.stack(squares).sum() if squares else view.x_std.new_zeros(())


def _gate_slope(name: str, value: Tensor, view: PenaltyView) -> Tensor | None:
    """Standardized gate slopes; None for what is none."""
    if not name.startswith("gate.score.") or value.ndim < 2:
        return None
    if isinstance(view.model.gate.score, DistanceScore):
        return (value - value.mean(0)) / view.x_std
    scaled = value * view.x_std if value.shape[-1] == len(view.x_std) else value
    is_free = name.removeprefix("gate.score.") in view.model.gate.score.translated and view.model.gate.shift_invariant
    return scaled - scaled.mean(0) if is_free else scaled


def _expert_slope(name: str, value: Tensor, view: PenaltyView) -> Tensor | None:
    """Standardized slopes of the experts' locations; None for what is none."""
    if name.startswith("experts.") and ".module." in name:
        return value if value.ndim > 1 else None
    if not name.startswith("experts.") or not name.endswith("predictor.slope"):
        return None
    family = _family(name, view.model.experts)
    scaled = value * view.x_std / (view.y_std if getattr(family, "scale_name", None) else 1.0)
    if isinstance(family, CategoricalExperts):
        scaled = torch.cat([scaled, torch.zeros_like(scaled[:, :1])], 1)
        return scaled - scaled.mean(1, keepdim=True)
    return scaled


def _family(name: str, experts: Experts) -> torch.nn.Module:
    """The family a parameter belongs to."""
    return experts.families[int(name.split(".")[2])] if isinstance(experts, MixedExperts) else experts
