"""Gate: covariates to log-weights over experts, made of a score, a temperature, a selection and a normalizer."""

from dataclasses import replace
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from .._validation import at_least_float32, can_read_values, check_finite, check_positive, check_tensor
from ..numerics.precision import wide_sum
from ..parameters import ParameterRecord, Place
from .normalizers import LinkNormalizer, Normalizer, Softmax
from .router_losses import check_mask, masked_mean
from .scores import Score
from .selections import Dense, Selection
from .temperatures import FixedTemperature, Temperature

__all__ = ["Gate", "Routing", "entropy"]

PartT = TypeVar("PartT")


class Routing(NamedTuple):
    """What routers commonly return; see :meth:`Gate.route`."""

    logits: Tensor  # (*batch, n, k), scores over temperature, before the selection
    weights: Tensor  # (*batch, n, num_selected), decreasing, in float32 at least
    indices: Tensor  # (*batch, n, num_selected), the expert of each weight


def entropy(log_weights: Tensor) -> Tensor:
    r"""The entropy :math:`-\sum_j w_j \log w_j` in nats of each row, ``(..., k)`` to ``(...,)``.

    A weight of zero adds zero, to the value and to the gradient.

    Example:
        >>> import torch
        >>> entropy(torch.tensor([0.5, 0.5, 0.0]).log()).exp()
        tensor(2.)
    """
    wide = at_least_float32(log_weights)
    inside = torch.where(wide == -torch.inf, 0.0, wide)  # where a log of 1 adds zero; a NaN stays one
    return -wide_sum(torch.where(wide == -torch.inf, 0.0, inside.exp() * inside))


