"""Masks on the layers of a model: put them on, learn them, make them hard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ...gates.temperatures import ScheduledTemperature
from .learnable import NMMask
from .patterns import is_nm_mask


def add_masks(
    model: nn.Module,
    make: Callable[[Tensor], NMMask],
    *,
    layer_types: tuple[type[nn.Module], ...] = (nn.Linear,),
) -> dict[str, NMMask]:
    """Parametrize the ``weight`` of every layer of the given types by a learnable mask.

    Weights go on learning beside their masks unless frozen before, ``model.requires_grad_(False)``, as MaskLLM does.
    A mask is moved to the device of its weight, and to its dtype if that is the wider one: masks of weights in half
    precision learn in the precision they were built in, float32 unless told. Layers that share a weight share its mask.

    Args:
        model: changed in place.
        make: builds the mask of one weight, for example ``lambda w: PatternMask(w.shape, 2, 4)``. A mask with a
            ``generator`` needs one on the device of the weight, and so to be built there, ``device=w.device``.
        layer_types: which layers.

    Returns:
        The masks by the name of their layer.

    Raises:
        TypeError: if ``make`` returns no mask.
        ValueError: if no layer is of these types, one is masked already, one shares its weight with a module that is
            not masked, or the generator of a mask is on another
            device than the weight.

    Example:
        >>> from mixkit.relaxations.masks import PatternMask
        >>> generator = torch.Generator().manual_seed(0)
        >>> model = nn.Sequential(nn.utils.skip_init(nn.Linear, 8, 4))
        >>> weight = nn.init.normal_(model[0].weight, generator=generator)
        >>> masks = add_masks(model, lambda w: PatternMask(w.shape, 2, 4, generator=generator))
        >>> hard = harden_masks(model)
        >>> is_nm_mask(model[0].weight, 2, 4)
        True
    """
    layers: dict[str, Any] = {name: layer for name, layer in model.named_modules() if isinstance(layer, layer_types)}
    if not layers:
        raise ValueError(f"model must have a layer of {[kind.__name__ for kind in layer_types]}, got none")
    already = [name for name, layer in layers.items() if parametrize.is_parametrized(layer, "weight")]
    if already:
        raise ValueError(f"model must have no mask or other parametrization on its weights yet, got {already}")
    _check_ties(model, layers)
    of_weight: dict[int, NMMask] = {}
    for layer in layers.values():
        if id(layer.weight) not in of_weight:
            of_weight[id(layer.weight)] = _mask_for(layer.weight.detach(), make)
    masks = {name: of_weight[id(layer.weight)] for name, layer in layers.items()}
    return {name: _add_mask(layer, masks[name]) for name, layer in layers.items()}


def _check_ties(model: nn.Module, layers: dict[str, Any]) -> None:
    """Refuse a weight that a module without a mask shares: it would see the mask only once the mask is made hard."""
    masked = {id(layer.weight): name for name, layer in layers.items()}
    owners = {f"{name}.weight" if name else "weight" for name in layers}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in masked and name not in owners:
            raise ValueError(
                f"model must not share the weight of a masked layer with a module of another type, "
                f"got that of {masked[id(parameter)]!r} as {name!r}; untie them, or add its type to layer_types"
            )


def _mask_for(weight: Tensor, make: Callable[[Tensor], NMMask]) -> NMMask:
    """The mask, where its weight is."""
    mask = make(weight)
    if not isinstance(mask, NMMask):
        raise TypeError(f"make must return an NMMask such as PatternMask(w.shape, 2, 4), got {type(mask).__name__}")
    if mask.generator is not None and not weight.is_meta and mask.generator.device.type != weight.device.type:
        raise ValueError(
            f"the generator of a mask must be on the device of its weight, {weight.device}, "
            f"got one on {mask.generator.device}"
        )
    widest = max((p.dtype for p in (weight, *mask.parameters())), key=lambda dtype: torch.finfo(dtype).bits)
    return mask.to(device=weight.device, dtype=widest)


def _add_mask(layer: Any, mask: NMMask) -> NMMask:
    mask.eval()  # registering calls the mask once: that call shall draw nothing
    parametrize.register_parametrization(layer, "weight", mask)
    mask.train(layer.training)
    return mask


def masked_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module, NMMask]]:
    """Name, layer and mask of every layer that ``add_masks`` has changed."""
    for name, layer in model.named_modules():
        if parametrize.is_parametrized(layer, "weight"):
            masks = [step for step in _steps(layer) if isinstance(step, NMMask)]
            yield from ((name, layer, mask) for mask in masks)


def _steps(layer: Any) -> Any:
    """The chain of parametrizations of the layer's weight, with ``original``."""
    return layer.parametrizations.weight


def advance_masks(model: nn.Module) -> None:
    """Move all schedules of all masks on by one step: scales and temperatures, a shared one once."""
    parts = dict.fromkeys(part for _, _, mask in masked_layers(model) for part in mask.modules())
    for part in parts:
        if isinstance(part, NMMask):
            part.advance()
        elif isinstance(part, ScheduledTemperature):
            part.step()


def retained_energy(model: nn.Module) -> Tensor:
    r"""``sum E ||W * M||^2`` over all masked weights, a scalar; the weight regularizer subtracts a multiple of it.

    MaskLLM (arXiv:2409.17481) subtracts ``lambda sum ||W * M||^2``, lambda = 1e-5, so that large weights are kept and
    gradients do not vanish; the expectation here is exact and has no noise.
    """
    weights = {id(_steps(layer).original): (_steps(layer).original, mask) for _, layer, mask in masked_layers(model)}
    energies = [mask.retained_energy(weight) for weight, mask in weights.values()]  # a weight that layers share: once
    if not energies:
        raise ValueError("model must have masks (add_masks), got none")
    return torch.stack(energies).sum()


def harden_masks(model: nn.Module) -> dict[str, Tensor]:
    """Replace every masked weight by its hard N:M form, an ordinary parameter again: the export for sparse hardware.

    Returns:
        The boolean masks by the name of their layer, each checked to be N:M.

    Raises:
        ValueError: if the model has no masks.
    """
    found = list(masked_layers(model))
    if not found:
        raise ValueError("model must have masks (add_masks), got none")
    hard: dict[str, Tensor] = {}
    for name, layer, mask in found:
        mask.eval()
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        hard[name] = mask.hard_mask()
        if not is_nm_mask(hard[name], mask.num_kept, mask.group_size, dim=mask.dim):
            raise RuntimeError(f"the hard mask of {name} is not {mask.num_kept}:{mask.group_size}")
    return hard
