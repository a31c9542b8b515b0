"""The posterior of a mixture of experts: a Pyro model, and the same density on one flat real vector."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.func import functional_call

from mixkit.mixture import ExpertMixture, MixtureOfExperts
from mixkit.parameters import records_of

from ..data.columns import column_names
from ..data.dataset import as_data
from .prior_sites import as_site, check_kind, override, real_transform
from .priors import Prior, default_priors

__all__ = ["BayesianMixtureOfExperts", "over_draws"]

_AT_ONCE = 2**21  # numbers of log-density terms held by one batch of draws


class BayesianMixtureOfExperts:
    r"""A mixture of experts with priors, given data: :math:`p(\theta) \prod_i p(y_i \mid x_i, \theta)`.

    The object is a Pyro model: called, it samples every parameter of the module at a site of its name, and observes y.
    Any of Pyro's guides and samplers works on it. :func:`~estimators.bayes.fit_nuts`,
    :func:`~estimators.bayes.fit_svi` and :func:`~estimators.bayes.fit_chi_square` work on the same density as a
    function of one real vector, ``log_density``, which is faster.

    The parameters are those of the module, in the units of the data, with no reference expert; ``log_std`` and its like
    are on the real line already.

    Args:
        model: any gate and experts, unbatched; a fitted one where inference is to start. It is copied.
        x: covariates ``(n, d)``; the columns of a frame go by their names in predictions from other frames.
        y: responses ``(n,)``, or ``(n, p)`` for experts of a vector response.
        priors: distributions that replace the defaults of :mod:`estimators.bayes.priors`, by parameter name, in the
            units of the data; ``slope`` will do for ``experts.predictor.slope``, and ``std`` puts a distribution on the
            exponential of ``log_std``. A function of the parameters that have one, by name, may stand for a
            distribution.
        ordering: what tells experts apart. "nearest" permutes the experts of each draw so that it comes nearest to the
            posterior mode; the name of a parameter sorts them by its first entry; None leaves draws alone. All is done
            after the sampling: experts have one prior, the posterior is k! copies of one piece, and naming the experts
            afterwards draws from that piece just as a constraint would, without the corners that a constraint cuts
            into it. No effect where a prior or a network tells the experts apart.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: for bad data, a prior of another shape or of no parameter, or an unknown ordering.

    Source: Marin, Mengersen, Robert (2005), Bayesian modeling and inference on mixtures of distributions, section 4,
    for naming by the nearest permutation; Stephens (2000), JRSS B 62, 795-809, for doing so after the sampling.

    Example:
        >>> import pyro.distributions as dist
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> from mixkit.datasets import load_tone
        >>> model = MixtureOfExperts(softmax_gate(1, 2), linear_gaussian_experts(1, 2))
        >>> bayes = BayesianMixtureOfExperts(model, *load_tone(), priors={"std": dist.HalfNormal(0.5)})
        >>> bayes.num_params, list(bayes.shapes)[:2]
        (10, ['gate.score.bias', 'gate.score.weight'])
    """

    def __init__(
        self,
        model: MixtureOfExperts,
        x: Any,
        y: Any,
        *,
        priors: Mapping[str, Prior] | None = None,
        ordering: str | None = "nearest",
    ) -> None:
        check_kind("model", model, MixtureOfExperts, "of a fit: model, of a regressor: result_.model")
        data = as_data(model, x, y, None, is_batch=False)
        self.model = copy.deepcopy(model).to(torch.float64).eval()
        device = next(self.model.parameters()).device
        self.feature_names = column_names(x)
        self.x, self.y = data.x[0].to(device), data.y[0].to(device)
        self.shapes = {name: p.shape for name, p in self.model.named_parameters() if p.requires_grad}
        self.records = {record.name: record for record in records_of(self.model) if record.name in self.shapes}
        defaults = default_priors(self.model, self.x, self.y)
        chosen = override({name: defaults[name] for name in self.shapes}, priors or {}, self.records)
        self.laws = {n: as_site(n, p, self.shapes[n]) for n, p in chosen.items() if isinstance(p, Distribution)}
        self.conditional = {n: p for n, p in chosen.items() if n not in self.laws}
        self._transforms = {name: real_transform(law) for name, law in self.laws.items()}
        self.num_params = sum(shape.numel() for shape in self.shapes.values())
        self.ordering = self._checked_ordering(ordering)
        self.log_likelihood(self.read(self.model))  # what is wrong with model and data together shows here

    def _checked_ordering(self, ordering: str | None) -> str | None:
        if ordering is None or ordering == "nearest":
            return ordering
        found = [name for name in self.shapes if name == ordering or name.endswith(f".{ordering}")]
        is_own = len(found) == 1 and self.records[found[0]].pattern is None
        if not is_own or self.shapes[found[0]][:1] != (self.model.num_experts,):
            raise ValueError(
                f"ordering must be None, 'nearest' or a parameter with one row an expert, of {list(self.shapes)}, "
                f"got {ordering!r}"
            )
        return found[0]

    def __repr__(self) -> str:
        """The main figures in a line."""
        sizes = f"k={self.model.num_experts}, n={self.n}, parameters={self.num_params}"
        return f"BayesianMixtureOfExperts({sizes}, ordering={self.ordering!r})"

    @property
    def n(self) -> int:
        """The number of observations."""
        return len(self.y)

    def __call__(self, x: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """The Pyro model: parameters from their priors, y given x observed (drawn, where x is given without y)."""
        y = self.y if x is None else y
        x = self.x if x is None else x
        parameters = {name: pyro.sample(name, law).to(self.x) for name, law in self.laws.items()}
        for name, prior in self.conditional.items():
            site = as_site(name, prior(parameters), self.shapes[name])  # type: ignore[operator]
            parameters[name] = pyro.sample(name, site).to(self.x)
        law = functional_call(self.model, parameters, (x,))
        with pyro.plate("data", len(x)):
            return pyro.sample("y", law, obs=y)

    def law(self, parameters: Mapping[str, Tensor], x: Tensor) -> ExpertMixture:
        """The conditional distribution of y at each row of ``x (n, d)``, at parameters by name."""
        return functional_call(self.model, dict(parameters), (x,))

    def log_prior(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Log prior density of the parameters."""
        total = self.x.new_zeros(())
        for name, law in self.laws.items():
            total = total + law.log_prob(parameters[name])
        for name, prior in self.conditional.items():
            total = total + prior(parameters).log_prob(parameters[name]).sum()  # type: ignore[operator]
        return total

    def log_likelihood(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """Log-likelihood of the data."""
        return self.law(parameters, self.x).log_prob(self.y).sum()

    def log_density(self, vector: Tensor) -> Tensor:
        """Log of prior times likelihood at ``vector (P,)``, as a density on the real vectors."""
        parameters = self.parameters(vector)
        return self.log_prior(parameters) + self.log_likelihood(parameters) + self._log_jacobian(vector, parameters)

    def _real(self, vector: Tensor) -> dict[str, Tensor]:
        """The entries of ``vector (*batch, P)`` by the parameter they belong to."""
        parts = vector.split([shape.numel() for shape in self.shapes.values()], -1)
        shapes = self.shapes.items()
        return {n: part.reshape((*part.shape[:-1], *s)) for (n, s), part in zip(shapes, parts, strict=True)}

    def parameters(self, vector: Tensor) -> dict[str, Tensor]:
        """Parameters by name ``(*batch, *shape)`` at real vectors ``(*batch, P)``."""
        parameters = self._real(vector)
        for name, transform in self._transforms.items():
            if transform is not None:
                parameters[name] = transform(parameters[name])
        return parameters

    def _log_jacobian(self, vector: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
        total = vector.new_zeros(())
        if any(self._transforms.values()):
            for name, real in self._real(vector).items():
                transform = self._transforms.get(name)
                if transform is not None:
                    total = total + transform.log_abs_det_jacobian(real, parameters[name]).sum()
        return total

    def vector(self, parameters: Mapping[str, Tensor]) -> Tensor:
        """The real vector ``(P,)`` of parameters by name; those outside a prior's support move to a point inside."""
        parts = []
        for name, shape in self.shapes.items():
            value, transform = parameters[name].detach().to(self.x).reshape(shape), self._transforms.get(name)
            if transform is not None:
                real = transform.inv(value)
                value = torch.where(torch.isfinite(real), real, 0.0)
            parts.append(value.flatten())
        return torch.cat(parts)

    def read(self, model: MixtureOfExperts) -> dict[str, Tensor]:
        """Parameters of a model of this form, its gate translated to mean zero over experts where that is free."""
        parameters = {name: model.get_parameter(name).detach().to(self.x) for name in self.shapes}
        for name in self.translated:
            pattern, value = self.records[name].pattern, parameters[name]
            parameters[name] = value - value.mean(0) if pattern is None else pattern.centered(value)
        return parameters

    @property
    def translated(self) -> list[str]:
        """Gate parameters to whose rows one vector can be added with no effect on the likelihood."""
        return [name for name, record in self.records.items() if record.is_translated]


def over_draws(function: Callable[..., Tensor], draws: Any, *, terms: int = 1) -> Tensor:
    """``function`` of each draw, stacked: by :func:`torch.vmap` where it can, else one after another.

    Args:
        function: of one draw, a tensor or a dictionary of tensors.
        draws: the same with a leading dimension of draws.
        terms: numbers held by one call, which bounds how many are made at once.
    """
    chunk = max(1, _AT_ONCE // terms)
    try:
        return torch.vmap(function, chunk_size=chunk)(draws)
    except RuntimeError:  # a part reads the values of its parameters
        return torch.stack([function(draw) for draw in _each(draws)])


def _each(draws: Any) -> list[Any]:
    if isinstance(draws, Tensor):
        return list(draws)
    count = len(next(iter(draws.values())))
    return [{name: value[index] for name, value in draws.items()} for index in range(count)]
