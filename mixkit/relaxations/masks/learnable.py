"""Learnable N:M masks: a law over the masks of every group, sampled in training and at its mode afterwards."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn

from mixkit._validation import check_integer, check_positive
from mixkit.schedules import LinearSchedule, Schedule

from ..gumbel_softmax import gumbel_softmax
from .patterns import check_groups, check_nm, from_groups, nm_patterns, to_groups

Relaxation: TypeAlias = Callable[..., Tensor]
"""``relax(logits, temperature, generator=...)``: a differentiable choice of one category, as ``gumbel_softmax``."""


class NMMask(nn.Module, ABC):
    """A learnable N:M mask for one weight: the parametrization ``weight -> weight * mask``.

    In training mode ``forward`` multiplies by a differentiable random mask, in evaluation mode by the most probable
    hard one, which keeps exactly N of M.

    Args:
        shape: of the weight.
        num_kept: N, at least 1 and below M.
        group_size: M; the weight has a multiple of it along ``dim``.
        dim: the dimension along which M entries are consecutive: 1, the inputs of a linear or convolutional layer.
        scale: schedule of the factor of the logits; growing, it moves the law from exploring to decided.
        temperature: schedule of the relaxation's temperature.
        generator: source of the masks in training; torch's default generator unless given.
    """

    step: Tensor

    def __init__(
        self,
        shape: torch.Size | tuple[int, ...],
        num_kept: int,
        group_size: int,
        *,
        dim: int = 1,
        scale: Schedule,
        temperature: Schedule,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_nm(num_kept, group_size)
        check_groups(shape, group_size, dim)
        self.shape, self.num_kept, self.group_size, self.dim = torch.Size(shape), num_kept, group_size, dim
        self.scale, self.temperature, self.generator = scale, temperature, generator
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    @abstractmethod
    def sample_groups(self, scale: float, temperature: float) -> Tensor:
        """A differentiable random mask ``(*rest, size / M, M)``."""

    @abstractmethod
    def marginal_groups(self, scale: float) -> Tensor:
        """Probability that each entry is kept, ``(*rest, size / M, M)``; sums to N in each group."""

    @abstractmethod
    def mode_groups(self) -> Tensor:
        """The most probable mask, boolean ``(*rest, size / M, M)``."""

    def forward(self, weight: Tensor) -> Tensor:
        """The masked weight."""
        mask = self.sample() if self.training else self.hard_mask()
        return weight * mask.to(weight.dtype)

    def sample(self) -> Tensor:
        """A differentiable random mask at the current scale and temperature, of the weight's shape."""
        step = int(self.step)
        return self._spread(self.sample_groups(self.scale(step), self.temperature(step)))

    def marginals(self) -> Tensor:
        """Probability that each entry of the weight is kept, at the current scale; differentiable."""
        return self._spread(self.marginal_groups(self.scale(int(self.step))))

    def hard_mask(self) -> Tensor:
        """The most probable mask, boolean, of the weight's shape: exactly N of M kept."""
        return self._spread(self.mode_groups())

    def retained_energy(self, weight: Tensor) -> Tensor:
        """``E ||weight * mask||^2`` over the law of hard masks, exact: ``sum_i weight_i^2 P(i kept)``; a scalar."""
        return (weight.square() * self.marginals().to(weight.dtype)).sum()

    def advance(self) -> None:
        """Move both schedules on by one step."""
        self.step += 1

    def extra_repr(self) -> str:
        """Pattern, shape and schedules."""
        return (
            f"{self.num_kept}:{self.group_size}, shape={tuple(self.shape)}, dim={self.dim}, "
            f"scale={self.scale}, temperature={self.temperature}"
        )

    def _spread(self, groups: Tensor) -> Tensor:
        return from_groups(groups, self.shape, self.dim)

    def _group_shape(self) -> torch.Size:
        return to_groups(torch.empty(self.shape, device="meta"), self.group_size, self.dim).shape


