"""Top-K with a selection bias that balances the load and stays out of the weights."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..._validation import at_least_float32, check_finite, check_integer, check_positive
from ...numerics.buffers import KeepsFloat32
from ...numerics.randomness import Randomness
from .base import keep, top_k_mask
from .topk import TopKByScore

__all__ = ["BiasedTopK"]


class BiasedTopK(KeepsFloat32, TopKByScore):
    r"""Keep the K largest :math:`\text{affinity}(s_j) + b_j`; the weights see :math:`s_j` alone.

    The loss-free load balancing of Wang et al. (2024), arXiv 2408.15664: no gradient reaches b; ``update_bias``
    raises it for experts with less than their share of the data and lowers it for the others, by a fixed amount.

    With ``num_groups > 1`` the experts, in contiguous groups of equal size, are chosen from the best groups only
    (DeepSeek-V3, arXiv 2412.19437, section 2.1.2): a group's merit is the sum of its ``merit_size`` largest entries,
    two there and one in DeepSeek-V2 (arXiv 2405.04434, section 2.2.2). Everything outside the best groups is at -inf,
    so it cannot be selected whatever the bias.

    Args:
        num_selected: how many experts to keep at every row, K.
        num_experts: number of experts ``k``.
        affinity: increasing function of the scores to which the bias is added.
        num_groups: number of groups, a divisor of k.
        num_selected_groups: how many groups the experts come from; all if None.
        merit_size: how many entries the merit of a group sums; all of them where a group has fewer.
        update_rate: by how much ``update_bias`` moves the bias.
        batch_shape: leading dimensions of independent models.
        device: device of the bias.

    Attributes:
        selection_bias: b, ``(*batch, k)``, zero at the start; kept in float32 whatever the dtype of the model, as its
            small steps would be lost in less.

    Raises:
        ValueError: if ``num_groups`` does not divide k, or the selected groups hold fewer than K experts.

    Example:
        >>> import torch
        >>> selection = BiasedTopK(1, num_experts=2, update_rate=0.5)
        >>> scores = torch.tensor([[1.0, 0.0]])
        >>> selection.update_bias(torch.tensor([1.0, 0.0]))
        >>> selection(scores, slope_scores=scores, x=torch.ones(1, 1))  # the score that is kept is untouched
        tensor([[-inf, 0.]])
    """

    selection_bias: Tensor
    shift_invariant = False
    float32_buffers = ("selection_bias",)

    def __init__(
        self,
        num_selected: int,
        num_experts: int,
        *,
        affinity: Callable[[Tensor], Tensor] = torch.sigmoid,
        num_groups: int = 1,
        num_selected_groups: int | None = None,
        merit_size: int = 2,
        update_rate: float = 1e-3,
        batch_shape: tuple[int, ...] = (),
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(num_selected)
        check_integer("num_experts", num_experts, low=1)
        self.affinity = affinity
        self.num_groups = check_integer("num_groups", num_groups, low=1, high=num_experts)
        wanted = num_groups if num_selected_groups is None else num_selected_groups
        self.num_selected_groups = check_integer("num_selected_groups", wanted, low=1, high=num_groups)
        self.merit_size = check_integer("merit_size", merit_size, low=1)
        self.update_rate = float(check_positive("update_rate", update_rate))
        self._check_groups(num_experts)
        zeros = torch.zeros(*batch_shape, num_experts, dtype=torch.float32, device=device)
        self.register_buffer("selection_bias", zeros)

    def _check_groups(self, num_experts: int) -> None:
        if num_experts % self.num_groups:
            raise ValueError(f"num_groups must divide num_experts={num_experts}, got {self.num_groups}")
        available = self.num_selected_groups * (num_experts // self.num_groups)
        if self.num_selected > available:
            raise ValueError(
                f"num_selected must be at most {available}, the experts in {self.num_selected_groups} of "
                f"{self.num_groups} groups, got {self.num_selected}"
            )

    def ranking(self, scores: Tensor) -> Tensor:
        """What the experts are ranked on, ``(*batch, n, k)``; -inf for experts that cannot be selected."""
        with torch.no_grad():
            affinities = self.affinity(at_least_float32(scores)) + self.selection_bias.unsqueeze(-2)
            affinities = torch.where(scores > -torch.inf, affinities, -torch.inf)
            return affinities if self.num_groups == self.num_selected_groups else self._in_best_groups(affinities)

    def _in_best_groups(self, affinities: Tensor) -> Tensor:
        groups = affinities.unflatten(-1, (self.num_groups, -1))
        best = top_k_mask(_group_merit(groups, self.merit_size), self.num_selected_groups).unsqueeze(-1)
        return torch.where(best, groups, -torch.inf).flatten(-2)

    def forward(self, scores: Tensor, *, slope_scores: Tensor, x: Tensor, generator: Randomness = None) -> Tensor:
        """The scores ``(*batch, n, k)``, -inf where unselected."""
        return keep(scores, top_k_mask(self.ranking(scores), self.num_selected))

    @torch.no_grad()
    def update_bias(self, load: Tensor) -> None:
        """Move the bias by ``update_rate`` towards balance.

        Args:
            load: how often each expert was selected, ``(*batch, k)``, as counts or as shares
                (:meth:`mixkit.gates.Gate.selection_rate`).

        Raises:
            ValueError: if ``load`` has another shape than the bias, or is not finite.
        """
        if load.shape != self.selection_bias.shape:
            raise ValueError(f"load must have shape {tuple(self.selection_bias.shape)}, got {tuple(load.shape)}")
        load = check_finite("load", load).to(self.selection_bias)
        self.selection_bias += self.update_rate * torch.sign(load.mean(-1, keepdim=True) - load)

    def extra_repr(self) -> str:
        """The settings shown by ``repr``."""
        name = getattr(self.affinity, "__name__", repr(self.affinity))
        groups = (
            f", num_groups={self.num_groups}, num_selected_groups={self.num_selected_groups}"
            f", merit_size={self.merit_size}"
        )
        return f"{super().extra_repr()}, affinity={name}{groups if self.num_groups > 1 else ''}"


def _group_merit(groups: Tensor, merit_size: int) -> Tensor:
    """The sum of the largest finite entries of each group ``(..., num_groups, size)``; -inf if it has none."""
    top = groups.topk(min(merit_size, groups.shape[-1]), dim=-1).values
    finite = top > -torch.inf
    return torch.where(finite.any(-1), torch.where(finite, top, 0.0).sum(-1), -torch.inf)
