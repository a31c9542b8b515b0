"""Learnable N:M masks: a distribution over the masks of every group, sampled in training and at its mode afterwards."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from ..._validation import at_least_float32, check_integer, check_positive
from ...gates.selections import top_k_mask
from ...gates.temperatures import ScheduledTemperature
from ...numerics.buffers import KeepsFloat32
from ...numerics.precision import narrow, widest_dtype
from ...schedules import LinearSchedule, Schedule
from ..gradient_estimator import PathEstimator
from ..gumbel_softmax import GumbelSoftmax
from ..subsets import Simple, SubsetSampler, subset_log_marginals
from .patterns import check_groups, check_nm, from_groups, nm_patterns, to_groups

_DEFAULT_SCALE = LinearSchedule(100.0, 500.0, 2000)


class NMMask(KeepsFloat32, ABC):
    """A learnable N:M mask for one weight: the parametrization ``weight -> weight * mask``.

    In training mode ``forward`` multiplies by a differentiable random mask, in evaluation mode by the most probable
    hard one, which keeps exactly N of M.

    Args:
        shape: of the weight.
        num_kept: N, at least 1 and below M.
        group_size: M; the weight has a multiple of it along ``dim``.
        dim: the dimension along which M entries are consecutive: 1, the inputs of a linear or convolutional layer.
        scale: schedule of the factor of the logits; growing, it moves the distribution from exploring to decided.
        generator: source of the masks in training; torch's default generator unless given.
    """

    step: Tensor
    scale_value: Tensor

    float32_buffers = ("scale_value",)

    def __init__(
        self,
        shape: torch.Size | tuple[int, ...],
        num_kept: int,
        group_size: int,
        *,
        dim: int = 1,
        scale: Schedule = _DEFAULT_SCALE,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_nm(num_kept, group_size)
        check_groups(shape, group_size, dim)
        self.shape, self.num_kept, self.group_size, self.dim = torch.Size(shape), num_kept, group_size, dim
        self.scale, self.generator = scale, generator
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self.register_buffer("scale_value", torch.tensor(scale(0), dtype=torch.float32))

    @abstractmethod
    def sample_groups(self) -> Tensor:
        """A differentiable random mask ``(*rest, size / M, M)`` at the current scale."""

    @abstractmethod
    def marginal_groups(self) -> Tensor:
        """Probability that each entry is kept, ``(*rest, size / M, M)``; sums to N in each group."""

    @abstractmethod
    def mode_groups(self) -> Tensor:
        """The most probable mask, boolean ``(*rest, size / M, M)``."""

    def forward(self, weight: Tensor) -> Tensor:
        """The masked weight."""
        mask = self.sample() if self.training else self.hard_mask()
        return weight * mask.to(weight.dtype)

    def sample(self) -> Tensor:
        """A differentiable random mask at the current scale, of the weight's shape."""
        return self._spread(self.sample_groups())

    def marginals(self) -> Tensor:
        """Probability that each entry of the weight is kept, at the current scale; differentiable."""
        return self._spread(self.marginal_groups())

    def hard_mask(self) -> Tensor:
        """The most probable mask, boolean, of the weight's shape: exactly N of M kept."""
        return self._spread(self.mode_groups())

    def retained_energy(self, weight: Tensor) -> Tensor:
        """``E ||weight * mask||^2`` over hard masks, exact: ``sum_i weight_i^2 P(i kept)``; a scalar."""
        wide = widest_dtype(weight)
        energy = (weight.to(wide).square() * self.marginals().to(wide)).sum()
        return narrow(energy, weight)

    @torch.no_grad()
    def advance(self) -> None:
        """Move the scale on by one step of its schedule; ``advance_masks`` moves temperatures too."""
        self.step += 1
        self.scale_value.fill_(self.scale(int(self.step)))

    def extra_repr(self) -> str:
        """Pattern, shape and scale."""
        return f"{self.num_kept}:{self.group_size}, shape={tuple(self.shape)}, dim={self.dim}, scale={self.scale}"

    def _spread(self, groups: Tensor) -> Tensor:
        return from_groups(groups, self.shape, self.dim)

    def _first_logits(
        self, count: int, std: float, dtype: torch.dtype | None, device: torch.device | str | None
    ) -> Tensor:
        """Normal logits ``(*rest, size / M, count)``."""
        groups = to_groups(torch.empty(self.shape, device="meta"), self.group_size, self.dim).shape[:-1]
        noise = torch.randn(*groups, count, generator=self.generator, dtype=dtype, device=device)
        return float(check_positive("init_std", std)) * noise

    def _prior_groups(self, prior: Tensor) -> Tensor:
        """The prior mask in groups, after checking that it is a mask that keeps exactly N of M."""
        if prior.shape != self.shape:
            raise ValueError(f"prior must have the shape of the weight {tuple(self.shape)}, got {tuple(prior.shape)}")
        kept = to_groups(prior != 0, self.group_size, self.dim)
        if not (kept.sum(-1) == self.num_kept).all():
            raise ValueError(
                f"prior must keep exactly {self.num_kept} of every {self.group_size} along dim {self.dim}, "
                f"got from {int(kept.sum(-1).min())} to {int(kept.sum(-1).max())}"
            )
        return kept


