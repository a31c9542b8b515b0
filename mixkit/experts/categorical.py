"""Categorical experts: multinomial logit regressions, for classification."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from .._validation import can_read_values, check_integer
from ..distributions import Categorical
from ..parameters import Axis, ParameterRecord
from .base import DensityTerms, MultiLocationExperts, linear_locations
from .dominating_measure import COUNTS
from .families import family
from .predictors import Predictor

__all__ = ["CategoricalExperts"]


@family("categorical")
class CategoricalExperts(MultiLocationExperts):
    r"""Multinomial logit experts of labels :math:`0, \dots, C - 1`.

    .. math:: P(y = c \mid x, j) = \mathrm{softmax}(\eta_{j1}(x), \dots, \eta_{j, C - 1}(x), 0)_c

    The last class is the reference, with a logit of zero, as the last expert is the gate's.

    Args:
        predictor: the logits of the other classes, built with ``response_dim=C - 1`` (see
            :mod:`mixkit.experts.predictors`).

    Source: the experts of Jordan and Jacobs (1994), Neural Computation 6, 181-214, section 2.

    Example:
        >>> import torch
        >>> from mixkit.experts.predictors import LinearPredictor
        >>> predictor = LinearPredictor(1, 2, response_dim=3, generator=torch.Generator().manual_seed(0))
        >>> experts = CategoricalExperts(predictor)
        >>> experts.num_classes, experts(torch.zeros(5, 1)).logits.shape
        (4, torch.Size([5, 2, 4]))
    """

    dominating_measure = COUNTS
    needed_options = ("num_classes",)

    def __init__(self, predictor: Predictor) -> None:
        super().__init__(predictor, num_locations=getattr(predictor, "response_dim", None) or 1)

    def adapt_record(self, record: ParameterRecord) -> ParameterRecord:
        """A record; locations are classes, relative to the last."""
        axes = tuple(Axis.CLASS if axis is Axis.LOCATION else axis for axis in record.axes)
        return replace(super().adapt_record(record), axes=axes)

    @classmethod
    def linear(cls, num_features: int, num_experts: int, **options: Any) -> "CategoricalExperts":
        """Experts of ``num_classes`` classes with logits linear in the covariates (see :meth:`Experts.linear`)."""
        classes = check_integer("num_classes", options.pop("num_classes", None), low=2)
        predictor, own = linear_locations(num_features, num_experts, classes - 1, options)
        return cls(predictor, **own)

    @classmethod
    def options_of(cls, response: Tensor) -> dict[str, Any]:
        """One class more than the largest label, two at least."""
        return {"num_classes": max(2, int(response.max()) + 1)}

    @property
    def num_classes(self) -> int:
        """The number C of classes."""
        return self.num_locations + 1

    def forward(self, x: Tensor) -> Categorical:
        """Categorical distributions of batch shape ``(*batch, n, k)``."""
        logits = self.predictor(x)
        return Categorical(torch.cat([logits, torch.zeros_like(logits[..., :1])], -1), validate_args=False)

    def check_response(self, y: Tensor) -> Tensor:
        """Return ``y`` if it holds labels, else raise ``ValueError``."""
        super().check_response(y)
        bad = (y < 0) | (y >= self.num_classes) | (y != y.floor())
        if can_read_values(y) and bad.any():
            raise ValueError(
                f"y must hold labels 0, ..., {self.num_classes - 1} for categorical experts, got {float(y[bad][0])}"
            )
        return y

    def log_density(self, y: Tensor, eta: Tensor, *constants: Tensor) -> Tensor:
        """Elementwise log-probability of the labels ``y`` at the logits of all classes but the last."""
        logits = torch.stack(torch.broadcast_tensors(eta, *constants, torch.zeros_like(eta)), -1)
        return _chosen(y, torch.log_softmax(logits, -1))

    def density_terms(self, y: Tensor, eta: Tensor, *constants: Tensor) -> DensityTerms:
        """Log-probability and derivatives in the logits in closed form."""
        logits = torch.stack([*torch.broadcast_tensors(eta, *constants), torch.zeros_like(eta)], -1)
        log_probs = torch.log_softmax(logits, -1)
        probs = list(log_probs.exp().unbind(-1)[:-1])
        first = [(y == c).to(p.dtype) - p for c, p in enumerate(probs)]
        second = [[-p * (float(c == b) - probs[b]) for b in range(c + 1)] for c, p in enumerate(probs)]
        return DensityTerms(_chosen(y, log_probs), first, second)

    def extra_repr(self) -> str:
        """The size shown by ``repr``."""
        return f"num_classes={self.num_classes}"


def _chosen(y: Tensor, log_probs: Tensor) -> Tensor:
    """The entry of ``log_probs (..., C)`` that the label names."""
    labels = torch.arange(log_probs.shape[-1], dtype=y.dtype, device=y.device)
    return torch.where(y.unsqueeze(-1) == labels, log_probs, 0.0).sum(-1)
