"""The records of a model, collected from its parts."""

import torch
from torch import Tensor, nn

from .record import ParameterRecord

__all__ = ["free_mask", "module_records", "num_redundant", "records_of", "relative_to_reference"]


def records_of(model: nn.Module) -> list[ParameterRecord]:
    """A record for every parameter of a model, in the order in which one reads them.

    Every part says what its parameters are in ``parameter_records``; a parameter of which nobody says anything has a
    generic record: users read it as it is, under its own name, without a bound.

    Example:
        >>> from mixkit import MixtureOfExperts, linear_gaussian_experts, softmax_gate
        >>> model = MixtureOfExperts(softmax_gate(1, 2), linear_gaussian_experts(1, 2))
        >>> [record.block for record in records_of(model)]
        ['gate_weight', 'gate_bias', 'slope', 'intercept', 'std']
    """
    return sorted(module_records(model), key=lambda record: record.place)


def module_records(module: nn.Module) -> list[ParameterRecord]:
    """The records of a module's parameters and of those below it, by their names in it.

    What ``module.parameter_records()`` leaves out is told by the children, and else generic. A module that knows more
    of what is below it, as a family of experts knows what its predictor predicts, says so in ``adapt_record``.
    """
    declared = {record.name: record for record in getattr(module, "parameter_records", tuple)()}
    found: dict[str, ParameterRecord] = {}
    for name, _ in module.named_parameters(recurse=False):
        found[name] = declared.get(name) or ParameterRecord(name, name, is_generic=True)
    for name, child in module.named_children():
        for record in module_records(child):
            own = record.at(f"{name}.")
            found[own.name] = declared.get(own.name, own)
    present = {name for name, _ in module.named_parameters()}
    adapt = getattr(module, "adapt_record", None)
    known = [record for record in found.values() if record.name in present]
    return known if adapt is None else [adapt(record) for record in known]


def num_redundant(model: nn.Module) -> int:
    """How many trainable parameters the others make up for, as a temperature beside homogeneous scores."""
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return sum(trainable[r.name].numel() for r in records_of(model) if r.is_redundant and r.name in trainable)


def free_mask(record: ParameterRecord, parameter: Tensor) -> Tensor:
    """Which entries of an unbatched parameter a fit may choose, bool of its shape: the reference expert has none."""
    mask = torch.as_tensor(record.is_free(parameter).clone())
    if record.is_translated and record.pattern is not None:
        mask[..., record.pattern.pinned()] = False
    elif record.is_translated:
        mask[-1] = False
    return mask


def relative_to_reference(record: ParameterRecord, value: Tensor, num_batch: int = 0) -> Tensor:
    """A parameter, after ``num_batch`` batch dimensions, translated so that its reference expert's entries are zero.

    One that is determined stays as it is.
    """
    if not record.is_translated:
        return value
    if record.pattern is not None:
        return record.pattern.relative(value)
    return value - value.narrow(num_batch, value.shape[num_batch] - 1, 1)
