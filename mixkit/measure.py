"""The mixing measure: the parameters of a Gaussian mixture of experts as the papers write them."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ._validation import check_finite, check_integer, check_positive, check_tensor
from .experts import GaussianExperts, linear_gaussian_experts
from .experts.predictors import LinearPredictor
from .gates import Gate, softmax_gate
from .gates.invariance import GateInvariance
from .gates.normalizers import Softmax
from .gates.scores import LinearScore
from .gates.selections import Dense
from .gates.temperatures import FixedTemperature
from .mixture import MixtureOfExperts
from .parameters import Patterned, has_form

__all__ = ["MixingMeasure"]


class _Form(NamedTuple):
    """What the gate of a measure is, beyond its parameters."""

    name: str | None = None  # what to call it; None for a softmax gate, which the parameters say all of
    invariance: GateInvariance = GateInvariance()

    @classmethod
    def of(cls, gate: Gate, *, folded: bool = False) -> "_Form":
        """The form of a gate; ``folded`` says that its temperature has been divided into the parameters."""
        score, temperature = gate.score, gate.temperature
        cold = folded or (has_form(temperature, FixedTemperature) and temperature.value == 1.0)
        kinds: tuple[tuple[object, type], ...] = (
            (score, LinearScore),
            (gate.selection, Dense),
            (gate.normalizer, Softmax),
        )
        plain = cold and all(has_form(part, kind) for part, kind in kinds)
        parts = (score, gate.selection, gate.normalizer, *(() if cold else (temperature,)))
        return cls(
            None if plain else ", ".join(type(part).__name__ for part in parts),
            GateInvariance.of(gate),
        )


@dataclass(frozen=True, eq=False, repr=False)
class MixingMeasure:
    r"""The measure :math:`G = \sum_i \exp(\beta_{0i}) \delta_{(\beta_{1i}, a_i, b_i, \sigma_i^2)}` with k atoms.

    With a softmax gate it stands for the conditional density
    :math:`\sum_i \mathrm{softmax}_i(\beta_{1}^\top x + \beta_{0}) N(y; a_i^\top x + b_i, \sigma_i^2)`, which stays
    the same when the atoms are permuted and when one ``(t_0, t_1)`` is added to every ``(beta_0, beta_1)``: these are
    the two freedoms that :meth:`canonical` and :meth:`align` take away.

    With other gates :math:`\beta_1` is what their score makes of it (``Score.weight_name``): the centers of a Laplace
    gate, whose weights are softmax of :math:`-\lVert x - \beta_1 \rVert + \beta_0`. The measure holds parameters, not
    the rest of such a gate: neither its temperature, nor its selection or normalizer. One that was read off a model
    (:meth:`from_module`) remembers that it needs them: :meth:`to_module` then asks for the gate, and :meth:`align` and
    :meth:`canonical` move only what the gate leaves free. One that was built of tensors is taken for a softmax gate's
    unless these methods are given another.

    Args:
        gate_bias: beta_0, ``(*batch, k)``.
        gate_weight: beta_1, ``(*batch, k, d)``; a Laplace gate's centers.
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
    _form: ClassVar[_Form] = _Form()  # set on the instance where the gate is another; no field, so no parameter

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

    def to(self, *args: Any, **kwargs: Any) -> "MixingMeasure":
        """The measure with every tensor moved as by ``Tensor.to``."""
        return self._map(lambda tensor: tensor.to(*args, **kwargs))

    def detach(self) -> "MixingMeasure":
        """The measure out of the autograd graph."""
        return self._map(lambda tensor: tensor.detach())

    def __getitem__(self, index: Any) -> "MixingMeasure":
        """One measure, or some, of a batch."""
        if not self.batch_shape:
            raise ValueError("indexing needs a batch of measures, got a single one")
        return self._map(lambda tensor: tensor[index])

    def _map(self, function: Callable[[Tensor], Tensor]) -> "MixingMeasure":
        return self._with(**{field.name: function(getattr(self, field.name)) for field in fields(self)})

    def _with(self, **changes: Any) -> "MixingMeasure":
        return replace(self, **changes)._of(self._form)

    def _of(self, form: _Form) -> "MixingMeasure":
        """This measure, once built, told what its gate is."""
        if form != _Form():
            object.__setattr__(self, "_form", form)
        return self

    @classmethod
    def stack(cls, measures: Sequence["MixingMeasure"]) -> "MixingMeasure":
        """One measure of batch shape ``(r, *batch)`` of r measures of one size.

        Raises:
            ValueError: if there is none, sizes differ, or they were read off gates of different kinds.
        """
        forms = {measure._form for measure in measures}
        if len(forms) != 1:
            kinds = sorted(form.name or "softmax gate" for form in forms)
            raise ValueError(f"measures must hold at least one, all of one kind of gate, got {kinds}")
        sizes = sorted({tuple(measure.slope.shape) for measure in measures})
        if len(sizes) != 1:
            raise ValueError(f"measures must have one shape (*batch, k, d), got {sizes}")
        names = [field.name for field in fields(cls)]
        return cls(*(torch.stack([getattr(m, name) for m in measures]) for name in names))._of(forms.pop())

    @classmethod
    def from_module(cls, model: MixtureOfExperts, *, fold_temperature: bool = False) -> "MixingMeasure":
        """Read the measure off a model with linear Gaussian experts and a gate whose score has one weight per expert.

        The tensors are copies, through which gradients flow to the model. With a softmax gate of temperature 1 they are
        the whole model. Other gates are more than their parameters, so ``to_module`` needs ``model.gate`` again:
        ``MixingMeasure.from_module(model).to_module(model.gate)`` has the densities of ``model``.

        Args:
            model: experts of class :class:`~mixkit.experts.GaussianExperts` with a linear mean; any gate whose score
                has a bias and names its weight (``Score.weight_name``).
            fold_temperature: divide ``beta_0`` and ``beta_1`` by the gate's temperature, which gives the measure of the
                same distribution at temperature 1; else they are as the model has them. Exact for linear scores and
                temperatures that do not depend on x, and refused for others.

        Raises:
            TypeError: if the experts are not linear Gaussian ones, the score has no bias or no one weight per expert,
                or the experts have an offset.
            ValueError: if ``fold_temperature`` is true where it is not exact.

        Example:
            >>> from mixkit import dense_to_sparse_gate
            >>> from mixkit.gates.temperatures import FixedTemperature
            >>> draw = torch.Generator().manual_seed(0)
            >>> gate = dense_to_sparse_gate(1, 2, temperature=FixedTemperature(0.5), generator=draw)
            >>> model = MixtureOfExperts(gate, linear_gaussian_experts(1, 2, generator=draw))
            >>> measure, x = MixingMeasure.from_module(model, fold_temperature=True), torch.ones(3, 1)
            >>> torch.allclose(measure.to_module().gate(x), gate(x))
            True
        """
        experts, score = model.experts, model.gate.score
        weight: Tensor | None = getattr(score, score.weight_name or "", None)
        bias: Tensor | None = score.bias
        if not isinstance(weight, Tensor) or bias is None:
            raise TypeError(f"model.gate.score must have a bias and one weight per expert, got {type(score).__name__}")
        if not has_form(experts, GaussianExperts) or not has_form(experts.predictor, LinearPredictor):
            raise TypeError(f"model.experts must be Gaussian with a linear mean, got {type(experts).__name__}")
        if model.has_offset:
            raise TypeError("model.experts must have no offset, which a mixing measure has no place for")
        if fold_temperature:
            bias, weight = _folded(model.gate, bias, weight)
        variance = (2.0 * experts.log_std).exp().expand_as(experts.predictor.intercept)
        parts = (bias, weight, experts.predictor.slope, experts.predictor.intercept, variance)
        return cls(*(part.clone() for part in parts))._of(_Form.of(model.gate, folded=fold_temperature))

    def to_module(self, gate: Gate | None = None) -> MixtureOfExperts:
        """A model with these parameters.

        Args:
            gate: a gate to copy in which ``beta_0`` and ``beta_1`` (of a Laplace gate the centers) are set; a softmax
                gate if None. All else of it stays as it is, such as a temperature: a measure that one was folded into
                wants a gate of temperature 1.

        Raises:
            ValueError: if ``gate`` has no weight or bias of the measure's shape, or is None though the measure was read
                off a gate that is more than its parameters.
        """
        if gate is None and self._form.name is not None:
            raise ValueError(
                f"gate must be given for a measure that was read off a gate of {self._form.name}: pass that gate "
                "(model.gate), or a softmax gate to have the distribution of one; got None"
            )
        settings: dict[str, Any] = {
            "batch_shape": tuple(self.batch_shape),
            "dtype": self.slope.dtype,
            "device": self.slope.device,
        }
        sizes = (self.num_features, self.num_experts)
        generator = torch.Generator(device=self.slope.device)
        if gate is None:
            gate = softmax_gate(*sizes, **settings, generator=generator)
        else:
            gate = deepcopy(gate).to(dtype=self.slope.dtype, device=self.slope.device)
        model = MixtureOfExperts(gate, linear_gaussian_experts(*sizes, **settings, generator=generator))
        values = {
            f"gate.score.{model.gate.score.weight_name or 'weight'}": self.gate_weight,
            "gate.score.bias": self.gate_bias,
            "experts.predictor.slope": self.slope,
            "experts.predictor.intercept": self.intercept,
            "experts.log_std": 0.5 * self.variance.log(),
        }
        own = dict(model.named_parameters())
        score = model.gate.score
        if isinstance(score, Patterned) and score.pattern is not None:
            for name in score.coefficient_names:
                if not score.set_coefficients(name, values.pop(f"gate.score.{name}").detach()):
                    raise ValueError(f"gate must have a pattern that {name} follows, got {score.pattern}")
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
        model = self.to_module(gate)
        x = torch.rand(shape, generator=generator, dtype=self.slope.dtype, device=self.slope.device)
        with torch.no_grad():
            return x, model(x).sample(generator=generator)

    def canonical(self, *, gate: Gate | None = None) -> "MixingMeasure":
        """The translation in which the last atom has ``beta_0 = 0`` and ``beta_1 = 0`` (the reference expert).

        The distribution stays, for only what the gate leaves free moves: both with a softmax gate, with or without a
        selection or a temperature; ``beta_0`` with Laplace, cosine and activation gates; nothing with a sigmoid gate.

        Args:
            gate: the gate these are parameters of; the one they were read off, or else a softmax gate, if None.
        """
        return self._translated(self.gate_bias[..., -1:], self.gate_weight[..., -1:, :], self._invariance(gate))

    def _invariance(self, gate: Gate | None) -> GateInvariance:
        return self._form.invariance if gate is None else GateInvariance.of(gate)

    def _translated(self, shift_0: Tensor, shift_1: Tensor, invariance: GateInvariance) -> "MixingMeasure":
        """The gate's parameters less ``(shift_0, shift_1)``, where they may move."""
        bias = self.gate_bias - shift_0 if invariance.bias else self.gate_bias
        weight = self.gate_weight - shift_1 if invariance.weight else self.gate_weight
        return self._with(gate_bias=bias, gate_weight=weight)

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

    def align(self, other: "MixingMeasure", *, gate: Gate | None = None) -> "MixingMeasure":
        """Permute the atoms and translate the gate of this measure so as to lie nearest to ``other``.

        Nearest in the sum over atoms of ``|beta_1 - beta*_1 - t_1| + |a - a*| + |b - b*| + |s - s*|``. For each pair of
        atoms the translation that makes their gates agree is tried with its optimal assignment
        (``scipy.optimize.linear_sum_assignment``); the best of the k^2 stays, and ``(t_0, t_1)`` is then the mean gap.
        What the gate does not leave free (see :meth:`canonical`) is not translated: the centers of a Laplace gate.

        Args:
            other: a measure of the same k, d and batch shape.
            gate: the gate of this measure; the one it was read off, or else a softmax gate, if None.

        Raises:
            TypeError: if ``gate`` is no gate.
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
        invariance = self._invariance(gate)
        order = torch.as_tensor(_orders(self, other, invariance.weight), device=self.slope.device)
        permuted = self.permute(order)
        shift_0 = (permuted.gate_bias - other.gate_bias).mean(-1, keepdim=True)
        shift_1 = (permuted.gate_weight - other.gate_weight).mean(-2, keepdim=True)
        return permuted._translated(shift_0, shift_1, invariance)

    def __repr__(self) -> str:
        """A readable table of the atoms (of the sizes alone for a batch)."""
        batch = f", batch_shape={tuple(self.batch_shape)}" if self.batch_shape else ""
        head = f"MixingMeasure(k={self.num_experts}, d={self.num_features}{batch})"
        return head if self.batch_shape else "\n".join([head, *_table(self)])


def _folded(gate: Gate, bias: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Bias and weight divided by a temperature that is one number for all x."""
    if not has_form(gate.score, LinearScore) or gate.temperature.depends_on_x:
        raise ValueError(
            "fold_temperature must be False unless the score is linear and the temperature does not depend on x, "
            f"got {type(gate.score).__name__} and {type(gate.temperature).__name__}"
        )
    temperature = gate.temperature(weight)  # () or (*batch, 1, 1)
    return bias / (temperature.squeeze(-1) if temperature.ndim else temperature), weight / temperature


