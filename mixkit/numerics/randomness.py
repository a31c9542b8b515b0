"""Where randomness comes from: a generator, a seed, or torch's default generator."""

from numbers import Integral
from typing import TypeAlias

import torch

from .._validation import check_integer

__all__ = ["Randomness", "as_generator"]

Randomness: TypeAlias = torch.Generator | int | None
"""A generator; or a seed, with which a call draws the same again; or None for torch's default generator."""


class _Seeded(torch.Generator):
    """A generator that one call has made from a seed: no other call has drawn from it."""


def as_generator(source: Randomness, device: torch.device | str | None = None) -> torch.Generator | None:
    """The generator to draw from: a new one if ``source`` is a seed.

    A generator that is drawn from inside a backward pass is refused. Activation checkpointing runs a function a second
    time there, and a generator that has moved on would give it other noise: a wrong gradient without a word. A seed
    gives the same noise again, and so does torch's default generator, whose state the checkpoint keeps.

    Raises:
        TypeError: if ``source`` is neither a generator, nor an integer, nor None.
        RuntimeError: if a generator is drawn from in a backward pass.
    """
    if source is None:
        return None
    if isinstance(source, Integral) and not isinstance(source, bool):
        made = _Seeded(device or "cpu")
        made.manual_seed(check_integer("generator", source))
        return made
    if not isinstance(source, torch.Generator):
        raise TypeError(f"generator must be a torch.Generator, an integer seed or None, got {type(source).__name__}")
    if isinstance(source, _Seeded) or torch.compiler.is_compiling():
        return source
    if torch._C._current_graph_task_id() != -1:
        raise RuntimeError(
            "generator must not be drawn from in a backward pass, where activation checkpointing runs a function again "
            "and would get other noise: pass an integer seed (generator=seed), or None for torch's default generator"
        )
    return source
