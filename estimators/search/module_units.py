"""Modules of standardized covariates as the same modules of the covariates themselves, with other parameters.

A module is a black box: whether its parameters can make up for a change of units is found out, not declared. Two kinds
of modules can: those affine in their parameters whose functions of the new covariates span those of the old ones
(shared slopes, polynomials, splines with an intercept), and networks whose first layers are ``torch.nn.Linear`` and
read all the covariates, and whose last is one. Whatever is found is verified on the data before it is used.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

__all__ = ["AffineMap", "OutputUnits", "module_map"]

_ROWS = 400  # of the data on which maps are found and verified
_MOST_AFFINE = 300  # parameters of a module that is tried for being affine in them
_TOLERANCE = 1e-7  # of outputs, relative to their largest in standard units
_ROUNDING = 1e-11  # likewise, relative to their largest


class AffineMap(NamedTuple):
    """The map ``matrix @ vector + offset`` of trainable parameters, in the order of ``named_parameters``."""

    matrix: Tensor
    offset: Tensor


class OutputUnits(NamedTuple):
    """What outputs ``(n, k, *event)`` become: ``mean + scale * output``, both ``(*event,)``."""

    mean: Tensor
    scale: Tensor


def module_map(module: nn.Module, x: Tensor, z: Tensor, units: OutputUnits) -> AffineMap | None:
    """The map of parameters w for which ``module(x; map(w))`` is ``units`` of ``module(z; w)``; None if there is none.

    Args:
        module: maps ``(n, d)`` to ``(n, k, *event)``.
        x: covariates.
        z: the same ones moved and scaled, column by column.
        units: of the output.
    """
    if not all(parameter.requires_grad for parameter in module.parameters()):
        return None
    rows = torch.linspace(0, len(x) - 1, min(len(x), _ROWS)).long()
    call = _Call(module, x[rows], z[rows], units)
    with torch.no_grad():
        for found in (_of_affine_module(call), _of_network(call)):
            if found is not None and call.is_verified(found):
                return found
    return None


class _Call:
    """A module as a function of a vector of its parameters, at covariates x and z."""

    def __init__(self, module: nn.Module, x: Tensor, z: Tensor, units: OutputUnits) -> None:
        self.module, self.x, self.z, self.units = module, x, z, units
        self.shapes = {name: parameter.shape for name, parameter in module.named_parameters()}
        self.start = torch.cat([p.detach().flatten() for p in module.parameters()] or [x.new_zeros(0)])
        self.size = len(self.start)
        sizes = [shape.numel() for shape in self.shapes.values()]
        firsts = torch.tensor([0, *sizes]).cumsum(0).tolist()
        self.places = dict(zip(self.shapes, firsts, strict=False))

    def __call__(self, vector: Tensor, covariates: Tensor) -> Tensor:
        parts = vector.split([shape.numel() for shape in self.shapes.values()])
        named = {n: part.reshape(shape) for (n, shape), part in zip(self.shapes.items(), parts, strict=True)}
        return torch.as_tensor(functional_call(self.module, named, (covariates,)))

    def scaled(self, output: Tensor) -> Tensor:
        return self.units.mean + self.units.scale * output

    def is_verified(self, found: AffineMap) -> bool:
        """Whether the map holds at the module's own parameters and near them, and can be inverted."""
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(self.start.shape, generator=generator, dtype=torch.float64).to(self.start)
        for vector in (self.start, self.start + 0.3 * noise):
            wanted, got = self.scaled(self(vector, self.z)), self(found.matrix @ vector + found.offset, self.x)
            bound = _TOLERANCE * (wanted - self.units.mean).abs().amax() + _ROUNDING * wanted.abs().amax()
            if not bool(((got - wanted).abs() <= bound).all()):
                return False
        return bool(torch.linalg.matrix_rank(_equilibrated(found.matrix)) == self.size)


def _equilibrated(matrix: Tensor) -> Tensor:
    rows = matrix / matrix.abs().amax(-1, keepdim=True).clamp(min=1e-300)
    return rows / rows.abs().amax(-2, keepdim=True).clamp(min=1e-300)