def _orders(measure: MixingMeasure, other: MixingMeasure, weight_moves: bool) -> np.ndarray:
    """For each atom of ``other``, the atom of ``measure`` matched to it, ``(*batch, k)``."""
    gates = [m.gate_weight.detach().double().cpu().numpy() for m in (measure, other)]
    atoms = [_expert_atoms(m) for m in (measure, other)]
    orders = np.empty(measure.gate_bias.shape, dtype=np.int64)
    for index in np.ndindex(*measure.batch_shape):
        orders[index] = _best_order(*(part[index] for part in (*gates, *atoms)), weight_moves=weight_moves)
    return orders


def _expert_atoms(measure: MixingMeasure) -> np.ndarray:
    parts = [measure.slope, measure.intercept.unsqueeze(-1), measure.variance.unsqueeze(-1)]
    return torch.cat(parts, -1).detach().double().cpu().numpy()


def _best_order(
    gate: np.ndarray, other_gate: np.ndarray, atoms: np.ndarray, other_atoms: np.ndarray, *, weight_moves: bool
) -> np.ndarray:
    d = gate.shape[-1]
    gap = other_atoms[:, None] - atoms[None]
    expert_cost = np.linalg.norm(gap[..., :d], axis=-1) + np.abs(gap[..., d:]).sum(-1)
    gate_gap = other_gate[:, None] - gate[None]  # (k of other, k, d)
    best, best_cost = np.arange(len(gate)), np.inf
    for shift in gate_gap.reshape(-1, d) if weight_moves else np.zeros((1, d)):
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