class PatternMask(NMMask):
    r"""An N:M mask learned as one categorical choice among all patterns of each group (MaskLLM, arXiv:2409.17481).

    A group with logits ``pi (C(M, N),)`` has the mask ``y S``, ``y = softmax((scale pi + g) / temperature)``, ``S`` the
    patterns (``scale`` is their kappa, ``temperature`` their tau). A prior mask ``m`` is built into the start by
    ``pi_j += strength std(pi) (<m, S_j> - N^2 / M)``, which favours patterns that agree with it.

    Args:
        shape: of the weight.
        num_kept: N.
        group_size: M, at most 8 (70 patterns); use ``SubsetMask`` beyond.
        dim: where M entries are consecutive.
        prior: N:M mask to start from, of the weight's shape, for example ``magnitude_mask``; none unless given.
        prior_strength: non-negative; 3 in the paper.
        init_std: standard deviation of the first logits, positive; 0.01 in the paper.
        scale: default from 100 to 500 in 2,000 steps, as in the paper.
        temperature: default from 4 to 0.05 in 2,000 steps, as in the paper.
        relax: the differentiable choice, ``gumbel_softmax`` unless told; ``reinmax`` and ``straight_through`` give
            hard masks in training too.
        generator: source of the first logits and of the masks in training.
        dtype: of the logits.
        device: of the logits.

    Example:
        >>> mask = PatternMask((3, 8), 2, 4, generator=torch.Generator().manual_seed(0))
        >>> mask.eval()(torch.ones(3, 8)).sum(-1)
        tensor([4., 4., 4.])
    """

    patterns: Tensor

    def __init__(
        self,
        shape: torch.Size | tuple[int, ...],
        num_kept: int,
        group_size: int,
        *,
        dim: int = 1,
        prior: Tensor | None = None,
        prior_strength: float = 3.0,
        init_std: float = 0.01,
        scale: Schedule = LinearSchedule(100.0, 500.0, 2000),  # noqa: B008
        temperature: Schedule = LinearSchedule(4.0, 0.05, 2000),  # noqa: B008
        relax: Relaxation = gumbel_softmax,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        check_integer("group_size", group_size, low=2, high=8)
        super().__init__(
            shape, num_kept, group_size, dim=dim, scale=scale, temperature=temperature, generator=generator
        )
        self.relax = relax
        patterns = nm_patterns(num_kept, group_size, dtype=dtype).to(device)
        self.register_buffer("patterns", patterns, persistent=False)
        size = (*self._group_shape()[:-1], len(patterns))
        noise = torch.randn(size, generator=generator, dtype=dtype, device=device)
        logits = float(check_positive("init_std", init_std)) * noise
        if prior is not None:
            logits = logits + prior_strength * init_std * self._agreement(prior)
        self.logits = nn.Parameter(logits)

    def sample_groups(self, scale: float, temperature: float) -> Tensor:
        """``y S`` with ``y`` a differentiable choice of pattern."""
        return self.relax(scale * self.logits, temperature, generator=self.generator) @ self.patterns

    def marginal_groups(self, scale: float) -> Tensor:
        """``softmax(scale pi) S``."""
        return torch.softmax(scale * self.logits, dim=-1) @ self.patterns

    def mode_groups(self) -> Tensor:
        """The pattern of the largest logit, the first of equals."""
        return self.patterns[self.logits.argmax(-1)] > 0

    def _agreement(self, prior: Tensor) -> Tensor:
        """``<prior, S_j> - N^2 / M`` for every group and pattern."""
        kept = to_groups(prior.to(self.patterns), self.group_size, self.dim)
        if prior.shape != self.shape or not (kept.sum(-1) == self.num_kept).all():
            raise ValueError(
                f"prior must be a mask of shape {tuple(self.shape)} that keeps exactly {self.num_kept} of every "
                f"{self.group_size} along dim {self.dim}, got shape {tuple(prior.shape)} and up to "
                f"{int(kept.sum(-1).max())} kept"
            )
        return kept @ self.patterns.T - self.num_kept**2 / self.group_size