def _of_affine_module(call: _Call) -> AffineMap | None:
    """By least squares: functions of z in those of x, for a module affine in its parameters."""
    if not 0 < call.size <= _MOST_AFFINE:
        return None
    zero = torch.zeros_like(call.start)
    first, second = call.start, call.start.flip(0) + 1.0
    at_zero = call(zero, call.z)
    parts = [call(vector, call.z) - at_zero for vector in (first, second, first + second)]
    if not bool((parts[2] - parts[0] - parts[1]).abs().amax() <= 1e-10 * parts[2].abs().amax()):
        return None
    new, old = (_features(call, covariates, zero) for covariates in (call.z, call.x))
    size = old.abs().amax(0).clamp(min=1e-300)
    target = call.scaled(at_zero) - call(zero, call.x)
    scale = call.units.scale.expand(at_zero.shape).reshape(-1, 1)
    columns = torch.cat([scale * new, target.reshape(-1, 1)], -1)
    width = columns.abs().amax(0).clamp(min=1e-300)
    solution = torch.linalg.lstsq(old / size, columns / width, driver="gelsd").solution * width / size.unsqueeze(-1)
    return AffineMap(solution[:, :-1], solution[:, -1])


def _features(call: _Call, covariates: Tensor, zero: Tensor) -> Tensor:
    """Derivatives ``(n k, q)`` of the output of an affine module in its parameters."""
    base = call(zero, covariates)
    columns = []
    for index in range(call.size):
        unit = zero.clone()
        unit[index] = 1.0
        columns.append((call(unit, covariates) - base).flatten())
    return torch.stack(columns, -1)


def _of_network(call: _Call) -> AffineMap | None:
    """By its linear layers: the first ones undo what covariates became, the last one does what outputs become."""
    first, last = _ends(call.module, call.x)
    if not first or last is None or last in first:
        return None
    scale = (call.x.amax(0) - call.x.amin(0)) / (call.z.amax(0) - call.z.amin(0))
    scale = torch.where(torch.isfinite(scale) & (scale > 0), scale, 1.0)
    center = call.x[0] - call.z[0] * scale
    matrix, offset = torch.eye(call.size).to(call.start), torch.zeros_like(call.start)
    for name, layer in first.items():
        weight = _places(call, f"{name}weight", layer.weight)
        matrix[weight, weight] = (1.0 / scale).expand(weight.shape)
        if layer.bias is not None:
            bias = _places(call, f"{name}bias", layer.bias)
            matrix[bias.unsqueeze(-1).expand(weight.shape), weight] = (-center / scale).expand(weight.shape)
        elif bool((center != 0).any()):
            return None
    return _with_outputs(call, AffineMap(matrix, offset), *last)


def _with_outputs(call: _Call, found: AffineMap, name: str, layer: nn.Linear) -> AffineMap | None:
    """The map with its rows of the last layer scaled, and its bias moved."""
    count = layer.out_features // max(call.units.scale.numel(), 1)
    scale, mean = (part.reshape(-1).repeat(count) for part in (call.units.scale, call.units.mean))
    rows = _places(call, f"{name}weight", layer.weight)
    found.matrix[rows] *= scale[:, None, None]
    if layer.bias is not None:
        bias = _places(call, f"{name}bias", layer.bias)
        found.matrix[bias] *= scale.unsqueeze(-1)
        found.offset[bias] = mean
    elif bool((mean != 0).any()):
        return None
    return found


def _places(call: _Call, name: str, parameter: Tensor) -> Tensor:
    """Where in the vector the entries of a parameter are, of its shape."""
    first = call.places[name]
    return torch.arange(first, first + parameter.numel()).reshape(parameter.shape)


def _ends(module: nn.Module, x: Tensor) -> tuple[dict[str, nn.Linear], tuple[str, nn.Linear] | None]:
    """The linear layers that read ``x`` itself, by the prefix of their names, and the one whose output is the module's.

    Others that read it, and what comes after the last, are found by the verification.
    """
    seen: list[tuple[str, nn.Linear, Tensor, Tensor]] = []
    hooks = [
        layer.register_forward_hook(_recorder(seen, f"{name}." if name else ""))
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear)
    ]
    try:
        output = module(x)
    finally:
        for hook in hooks:
            hook.remove()
    first = {name: layer for name, layer, given, _ in seen if given.shape == x.shape and bool((given == x).all())}
    last = [(name, layer) for name, layer, _, made in seen if torch.equal(made.flatten(), output.flatten())]
    return first, (last[-1] if last else None)


def _recorder(seen: list[tuple[str, nn.Linear, Tensor, Tensor]], name: str) -> Callable[..., None]:
    def record(layer: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        if isinstance(layer, nn.Linear):
            seen.append((name, layer, given[0], made))

    return record