class PatternMask(NMMask):
    r"""An N:M mask learned as one categorical choice among all patterns of each group (MaskLLM, arXiv:2409.17481).

    A group with logits ``pi (C(M, N),)`` has the mask ``y S``, ``y = softmax((scale pi + g) / temperature)``, ``S`` the
    patterns (``scale`` is their kappa, ``temperature`` their tau). A prior mask ``m`` is built into the start by
    ``pi_j += strength std(pi) (<m, S_j> - N^2 / M)``, which favors patterns that agree with it.

    Args:
        shape: of the weight.
        num_kept: N.
        group_size: M, at most 8 (70 patterns); use ``SubsetMask`` beyond.
        dim: where M entries are consecutive.
        prior: N:M mask to start from, of the weight's shape, for example ``magnitude_mask``; none unless given.
        prior_strength: 3 in the paper.
        init_std: standard deviation of the first logits, positive; 0.01 in the paper.
        scale: from 100 to 500 in 2,000 steps unless told, as in the paper.
        estimator: the differentiable choice; unless told ``GumbelSoftmax`` with a temperature from 4 to 0.05 in 2,000
            steps, as in the paper. ``ReinMax`` and ``StraightThrough`` give hard masks in training too.
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
        scale: Schedule = _DEFAULT_SCALE,
        estimator: PathEstimator | None = None,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        check_integer("group_size", group_size, low=2, high=8)
        super().__init__(shape, num_kept, group_size, dim=dim, scale=scale, generator=generator)
        self.estimator = estimator or GumbelSoftmax(ScheduledTemperature(LinearSchedule(4.0, 0.05, 2000)))
        patterns = nm_patterns(num_kept, group_size, dtype=dtype).to(device)
        self.register_buffer("patterns", patterns, persistent=False)
        logits = self._first_logits(len(patterns), init_std, dtype, device)
        if prior is not None:
            agreement = self._prior_groups(prior).to(patterns) @ patterns.T - num_kept**2 / group_size
            logits = logits + prior_strength * init_std * agreement
        self.logits = nn.Parameter(logits)

    def sample_groups(self) -> Tensor:
        """``y S`` with ``y`` a differentiable choice of pattern."""
        chosen = self.estimator(self.scale_value * at_least_float32(self.logits), self.generator)
        return chosen @ self.patterns.to(chosen)

    def marginal_groups(self) -> Tensor:
        """``softmax(scale pi) S``."""
        probs = torch.softmax(self.scale_value * at_least_float32(self.logits), dim=-1)
        return probs @ self.patterns.to(probs)

    def mode_groups(self) -> Tensor:
        """The pattern of the largest logit, the first of equals."""
        return self.patterns[self.logits.argmax(-1)] > 0


class SubsetMask(NMMask):
    r"""An N:M mask with one logit for each weight, for any M: no pattern is enumerated.

    The distribution of a group is the exponential family over subsets, ``p(S) \propto exp(scale sum_{i in S}
    theta_i)``, whose marginals are exact (SIMPLE, arXiv:2210.01941). M logits cannot favor one combination of weights
    beyond each weight's own merit, which ``PatternMask`` can. A prior mask ``m`` adds ``strength std (m - N / M)`` to
    the start.

    Args:
        shape: of the weight.
        num_kept: N.
        group_size: M.
        dim: where M entries are consecutive.
        prior: N:M mask to start from, of the weight's shape; none unless given.
        prior_strength: of the prior.
        init_std: standard deviation of the first logits, positive.
        scale: from 100 to 500 in 2,000 steps unless told.
        sampler: draws the masks in training; unless told ``Simple()``: exact hard masks, gradient of the marginals.
        generator: source of the first logits and of the masks in training.
        dtype: of the logits.
        device: of the logits.

    Example:
        >>> mask = SubsetMask((2, 64), 16, 32, generator=torch.Generator().manual_seed(0))  # 601,080,390 patterns
        >>> mask(torch.ones(2, 64)).sum(-1)
        tensor([32., 32.], grad_fn=<SumBackward1>)
    """

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
        scale: Schedule = _DEFAULT_SCALE,
        sampler: SubsetSampler | None = None,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(shape, num_kept, group_size, dim=dim, scale=scale, generator=generator)
        self.sampler = sampler or Simple()
        logits = self._first_logits(group_size, init_std, dtype, device)
        if prior is not None:
            logits = logits + prior_strength * init_std * (self._prior_groups(prior).to(logits) - num_kept / group_size)
        self.logits = nn.Parameter(logits)

    def sample_groups(self) -> Tensor:
        """A random subset, as the sampler draws it."""
        return self.sampler(self.scale_value * at_least_float32(self.logits), self.num_kept, self.generator)

    def marginal_groups(self) -> Tensor:
        """Exact inclusion probabilities of the exponential family."""
        return subset_log_marginals(self.scale_value * at_least_float32(self.logits), self.num_kept).exp()

    def mode_groups(self) -> Tensor:
        """The N largest logits, the lower index of equals."""
        return top_k_mask(self.logits, self.num_kept)
