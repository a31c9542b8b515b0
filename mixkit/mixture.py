"""The mixture of experts, a module; and what it returns, the conditional distribution of y given x."""

from typing import Any

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from ._validation import at_least_float32, check_no_nan, check_tensor
from .distributions import has_atom
from .distributions.mixture_quantiles import mixture_icdf
from .distributions.values import ZeroOutsideSupport
from .experts.base import Experts
from .gates import Gate

__all__ = ["ExpertMixture", "MixtureOfExperts"]


class ExpertMixture(ZeroOutsideSupport, TorchDistribution):
    r"""The distribution :math:`p(y) = \sum_j w_j f_j(y)`, a mixture whose weights may be exactly zero.

    Args:
        log_weights: ``(*batch, k)``, -inf for an unselected component; must sum to 1 after exp.
        components: a distribution of batch shape ``(*batch, k)``.
        validate_args: check ``log_weights`` (on unless told, as everywhere in torch).

    Raises:
        TypeError: if ``log_weights`` is not a floating tensor, or ``components`` not a distribution.
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
        _check_parts(log_weights, components)
        shape = torch.broadcast_shapes(log_weights.shape, components.batch_shape)
        self.log_weights = log_weights.expand(shape)
        self.components = components if components.batch_shape == shape else components.expand(shape)
        super().__init__(shape[:-1], components.event_shape, validate_args=validate_args)
        if self._validate_args:
            check_normalized(log_weights)

    @constraints.dependent_property
    def support(self) -> Any:
        """The support of the components."""
        return self.components.support

    @property
    def num_components(self) -> int:
        """The number k of components."""
        return int(self.log_weights.shape[-1])

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ExpertMixture":
        """The same distribution with a larger batch shape."""
        shape = (*torch.Size(batch_shape), self.num_components)
        law = ExpertMixture(self.log_weights.expand(shape), self.components.expand(shape), validate_args=False)
        law._validate_args = self._validate_args
        return law

    def __repr__(self) -> str:
        """The number and kind of the components, and the shapes."""
        shapes = f"batch_shape={tuple(self.batch_shape)}, event_shape={tuple(self.event_shape)}"
        return f"ExpertMixture({self.num_components} x {type(self.components).__name__}, {shapes})"

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
        joint = self._joint(value)
        impossible = _impossible(joint)
        return torch.where(impossible[..., 0], -torch.inf, torch.logsumexp(torch.where(impossible, 0.0, joint), -1))

    def log_responsibilities(self, value: Tensor) -> Tensor:
        """Log posterior probability of each component given ``value``, ``(*sample, *batch, k)``; -inf if unselected.

        At a value to which every component gives density zero the posterior is not defined; the weights are returned.
        """
        joint = self._joint(value)
        return torch.log_softmax(torch.where(_impossible(joint), self.log_weights.to(joint.dtype), joint), -1)

    def _average(self, values: Tensor, event_dim: int) -> Tensor:
        weights = torch.softmax(at_least_float32(self.log_weights), -1)[(...,) + (None,) * event_dim]
        average = (weights * torch.where(weights > 0, values, 0.0)).sum(-1 - event_dim)
        return average.to(torch.promote_types(values.dtype, self.log_weights.dtype))

    @property
    def mean(self) -> Tensor:
        """Expectation, ``(*batch, *event)``."""
        return self._average(self.components.mean, len(self.event_shape))

    @property
    def variance(self) -> Tensor:
        """Variance of each coordinate, ``(*batch, *event)``; inf where the mean of a component overflows."""
        mean = self.components.mean
        squared = torch.where(mean.isinf(), torch.inf, (mean - self._pad(self.mean)).square())
        return self._average(self.components.variance + squared, len(self.event_shape))

    def has_atom(self, value: Tensor) -> Tensor:
        """Whether a component of positive weight has an atom at ``value (*sample, *batch)``, for a scalar response."""
        self._require_scalar("has_atom")
        return (has_atom(self.components, self._pad(value)) & (self.log_weights > -torch.inf)).any(-1)

    def cdf(self, value: Tensor) -> Tensor:
        """Distribution function of a scalar response at ``value (*sample, *batch)``."""
        self._require_scalar("cdf")
        return self._average(self.components.cdf(self._pad(value)), 0).clamp(max=1.0)

    def icdf(self, value: Tensor) -> Tensor:
        """Quantile of a scalar response: the smallest y whose distribution function reaches ``value`` in [0, 1].

        Found to the last bit, with no gradient (see :func:`mixkit.distributions.mixture_quantiles.mixture_icdf`); at 0
        and 1, the ends of the support.
        """
        self._require_scalar("icdf")
        return mixture_icdf(self, value)

    def _require_scalar(self, what: str) -> None:
        if self.event_shape:
            raise ValueError(f"{what} needs a scalar response, got event shape {tuple(self.event_shape)}")

    @torch.no_grad()
    def sample(self, sample_shape: Any = torch.Size(), *, generator: torch.Generator | None = None) -> Tensor:  # noqa: B008
        """Draw ``(*sample_shape, *batch, *event)``; with ``generator`` the global random state is left alone."""
        sample_shape = torch.Size(sample_shape)
        with _Seeded(generator, self.log_weights.device):
            draws = self.components.sample(sample_shape)
            uniform = torch.rand((*sample_shape, *self.batch_shape, 1), dtype=torch.float64, device=draws.device)
        cumulative = self.log_weights.double().exp().cumsum(-1)
        total = cumulative[..., -1:]
        # A component is passed over if the draw is beyond its share; never the last of positive weight.
        passed = (uniform * total >= cumulative) & (cumulative < total)
        index = passed.sum(-1, keepdim=True)[(...,) + (None,) * len(self.event_shape)]
        dim = -1 - len(self.event_shape)
        return draws.gather(dim, index.expand(*passed.shape[:-1], 1, *self.event_shape)).squeeze(dim)


def _impossible(joint: Tensor) -> Tensor:
    """Where no component gives the value a positive density, ``(..., 1)``: logsumexp has NaN gradients there."""
    return (joint == -torch.inf).all(-1, keepdim=True)


def _check_parts(log_weights: Tensor, components: Distribution) -> None:
    check_tensor("log_weights", log_weights)
    if not isinstance(components, Distribution):
        raise TypeError(f"components must be a torch.distributions.Distribution, got {type(components).__name__}")
    if log_weights.ndim == 0 or log_weights.shape[-1] == 0:
        raise ValueError(f"log_weights must have shape (*batch, k) with k >= 1, got {tuple(log_weights.shape)}")
    k = log_weights.shape[-1]
    if components.batch_shape[-1:] != (k,):
        raise ValueError(
            f"components must have {k} components (as log_weights) in the last batch dimension, "
            f"got batch shape {tuple(components.batch_shape)}"
        )


def check_normalized(log_weights: Tensor) -> Tensor:
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
        self.default = _default_generator(device)

    def __enter__(self) -> None:
        if self.generator is not None:
            seed = torch.randint(2**62, (), generator=self.generator, device=self.generator.device)
            self.state = self.default.get_state()
            self.default.manual_seed(int(seed))

    def __exit__(self, *exc: Any) -> None:
        if self.generator is not None:
            self.default.set_state(self.state)


def _default_generator(device: torch.device) -> torch.Generator:
    """The generator that torch draws from on ``device`` when given none."""
    if device.type != "cuda":
        return torch.default_generator
    torch.cuda.init()
    return torch.cuda.default_generators[torch.cuda.current_device() if device.index is None else device.index]


class MixtureOfExperts(nn.Module):
    r"""A mixture of experts, :math:`p(y \mid x) = \sum_j w_j(x) f_j(y \mid x)`.

    Args:
        gate: gives the log-weights (see :mod:`mixkit.gates`).
        experts: give one distribution of y per expert (see :mod:`mixkit.experts`).

    Raises:
        TypeError: if ``gate`` is not a gate, or ``experts`` not a family of experts.
        ValueError: if gate and experts differ in the number of experts.

    Calling the module on ``x (*batch, n, d)`` returns an :class:`ExpertMixture` of batch shape ``(*batch, n)``. If the
    experts have an offset (:class:`~mixkit.experts.predictors.Predictor`) or numbers of trials
    (:class:`~mixkit.experts.BinomialExperts`), these are further columns of x, the last, which the gate does not see.

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
        if not isinstance(gate, Gate):
            raise TypeError(f"gate must be a mixkit.gates.Gate, got {type(gate).__name__}")
        if not isinstance(experts, Experts):
            raise TypeError(f"experts must be mixkit.experts.Experts, got {type(experts).__name__}")
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

    @property
    def has_offset(self) -> bool:
        """Whether x has a column that is an offset of the experts."""
        return self.experts.has_offset

    @property
    def num_known(self) -> int:
        """How many of the last columns of x are known to the experts, as an offset is, and no covariates."""
        return len(self.experts.known_columns)

    def covariates(self, x: Tensor) -> Tensor:
        """What the gate sees of ``x``: all columns but those known to the experts."""
        return x[..., : x.shape[-1] - self.num_known]

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> ExpertMixture:
        """The conditional distribution of y at each row of ``x (*batch, n, d)``, of its dtype.

        ``generator`` is for gates that draw noise.
        """
        log_weights = self.gate(self.covariates(x), generator)
        return ExpertMixture(log_weights.to(x.dtype), self.experts(x), validate_args=False)

    def log_prob(self, x: Tensor, y: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """Log-density of each observation, ``(*batch, n)``.

        Args:
            x: covariates ``(*batch, n, d)``.
            y: responses ``(*batch, n)`` or ``(*batch, n, p)``.
            generator: source of the noise, for gates that draw some.

        Raises:
            ValueError: if ``y`` has not one row for each of ``x``, or is no response of the family.
        """
        law = self(x, generator)
        self.experts.check_rows(x, y)
        shape = (*law.batch_shape[-1:], *law.event_shape)
        if y.shape[-len(shape) :] != shape:
            raise ValueError(f"y must have shape (*batch, {', '.join(map(str, shape))}), got {tuple(y.shape)}")
        return law.log_prob(y)