class Gate(nn.Module):
    r"""Log-weights over k experts, :math:`\log w(x) = \text{normalizer}(\text{selection}(s(x) / \tau(x)))`.

    Args:
        score: what the gate thinks of each expert.
        temperature: divides the score; 1 if None.
        selection: puts the score of unselected experts at -inf; keeps all if None.
        normalizer: turns scores into log-weights; softmax if None.

    Raises:
        TypeError: if a part is of another kind.
        ValueError: if ``selection`` is to keep more experts than there are, or all experts of ``score`` share a
            coefficient that cancels in a softmax.

    Example:
        >>> import torch
        >>> from mixkit.gates.scores import LinearScore
        >>> from mixkit.gates.selections import TopKByScore
        >>> score = LinearScore(2, 4, generator=torch.Generator().manual_seed(0))
        >>> gate = Gate(score, selection=TopKByScore(1))
        >>> gate(torch.ones(3, 2)).detach().exp().sum(-1)
        tensor([1., 1., 1.])
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
        self.score = _check_part("score", score, Score)
        self.temperature = _check_part(
            "temperature", FixedTemperature(1.0) if temperature is None else temperature, Temperature
        )
        self.selection = _check_part("selection", Dense() if selection is None else selection, Selection)
        self.normalizer = _check_part("normalizer", Softmax() if normalizer is None else normalizer, Normalizer)
        if self.num_selected > self.num_experts:
            raise ValueError(
                f"selection must keep at most num_experts={self.num_experts} experts, got {self.num_selected}"
            )
        if self.shift_invariant and score.cancelling_columns():
            raise ValueError(
                "score must not have coefficients common to all experts before a normalizer that no shift of all "
                f"scores changes, such as a softmax: they cancel, got {', '.join(score.cancelling_columns())} common"
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

    def adapt_record(self, record: ParameterRecord) -> ParameterRecord:
        """The record of a parameter, told what the other parts of the gate leave undetermined.

        A temperature beside a homogeneous score is redundant: multiplying both by one number changes nothing.
        """
        if record.is_generic and record.place is not Place.GATE:
            record = replace(record, block=f"gate.{record.name}", place=Place.GATE)
        is_scale = record.name == f"temperature.{self.temperature.scale_name}"
        return replace(
            record,
            is_translated=record.is_translated and self.shift_invariant,
            is_centered=record.is_centered and (not record.is_translated or self.shift_invariant),
            is_redundant=is_scale and self.score.is_homogeneous and _is_trainable(self.score),
        )

    def scores(self, x: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """The scores over the temperature, before and after the selection; each ``(*batch, n, k)``."""
        self.score.check_covariates(x)
        if can_read_values(x) and not torch.isfinite(x.detach().sum()):  # one pass; the sum may overflow, so look again
            check_finite("x", x.detach())
        slope_scores = self.score.slope_score(x)
        scores = self.temperature.divide(self.score.add_bias(slope_scores), x)
        kept = self.selection(scores, slope_scores=slope_scores, x=x, generator=generator)
        return scores, kept

    def forward(self, x: Tensor, generator: torch.Generator | None = None, *, mask: Tensor | None = None) -> Tensor:
        """Log-weights ``(*batch, n, k)`` at ``x (*batch, n, d)``, -inf where unselected; in float32 at least.

        Args:
            x: covariates ``(*batch, n, d)``.
            generator: source of the noise, for selections that are random.
            mask: True where a row counts, broadcastable to ``(*batch, n)``; all count if None. The others may hold
                anything and have no part in the weights of the rest, even where the normalizer couples rows.
        """
        return self.normalizer(self.scores(_fill(x, mask), generator)[1], mask)

    def route(
        self,
        x: Tensor,
        generator: torch.Generator | None = None,
        *,
        renormalize: bool = True,
        bare: bool = False,
        scale: float = 1.0,
        mask: Tensor | None = None,
    ) -> Routing:
        """The triple that routers of sparse models return.

        Args:
            x: covariates ``(*batch, n, d)``.
            generator: source of the noise, for selections that are random.
            renormalize: whether the weights of the selected experts sum to 1, as in ``forward``; else each is what the
                normalizer gives it among all k experts. The latter has a gradient even where one expert is selected.
            bare: whether the weights are the links of the scores themselves, divided by no sum: the sigmoids of
                DeepSeek-V3 (arXiv 2412.19437, equation 15) with a ``NormalizedSigmoid``. Then ``renormalize`` plays no
                part.
            scale: positive number that the weights are multiplied by at the end, the ``routed_scaling_factor`` of
                configurations of transformers. ``forward`` knows nothing of it.
            mask: as in ``forward``.

        Returns:
            ``logits (*batch, n, k)``, the scores over the temperature before the selection, in the dtype of x;
            ``weights``, in float32 at least, and ``indices (*batch, n, num_selected)``, by decreasing log-weight of
            ``forward``, ties by index.

        Raises:
            ValueError: if ``bare`` is asked of a normalizer that is no
                :class:`~mixkit.gates.normalizers.LinkNormalizer`, or ``scale`` is not positive.
        """
        check_positive("scale", scale)
        logits, kept = self.scores(_fill(x, mask), generator)
        log_weights = self.normalizer(kept, mask)
        indices = _by_decreasing_weight(log_weights, kept > -torch.inf)[..., : self.num_selected]
        if bare:
            shown = _log_links(self.normalizer, logits)
        else:
            shown = log_weights if renormalize else self.normalizer(logits, mask)
        weights = shown.gather(-1, indices).exp()
        return Routing(logits, weights if scale == 1.0 else scale * weights, indices)

    def load(self, x: Tensor, mask: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """The share of the data that each expert receives: its mean weight, ``(*batch, k)``, which sums to 1.

        Args:
            x: covariates ``(*batch, n, d)``.
            mask: True where a row counts, broadcastable to ``(*batch, n)``; all count if None.
            generator: source of the noise, for selections that are random.
        """
        return masked_mean(self(x, generator, mask=mask).exp(), mask)

    def selection_rate(
        self, x: Tensor, mask: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """The share of the rows at which each expert is selected, ``(*batch, k)``, which sums to ``num_selected``.

        An expert whose score is -inf is not selected, though all others be. Arguments are those of ``load``.
        """
        kept = self.scores(_fill(x, mask), generator)[1] > -torch.inf
        return masked_mean(kept.float(), mask)

    def entropy(self, x: Tensor, mask: Tensor | None = None, *, generator: torch.Generator | None = None) -> Tensor:
        """The mean entropy of the weights in nats, ``(*batch,)``, from 0 to ``log(num_selected)``.

        Arguments are those of ``load``.
        """
        return masked_mean(entropy(self(x, generator, mask=mask)).unsqueeze(-1), mask).squeeze(-1)


def _is_trainable(score: Score) -> bool:
    return all(parameter.requires_grad for parameter in score.parameters())


def _check_part(name: str, part: PartT, kind: type) -> PartT:
    if not isinstance(part, kind):
        module = kind.__module__.removesuffix(".base")
        raise TypeError(f"{name} must be a {module}.{kind.__name__}, got {type(part).__name__}")
    return part


def _log_links(normalizer: Normalizer, logits: Tensor) -> Tensor:
    if not isinstance(normalizer, LinkNormalizer):
        raise ValueError(
            f"bare must be False unless the normalizer divides links by their sum, got {type(normalizer).__name__}"
        )
    return normalizer.log_links(logits)


def _fill(x: Tensor, mask: Tensor | None) -> Tensor:
    """Rows that are masked out may hold anything: put zeros there."""
    if mask is None:
        return x
    rows = check_tensor("x", x).shape[:-1]
    return torch.where(
        check_mask(mask, torch.broadcast_shapes(mask.shape[:-1] + rows[-1:], rows)).unsqueeze(-1), x, 0.0
    )


def _by_decreasing_weight(log_weights: Tensor, selected: Tensor) -> Tensor:
    """Indices of the experts by decreasing log-weight; selected experts of weight 0 come before unselected ones."""
    lowest = torch.finfo(log_weights.dtype).min
    ranking = torch.where(selected, log_weights.clamp(min=lowest), -torch.inf)
    return torch.sort(ranking.detach(), dim=-1, descending=True, stable=True).indices
