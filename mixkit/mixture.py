"""The mixture of experts, a module; and what it returns, the conditional distribution of y given x."""

from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from ._validation import check_no_nan
from .experts.base import Experts
from .gates import Gate
from .quantiles import mixture_icdf

__all__ = ["ExpertMixture", "MixtureOfExperts"]


class ExpertMixture(TorchDistribution):
    r"""The law :math:`p(y) = \sum_j w_j f_j(y)`, a mixture whose weights may be exactly zero.

    Args:
        log_weights: ``(*batch, k)``, -inf for an unselected component; must sum to 1 after exp.
        components: a distribution of batch shape ``(*batch, k)``.
        validate_args: check ``log_weights`` (on unless told, as everywhere in torch).

    Raises:
        ValueError: if ``log_weights`` holds NaN or +inf or does not sum to 1 after exp, or if the last batch dimension
            of ``components`` is not k.

    A component of weight -inf is left out exactly. ``torch.distributions.MixtureSameFamily`` keeps a floor under its
    weight, which dominates wherever the selected components have lower density than the floor.

    Example:
        >>> import torch
        >>> from torch.distributions import Normal
        >>> log_weights = torch.tensor([0.0, -torch.inf])
        >>> law = ExpertMixture(log_weights, Normal(torch.tensor([0.0, 50.0]), torch.ones(2)))
        >>> law.log_prob(torch.tensor(50.0))
        tensor(-1250.9189)
    """

    arg_constraints: dict[str, Any] = {}  # noqa: RUF012 (torch's own name and type)

    def __init__(self, log_weights: Tensor, components: Distribution, validate_args: bool | None = None) -> None:
        k = log_weights.shape[-1]
        if components.batch_shape[-1:] != (k,):
            raise ValueError(
                f"components must have {k} components (as log_weights) in the last batch dimension, "
                f"got batch shape {tuple(components.batch_shape)}"
            )
        shape = torch.broadcast_shapes(log_weights.shape, components.batch_shape)
        self.log_weights = log_weights.expand(shape)
        self.components = components if components.batch_shape == shape else components.expand(shape)
        super().__init__(shape[:-1], components.event_shape, validate_args=validate_args)
        if self._validate_args:
            check_normalised(log_weights)

    @constraints.dependent_property
    def support(self) -> Any:
        """The support of the components."""
        return self.components.support

    @property
    def num_components(self) -> int:
        """The number k of components."""
        return int(self.log_weights.shape[-1])

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ExpertMixture":
        """The same law with a larger batch shape."""
        shape = (*torch.Size(batch_shape), self.num_components)
        return ExpertMixture(self.log_weights.expand(shape), self.components.expand(shape), validate_args=False)

    def _pad(self, value: Tensor) -> Tensor:
        return value.unsqueeze(-1 - len(self.event_shape))

    def _joint(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        log_densities = self.components.log_prob(self._pad(value))
        selected = self.log_weights > -torch.inf
        return torch.where(selected, log_densities, 0.0) + self.log_weights

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density of ``value (*sample, *batch, *event)``; shape ``(*sample, *batch)``."""
        return torch.logsumexp(self._joint(value), -1)

    def log_responsibilities(self, value: Tensor) -> Tensor:
        """Log posterior probability of each component given ``value``, ``(*sample, *batch, k)``; -inf if unselected."""
        return torch.log_softmax(self._joint(value), -1)

    def _average(self, values: Tensor, event_dim: int) -> Tensor:
        weights = self.log_weights.exp()[(...,) + (None,) * event_dim]
        return torch.where(weights > 0, weights * values, 0.0).sum(-1 - event_dim)

    @property
    def mean(self) -> Tensor:
        """Expectation, ``(*batch, *event)``."""
        return self._average(self.components.mean, len(self.event_shape))

    @property
    def variance(self) -> Tensor:
        """Variance of each coordinate by the law of total variance, ``(*batch, *event)``."""
        deviation = self.components.mean - self._pad(self.mean)
        return self._average(self.components.variance + deviation.square(), len(self.event_shape))

    def cdf(self, value: Tensor) -> Tensor:
        """Distribution function of a scalar response."""
        self._require_scalar("cdf")
        return self._average(self.components.cdf(self._pad(value)), 0)

    def icdf(self, value: Tensor) -> Tensor:
        """Quantile of a scalar response at probability ``value`` in [0, 1], by bisection to machine precision.

        For a discrete response, the smallest value whose distribution function reaches ``value``.
        """
        self._require_scalar("icdf")
        return mixture_icdf(self, value)

    def _require_scalar(self, what: str) -> None:
        if self.event_shape:
            raise ValueError(f"{what} needs a scalar response, got event shape {tuple(self.event_shape)}")

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size(), *, generator: torch.Generator | None = None) -> Tensor:  # noqa: B008
        """Draw ``(*sample_shape, *batch, *event)``; with ``generator`` the global random state is left alone."""
        shape = (*torch.Size(sample_shape), *self.batch_shape, 1)
        with _Seeded(generator, self.log_weights.device):
            draws = self.components.sample(torch.Size(sample_shape))
            uniform = torch.rand(shape, dtype=torch.float64, device=draws.device)
        cumulative = self.log_weights.double().exp().cumsum(-1)
        chosen = (uniform * cumulative[..., -1:] >= cumulative).sum(-1, keepdim=True)
        chosen = chosen[(...,) + (None,) * len(self.event_shape)]
        index = chosen.expand(*shape, *self.event_shape)
        dim = -1 - len(self.event_shape)
        return draws.gather(dim, index).squeeze(dim)


def check_normalised(log_weights: Tensor) -> Tensor:
    """Return ``log_weights`` if they hold no NaN or +inf and sum to 1 after exp along the last dimension."""
    check_no_nan("log_weights", log_weights.detach())
    total = torch.logsumexp(log_weights.detach().float(), -1).exp()
    worst = (total - 1.0).abs().max() if total.numel() else total.new_zeros(())
    if worst > max(1e-4, 8 * torch.finfo(log_weights.dtype).eps):
        raise ValueError(f"log_weights must sum to 1 after exp, got sums off by up to {float(worst):.3g}")
    return log_weights


class _Seeded:
    """Run torch's distributions, which take no generator, under the state of one; restore the global state after."""

    def __init__(self, generator: torch.Generator | None, device: torch.device) -> None:
        self.generator = generator
        self.fork = torch.random.fork_rng(
            devices=[device] if device.type == "cuda" else [], enabled=generator is not None
        )

    def __enter__(self) -> None:
        self.fork.__enter__()
        if self.generator is not None:
            seed = torch.randint(2**62, (), generator=self.generator, device=self.generator.device)
            torch.manual_seed(int(seed))

    def __exit__(self, *exc: Any) -> None:
        self.fork.__exit__(*exc)


class MixtureOfExperts(nn.Module):
    r"""A mixture of experts, :math:`p(y \mid x) = \sum_j w_j(x) f_j(y \mid x)`.

    Args:
        gate: gives the log-weights (see :mod:`mixkit.gates`).
        experts: give one law of y per expert (see :mod:`mixkit.experts`).

    Raises:
        ValueError: if gate and experts differ in the number of experts.

    Calling the module on ``x (*batch, n, d)`` returns an :class:`ExpertMixture` of batch shape ``(*batch, n)``.

    Example:
        >>> import torch
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> generator = torch.Generator().manual_seed(0)
        >>> gate = softmax_gate(1, 2, generator=generator)
        >>> model = MixtureOfExperts(gate, linear_gaussian_experts(1, 2, generator=generator))
        >>> model(torch.zeros(5, 1)).mean.shape
        torch.Size([5])
    """

    def __init__(self, gate: Gate, experts: Experts) -> None:
        super().__init__()
        if gate.num_experts != experts.num_experts:
            raise ValueError(
                f"gate and experts must have one number of experts, got {gate.num_experts} and {experts.num_experts}"
            )
        self.gate = gate
        self.experts = experts

    @property
    def num_experts(self) -> int:
        """The number k of experts."""
        return self.experts.num_experts

    def forward(self, x: Tensor) -> ExpertMixture:
        """The conditional law of y at each row of ``x (*batch, n, d)``."""
        return ExpertMixture(self.gate(x), self.experts(x), validate_args=False)

    def log_prob(self, x: Tensor, y: Tensor) -> Tensor:
        """Log-density of each observation, ``(*batch, n)``."""
        return self(x).log_prob(self.experts.check_response(y))
