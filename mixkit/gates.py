"""Gates: covariates to log-weights over experts, made of a score, a temperature, a selection and a normaliser."""

import torch
from torch import Tensor, nn

from ._validation import can_read_values, check_finite
from .normalizers import Normalizer, Softmax
from .scores import ConstantScore, LinearScore, Score
from .selection import Dense, Selection, TopKBySlope
from .temperature import FixedTemperature, Temperature

__all__ = ["Gate", "constant_gate", "softmax_gate", "topk_gate"]


class Gate(nn.Module):
    r"""Log-weights over k experts, :math:`\log w(x) = \text{normalizer}(\text{selection}(s(x) / \tau(x)))`.

    Args:
        score: what the gate thinks of each expert.
        temperature: divides the score; 1 if None.
        selection: puts the score of unselected experts at -inf; keeps all if None.
        normalizer: turns scores into log-weights; softmax if None.

    Raises:
        ValueError: if ``selection`` is to keep more experts than there are.

    Example:
        >>> import torch
        >>> from mixkit.scores import LinearScore
        >>> from mixkit.selection import TopKByScore
        >>> score = LinearScore(2, 4, generator=torch.Generator().manual_seed(0))
        >>> gate = Gate(score, selection=TopKByScore(1))
        >>> gate(torch.ones(3, 2)).exp().sum(-1)
        tensor([1., 1., 1.], grad_fn=<SumBackward1>)
    """

    def __init__(
        self,
        score: Score,
        *,
        temperature: Temperature | None = None,
        selection: Selection | None = None,
        normalizer: Normalizer | None = None,
    ) -> None:
        super().__init__()
        self.score = score
        self.temperature = FixedTemperature(1.0) if temperature is None else temperature
        self.selection = Dense() if selection is None else selection
        self.normalizer = Softmax() if normalizer is None else normalizer
        if self.num_selected > self.num_experts:
            raise ValueError(
                f"selection must keep at most num_experts={self.num_experts} experts, got {self.num_selected}"
            )

    @property
    def num_experts(self) -> int:
        """The number k of experts."""
        return self.score.num_experts

    @property
    def num_selected(self) -> int:
        """How many experts survive the selection at every row."""
        return self.num_experts if self.selection.num_selected is None else self.selection.num_selected

    @property
    def shift_invariant(self) -> bool:
        """Whether adding a constant to all scores leaves the weights unchanged."""
        return self.normalizer.shift_invariant and self.selection.shift_invariant

    def scores(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """The scores over the temperature, before and after the selection; each ``(*batch, n, k)``."""
        self.score.check_covariates(x)
        if can_read_values(x):
            check_finite("x", x.detach())
        slope_scores = self.score.slope_score(x)
        temperature = self.temperature(x)
        scores = self.score.add_bias(slope_scores) / temperature
        kept = self.selection(scores, slope_scores=slope_scores / temperature, x=x, generator=generator)
        return scores, kept

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Log-weights ``(*batch, n, k)`` at ``x (*batch, n, d)``, -inf where unselected."""
        return self.normalizer(self.scores(x, generator)[1])


def softmax_gate(
    num_features: int,
    num_experts: int,
    *,
    bias: bool = True,
    batch_shape: tuple[int, ...] = (),
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> Gate:
    """The softmax gate of Nguyen, Nguyen and Ho (2023), arXiv 2305.03288."""
    return Gate(
        LinearScore(
            num_features,
            num_experts,
            bias=bias,
            batch_shape=batch_shape,
            dtype=dtype,
            device=device,
            generator=generator,
        )
    )


def topk_gate(
    num_features: int,
    num_experts: int,
    num_selected: int,
    *,
    bias: bool = True,
    batch_shape: tuple[int, ...] = (),
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> Gate:
    """The top-K sparse softmax gate of arXiv 2309.13850."""
    score = LinearScore(
        num_features, num_experts, bias=bias, batch_shape=batch_shape, dtype=dtype, device=device, generator=generator
    )
    return Gate(score, selection=TopKBySlope(num_selected))


def constant_gate(
    num_experts: int,
    *,
    batch_shape: tuple[int, ...] = (),
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Gate:
    """Mixing proportions that do not depend on x."""
    return Gate(ConstantScore(num_experts, batch_shape=batch_shape, dtype=dtype, device=device))
