"""The mixing measure: the parameters of a Gaussian mixture of experts as the papers write them."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ._validation import check_finite, check_integer, check_positive, check_tensor
from .experts import GaussianExperts, linear_gaussian_experts
from .gates import Gate, softmax_gate
from .mixture import MixtureOfExperts
from .predictors import LinearPredictor

__all__ = ["MixingMeasure"]


@dataclass(frozen=True, eq=False, repr=False)
class MixingMeasure:
    r"""The measure :math:`G = \sum_i \exp(\beta_{0i}) \delta_{(\beta_{1i}, a_i, b_i, \sigma_i^2)}` with k atoms.

    With a softmax gate it stands for the conditional density
    :math:`\sum_i \mathrm{softmax}_i(\beta_{1}^\top x + \beta_{0}) N(y; a_i^\top x + b_i, \sigma_i^2)`, which stays
    the same when the atoms are permuted and when one ``(t_0, t_1)`` is added to every ``(beta_0, beta_1)``: these are
    the two freedoms that :meth:`canonical` and :meth:`align` take away.

    With other gates :math:`\beta_1` is what their score makes of it (``Score.weight_name``): the centres of a Laplace
    gate, whose weights are softmax of :math:`-\lVert x - \beta_1 \rVert + \beta_0`. A temperature is no part of the
    measure.

    Args:
        gate_bias: beta_0, ``(*batch, k)``.
        gate_weight: beta_1, ``(*batch, k, d)``; a Laplace gate's centres.
        slope: a, ``(*batch, k, d)``.
        intercept: b, ``(*batch, k)``.
        variance: sigma^2, ``(*batch, k)``, positive.

    Raises:
        TypeError: if an argument is not a floating tensor, or their dtypes differ.
        ValueError: if shapes disagree, an entry is not finite, or a variance is not positive.

    Source: Nguyen, Nguyen, Ho (2023), arXiv 2305.03288, section 1.

    Example:
        >>> import torch
        >>> MixingMeasure(
        ...     gate_bias=torch.tensor([-8.0, 0.0]),
        ...     gate_weight=torch.tensor([[25.0], [0.0]]),
        ...     slope=torch.tensor([[-20.0], [20.0]]),
        ...     intercept=torch.tensor([15.0, -5.0]),
        ...     variance=torch.tensor([0.09, 0.16]),
        ... )
        MixingMeasure(k=2, d=1)
         expert    gate_bias  gate_weight        slope    intercept     variance
              0           -8           25          -20           15         0.09
              1            0            0           20           -5         0.16
    """

    gate_bias: Tensor
    gate_weight: Tensor
    slope: Tensor
    intercept: Tensor
    variance: Tensor

    def __post_init__(self) -> None:
        for field in fields(self):
            check_finite(field.name, check_tensor(field.name, getattr(self, field.name)).detach())
        check_positive("variance", self.variance.detach())
        if len({getattr(self, field.name).dtype for field in fields(self)}) > 1:
            found = ", ".join(f"{field.name} of {getattr(self, field.name).dtype}" for field in fields(self))
            raise TypeError(f"the tensors of a measure must have one dtype, got {found}")
        self._check_shapes()

    def _check_shapes(self) -> None:
        if self.gate_weight.ndim < 2 or 0 in self.gate_weight.shape[-2:]:
            raise ValueError(
                f"gate_weight must have shape (*batch, k, d) with k, d >= 1, got {tuple(self.gate_weight.shape)}"
            )
        rows = self.gate_weight.shape[:-1]
        for name in ("gate_bias", "intercept", "variance"):
            if getattr(self, name).shape != rows:
                raise ValueError(
                    f"{name} must have shape {tuple(rows)}, that of gate_weight less its last dimension, "
                    f"got {tuple(getattr(self, name).shape)}"
                )
        if self.slope.shape != self.gate_weight.shape:
            raise ValueError(
                f"slope must have the shape of gate_weight, {tuple(self.gate_weight.shape)}, "
                f"got {tuple(self.slope.shape)}"
            )

    @property
    def num_experts(self) -> int:
        """The number k of atoms."""
        return int(self.gate_weight.shape[-2])

    @property
    def num_features(self) -> int:
        """The number d of covariates."""
        return int(self.gate_weight.shape[-1])

    @property
    def batch_shape(self) -> torch.Size:
        """Leading dimensions: one measure for each index."""
        return self.gate_bias.shape[:-1]

    def to(self, *args, **kwargs) -> "MixingMeasure":  # type: ignore[no-untyped-def]
        """The measure with every tensor moved as by ``Tensor.to``."""
        return self._map(lambda tensor: tensor.to(*args, **kwargs))

    def detach(self) -> "MixingMeasure":
        """The measure out of the autograd graph."""
        return self._map(lambda tensor: tensor.detach())

    def __getitem__(self, index: object) -> "MixingMeasure":
        """One measure, or some, of a batch."""
        if not self.batch_shape:
            raise ValueError("indexing needs a batch of measures, got a single one")
        return self._map(lambda tensor: tensor[index])

    def _map(self, function) -> "MixingMeasure":  # type: ignore[no-untyped-def]
        return MixingMeasure(*(function(getattr(self, field.name)) for field in fields(self)))

    @classmethod
    def from_module(cls, model: MixtureOfExperts) -> "MixingMeasure":
        """Read the measure off a model with linear Gaussian experts and a gate whose score has one weight per expert.

        The tensors are copies, through which gradients flow to the model.

        Raises:
            TypeError: if the model has other parameters than a mixing measure has.
        """
        experts, score = model.experts, model.gate.score
        weight, bias = getattr(score, score.weight_name or "", None), score.bias
        if not isinstance(weight, Tensor) or bias is None:
            raise TypeError(f"model.gate.score must have a bias and one weight per expert, got {type(score).__name__}")
        if not isinstance(experts, GaussianExperts) or not isinstance(experts.predictor, LinearPredictor):
            raise TypeError(f"model.experts must be Gaussian with a linear mean, got {type(experts).__name__}")
        if model.has_offset:
            raise TypeError("model.experts must have no offset, which a mixing measure has no place for")
        variance = (2.0 * experts.log_std).exp().expand_as(experts.predictor.intercept)
        parts = (bias, weight, experts.predictor.slope, experts.predictor.intercept, variance)
        return cls(*(part.clone() for part in parts))

    def to_module(self, gate: Gate | None = None) -> MixtureOfExperts:
        """A model with these parameters.

        Args:
            gate: a gate to copy in which ``beta_0`` and ``beta_1`` (of a Laplace gate the centres) are set; a softmax
                gate if None.

        Raises:
            ValueError: if ``gate`` has no weight or bias of the measure's shape.
        """
        settings = {"batch_shape": tuple(self.batch_shape), "dtype": self.slope.dtype, "device": self.slope.device}
        sizes = (self.num_features, self.num_experts)
        generator = torch.Generator(device=self.slope.device)
        if gate is None:
            gate = softmax_gate(*sizes, **settings, generator=generator)  # type: ignore[arg-type]
        else:
            gate = deepcopy(gate).to(dtype=self.slope.dtype, device=self.slope.device)
        model = MixtureOfExperts(gate, linear_gaussian_experts(*sizes, **settings, generator=generator))  # type: ignore[arg-type]
        values = {
            f"gate.score.{model.gate.score.weight_name or 'weight'}": self.gate_weight,
            "gate.score.bias": self.gate_bias,
            "experts.predictor.slope": self.slope,
            "experts.predictor.intercept": self.intercept,
            "experts.log_std": 0.5 * self.variance.log(),
        }
        own = dict(model.named_parameters())
        for name, value in values.items():
            if name not in own or own[name].shape != value.shape:
                received = tuple(own[name].shape) if name in own else "none"
                raise ValueError(f"{name} must be a parameter of shape {tuple(value.shape)}, got {received}")
            own[name].data.copy_(value.detach())
        return model

    def sample(self, x: Tensor, *, gate: Gate | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Responses at covariates ``x (*batch, n, d)``; ``(*batch, n)``."""
        with torch.no_grad():
            return self.to_module(gate)(x).sample(generator=generator)

    def sample_xy(
        self, n: int, *, gate: Gate | None = None, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw n pairs: x uniform on the unit cube, y from the mixture; ``(*batch, n, d)`` and ``(*batch, n)``."""
        shape = (*self.batch_shape, check_integer("n", n, low=1), self.num_features)
        x = torch.rand(shape, generator=generator, dtype=self.slope.dtype, device=self.slope.device)
        return x, self.sample(x, gate=gate, generator=generator)

    def canonical(self) -> "MixingMeasure":
        """The translation in which the last atom has ``beta_0 = 0`` and ``beta_1 = 0`` (the reference expert).

        With a softmax gate, with or without a selection, the law stays; centres of a Laplace gate are not free to move.
        """
        bias, weight = self.gate_bias, self.gate_weight
        return replace(self, gate_bias=bias - bias[..., -1:], gate_weight=weight - weight[..., -1:, :])

    def permute(self, order: Sequence[int] | Tensor) -> "MixingMeasure":
        """The measure with its atoms in ``order``: ``(k,)``, or ``(*batch, k)`` for one order a measure."""
        index = torch.as_tensor(order, device=self.slope.device)
        identity = torch.arange(self.num_experts, device=index.device)
        if index.shape[-1:] != identity.shape or not (index.sort(-1).values == identity).all():
            raise ValueError(f"order must be a permutation of 0..{self.num_experts - 1}, got {index.tolist()}")
        index = index.long()
        rows = index.expand(self.gate_bias.shape)
        deep = rows.unsqueeze(-1).expand(self.slope.shape)
        return self._map(
            lambda tensor: tensor.gather(-2, deep) if tensor.ndim == deep.ndim else tensor.gather(-1, rows)
        )

    def align(self, other: "MixingMeasure") -> "MixingMeasure":
        """Permute the atoms and translate the gate of this measure so as to lie nearest to ``other``.

        Nearest in the sum over atoms of ``|beta_1 - beta*_1 - t_1| + |a - a*| + |b - b*| + |s - s*|``. For each pair of
        atoms the translation that makes their gates agree is tried with its optimal assignment
        (``scipy.optimize.linear_sum_assignment``); the best of the k^2 stays, and ``(t_0, t_1)`` is then the mean gap.

        Raises:
            ValueError: if the two measures differ in k, d or batch shape.

        Example:
            >>> import torch
            >>> weight, slope = torch.tensor([[0.0], [3.0]]), torch.tensor([[1.0], [2.0]])
            >>> first = MixingMeasure(torch.zeros(2), weight, slope, torch.tensor([0.0, 5.0]), torch.ones(2))
            >>> second = first.permute([1, 0]).canonical()
            >>> torch.equal(second.align(first).slope, first.slope)
            True
        """
        if self.gate_weight.shape != other.gate_weight.shape:
            raise ValueError(
                f"other must have the shape of this measure, {tuple(self.gate_weight.shape)}, "
                f"got {tuple(other.gate_weight.shape)}"
            )
        order = torch.as_tensor(_orders(self, other), device=self.slope.device)
        permuted = self.permute(order)
        shift_0 = (permuted.gate_bias - other.gate_bias).mean(-1, keepdim=True)
        shift_1 = (permuted.gate_weight - other.gate_weight).mean(-2, keepdim=True)
        return replace(permuted, gate_bias=permuted.gate_bias - shift_0, gate_weight=permuted.gate_weight - shift_1)

    def __repr__(self) -> str:
        """A readable table of the atoms (of the sizes alone for a batch)."""
        batch = f", batch_shape={tuple(self.batch_shape)}" if self.batch_shape else ""
        head = f"MixingMeasure(k={self.num_experts}, d={self.num_features}{batch})"
        return head if self.batch_shape else "\n".join([head, *_table(self)])


def _orders(measure: MixingMeasure, other: MixingMeasure) -> np.ndarray:
    """For each atom of ``other``, the atom of ``measure`` matched to it, ``(*batch, k)``."""
    gates = [m.gate_weight.detach().double().cpu().numpy() for m in (measure, other)]
    atoms = [_expert_atoms(m) for m in (measure, other)]
    orders = np.empty(measure.gate_bias.shape, dtype=np.int64)
    for index in np.ndindex(*measure.batch_shape):
        orders[index] = _best_order(gates[0][index], gates[1][index], *(a[index] for a in atoms))
    return orders


def _expert_atoms(measure: MixingMeasure) -> np.ndarray:
    parts = [measure.slope, measure.intercept.unsqueeze(-1), measure.variance.unsqueeze(-1)]
    return torch.cat(parts, -1).detach().double().cpu().numpy()


def _best_order(gate: np.ndarray, other_gate: np.ndarray, atoms: np.ndarray, other_atoms: np.ndarray) -> np.ndarray:
    d = gate.shape[-1]
    gap = other_atoms[:, None] - atoms[None]
    expert_cost = np.linalg.norm(gap[..., :d], axis=-1) + np.abs(gap[..., d:]).sum(-1)
    gate_gap = other_gate[:, None] - gate[None]  # (k of other, k, d)
    best, best_cost = np.arange(len(gate)), np.inf
    for shift in gate_gap.reshape(-1, d):
        cost = expert_cost + np.linalg.norm(gate_gap - shift, axis=-1)
        rows, columns = linear_sum_assignment(cost)
        if cost[rows, columns].sum() < best_cost:
            best, best_cost = columns, cost[rows, columns].sum()
    return best


def _table(measure: MixingMeasure) -> list[str]:
    d = measure.num_features
    columns = ["gate_bias", *_names("gate_weight", d), *_names("slope", d), "intercept", "variance"]
    bias, intercept, variance = (
        part.unsqueeze(-1) for part in (measure.gate_bias, measure.intercept, measure.variance)
    )
    values = torch.cat([bias, measure.gate_weight, measure.slope, intercept, variance], -1).tolist()
    width = max(12, *(len(name) for name in columns))
    lines = [" expert" + "".join(f" {name:>{width}}" for name in columns)]
    lines += [f"{i:>7}" + "".join(f" {value:>{width}.5g}" for value in row) for i, row in enumerate(values)]
    return lines


def _names(name: str, d: int) -> list[str]:
    return [name] if d == 1 else [f"{name}[{j}]" for j in range(d)]
