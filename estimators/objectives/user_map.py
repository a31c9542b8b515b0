"""How users' parameters follow from a parameter vector, by the records of the parameters."""

from collections.abc import Iterable

import torch
from torch import Tensor

from mixkit.parameters import ParameterRecord

from ..optimizers.parameter_map import Entry, JointTransform, UserMap

__all__ = ["make_user_map"]


def make_user_map(
    placed: Iterable[tuple[ParameterRecord, Tensor]], offset: Tensor, matrix: Tensor | None = None
) -> UserMap:
    """The map of a vector of P entries.

    Args:
        placed: records, each with the places in the vector of the parameter's entries; P for those that are not free.
        offset: ``(P,)``.
        matrix: ``(P, P)``; None for the identity.
    """
    size = len(offset)
    is_log = torch.zeros(size + 1, dtype=torch.bool)
    names, entries, joint = [""] * (size + 1), [None] * (size + 1), []
    for record, place in placed:
        for index in reversed((place.cpu() < size).nonzero().tolist()):  # of entries that share a place the first
            at = int(place[tuple(index)])
            names[at], entries[at] = record.label(tuple(index)), Entry(record, tuple(index))  # type: ignore[call-overload]
        if record.transform.is_plain:
            is_log[place.cpu()] = record.transform.is_log(tuple(place.shape))
        else:
            joint.append(JointTransform(place.to(offset.device), record.transform))
    return UserMap(names[:-1], matrix, offset, is_log[:-1].to(offset.device), entries[:-1], tuple(joint))  # type: ignore[arg-type]
