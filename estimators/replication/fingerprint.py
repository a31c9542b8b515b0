"""Settings as text that says all that matters of them: what the files of long runs compare.

Two settings of one description may share a file; so a description holds every number, by its digits or, of tensors and
modules, by a digest, and nothing that differs between two runs of one script, such as an address.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import partial, singledispatch
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Transform

__all__ = ["describe", "digest"]

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def digest(*parts: Tensor | np.ndarray | None) -> str:
    """A fingerprint of some arrays, their shapes and numbers.

    Example:
        >>> digest(torch.zeros(2)) == digest(np.zeros(2)), digest(torch.zeros(2)) == digest(torch.zeros(2, 1))
        (True, False)
    """
    sha = hashlib.sha256()
    for part in parts:
        array = np.asarray(part.numpy(force=True) if isinstance(part, Tensor) else [] if part is None else part)
        sha.update(repr(array.shape).encode() + array.astype(np.float64).tobytes())
    return sha.hexdigest()[:16]


@singledispatch
def describe(value: Any) -> str:
    """What a setting is, in words that are the same for equal settings and differ for others.

    Numbers, words and their collections are written out. Any other object is its class and its attributes, in the
    order in which they were set; tensors, arrays and modules add a digest of their numbers, and distributions their
    parameters. Functions go by their names alone.

    Args:
        value: a setting, such as an estimator, a penalty or a start.

    Example:
        >>> from torch.distributions import Normal
        >>> from estimators.penalties import LogPrior, Ridge
        >>> describe(Ridge(1.0))
        'Ridge(gate=1.0, experts=0.0, scaled=False)'
        >>> narrow, wide = (describe(LogPrior({"slope": Normal(0.0, std)})) for std in (0.01, 100.0))
        >>> narrow == wide
        False
    """
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    if is_dataclass(value):
        return _written(type(value).__qualname__, {f.name: getattr(value, f.name) for f in fields(value)})
    if not hasattr(value, "__dict__"):
        return _ADDRESS.sub("", repr(value))
    return _written(type(value).__qualname__, vars(value))


def _written(name: str, settings: Mapping[str, Any]) -> str:
    return f"{name}({', '.join(f'{key}={describe(part)}' for key, part in settings.items())})"


@describe.register(bool | int | float | complex | str | bytes | None)
def _(value: Any) -> str:
    return repr(value)


@describe.register
def _(value: np.generic) -> str:
    return repr(value.item())


@describe.register
def _(value: list) -> str:
    return f"[{', '.join(map(describe, value))}]"


@describe.register
def _(value: tuple) -> str:
    return f"({', '.join(map(describe, value))}{',' if len(value) == 1 else ''})"


@describe.register(set | frozenset)
def _(value: Any) -> str:
    return f"{{{', '.join(sorted(map(describe, value)))}}}"


@describe.register
def _(value: Mapping) -> str:
    return f"{{{', '.join(f'{describe(key)}: {describe(part)}' for key, part in value.items())}}}"


@describe.register(Tensor | np.ndarray)
def _(value: Any) -> str:
    if value.ndim == 0:
        return repr(value.item())
    if isinstance(value, np.ndarray) and value.dtype.kind not in "biuf":
        return f"array of {describe(value.tolist())}"
    return f"array of shape {tuple(value.shape)} with entries {digest(value)}"


@describe.register
def _(value: partial) -> str:
    return _written(describe(value.func), {str(place): part for place, part in enumerate(value.args)} | value.keywords)


@describe.register
def _(value: torch.nn.Module) -> str:
    sha = hashlib.sha256()
    for name, part in value.state_dict().items():
        sha.update(name.encode())
        sha.update(part.detach().cpu().double().numpy().tobytes())
    form = _ADDRESS.sub("", " ".join(repr(value).split()))
    return f"{form} with parameters {sha.hexdigest()[:16]}"


@describe.register
def _(value: np.random.Generator) -> str:
    return f"{type(value.bit_generator).__name__} in state {describe(value.bit_generator.state)}"


@describe.register
def _(value: Distribution) -> str:
    """By its parameters; attributes that a distribution computes from them when asked are left out."""
    try:
        names = list(value.arg_constraints)
    except NotImplementedError:
        return _written(type(value).__qualname__, vars(value))
    parts = {name: getattr(value, name) for name in names}
    inner = {name: part for name, part in vars(value).items() if _is_law(part) and name not in parts}
    shape = {"batch_shape": tuple(value.batch_shape), "event_shape": tuple(value.event_shape)}
    return _written(type(value).__qualname__, parts | inner | shape)


@describe.register
def _(value: Transform) -> str:
    """Without its cache."""
    return _written(type(value).__qualname__, {n: part for n, part in vars(value).items() if not n.startswith("_")})


def _is_law(part: Any) -> bool:
    """Whether an attribute is one that distributions are made of: other distributions, or transforms."""
    return isinstance(part, Distribution | Transform) or (isinstance(part, list) and any(map(_is_law, part)))
