"""Values as a tree of plain JSON and a few arrays, and back; no code is stored, and none of a file's is run.

A tree names classes, and reading makes objects of those alone that this library or ``torch.nn`` defines: modules, data
classes, named tuples and enumerations. Anything else in a file is an error.
"""

import importlib
import math
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["NotStorableError", "decode", "encode"]

_HOMES = re.compile(r"(mixkit|estimators\.(results|optimizers|formula)|torch\.nn\.modules)(\.[a-zA-Z]\w*)+")
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    f"torch.{name}": getattr(torch, name)
    for name in ("sigmoid", "tanh", "relu", "exp", "log1p", "sin", "cos", "erf", "square")
} | {
    f"torch.nn.functional.{name}": getattr(nn.functional, name)
    for name in ("softplus", "gelu", "silu", "elu", "relu", "leaky_relu", "logsigmoid")
}  # fmt: skip
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64, torch.bool)
}
_PLAIN = set(vars(nn.Module()))
_HOOKS = [name for name in _PLAIN if name.endswith("hooks")]


class NotStorableError(TypeError):
    """A value has parts that a file without code cannot hold."""


def encode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """A tree of JSON values; tensors and arrays are put in ``arrays`` under names of their own.

    Raises:
        NotStorableError: for functions and classes that are not this library's.

    Example:
        >>> arrays = {}
        >>> tree = encode({"a": (1, torch.zeros(2))}, arrays)
        >>> decode(tree, arrays)
        {'a': (1, tensor([0., 0.]))}
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or (isinstance(value, bool | int | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": repr(value)}
    for kinds, write in _WRITERS:
        if isinstance(value, kinds):
            return write(value, arrays)
    for name, function in _FUNCTIONS.items():
        if value is function:
            return {"function": name}
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: encode(getattr(value, field.name), arrays) for field in fields(value)}
        return {"dataclass": _named(value), "fields": parts}
    raise NotStorableError(f"cannot be stored without code: {type(value).__module__}.{type(value).__qualname__}")


def decode(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    """What :func:`encode` was given, from its tree and arrays.

    Raises:
        ValueError: if the tree is none that :func:`encode` makes.
    """
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    kind = next((kind for kind in _READERS if isinstance(tree, dict) and kind in tree), None)
    if kind is None:
        raise ValueError(f"file holds a value of no known kind, {str(tree)[:60]}")
    try:
        return _READERS[kind](tree, arrays)
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"file holds a damaged {kind}: {error}") from error


def _named(value: Any) -> str:
    home, name = type(value).__module__, type(value).__qualname__
    if not _HOMES.fullmatch(home) or getattr(importlib.import_module(home), name, None) is not type(value):
        raise NotStorableError(f"cannot be stored without code: {home}.{name}")
    return f"{home}:{name}"


def _class(words: Any, base: type) -> Any:
    """The class of a name, if it is one of this library or of ``torch.nn`` below ``base``."""
    home, _, name = str(words).partition(":")
    found = None
    if _HOMES.fullmatch(home):
        try:
            found = getattr(importlib.import_module(home), name, None)
        except ImportError:
            found = None
    if not isinstance(found, type) or not issubclass(found, base) or found.__module__ != home:
        raise ValueError(f"file names a class that is not known here, {words!r}")
    return found


def _write_array(value: Any, arrays: dict[str, np.ndarray]) -> dict[str, str]:
    is_tensor = isinstance(value, Tensor)
    try:
        array = value.detach().cpu().numpy() if is_tensor else np.asarray(value)
    except TypeError as error:  # dtypes that NumPy lacks
        raise NotStorableError(f"cannot be stored: a tensor of {value.dtype}") from error
    if array.dtype.kind not in "biufcU":
        raise NotStorableError(f"cannot be stored: an array of {array.dtype}")
    name = f"array{len(arrays)}"
    arrays[name] = np.array(array)
    return {"tensor" if is_tensor else "array": name}


def _write_tuple(value: tuple[Any, ...], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    if hasattr(value, "_fields"):
        parts = {name: encode(part, arrays) for name, part in zip(value._fields, value, strict=True)}
        return {"namedtuple": _named(value), "fields": parts}
    return {"size" if isinstance(value, torch.Size) else "tuple": [encode(part, arrays) for part in value]}


def _write_module(module: nn.Module, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    if any(getattr(module, hooks) for hooks in _HOOKS):
        raise NotStorableError(f"cannot be stored without code: the hooks of a {type(module).__name__}")
    own = {name: part for name, part in vars(module).items() if name not in _PLAIN}
    return {
        "module": _named(module),
        "training": module.training,
        "settings": {name: encode(part, arrays) for name, part in own.items()},
        "parameters": {
            name: None if part is None else [encode(part.data, arrays), part.requires_grad]
            for name, part in module._parameters.items()
        },
        "buffers": {name: encode(part, arrays) for name, part in module._buffers.items()},
        "transient": sorted(module._non_persistent_buffers_set),
        "modules": {name: encode(part, arrays) for name, part in module._modules.items()},
    }


def _read_module(tree: dict[str, Any], arrays: dict[str, np.ndarray]) -> nn.Module:
    kind = _class(tree["module"], nn.Module)
    module = kind.__new__(kind)
    nn.Module.__init__(module)
    for name, part in tree["settings"].items():
        if name in _PLAIN:
            raise ValueError(f"file sets {name!r} of a module")
        module.__dict__[name] = decode(part, arrays)
    for name, part in tree["parameters"].items():
        if part is None:
            module.register_parameter(name, None)
        else:
            module.register_parameter(name, nn.Parameter(decode(part[0], arrays), requires_grad=bool(part[1])))
    for name, part in tree["buffers"].items():
        module.register_buffer(name, decode(part, arrays), persistent=name not in tree["transient"])
    for name, part in tree["modules"].items():
        module.add_module(name, decode(part, arrays))
    return module.train(bool(tree["training"]))


def _read_fields(kind: str, base: type) -> Callable[[dict[str, Any], dict[str, np.ndarray]], Any]:
    def read(tree: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
        found = _class(tree[kind], base)
        if not (is_dataclass(found) or hasattr(found, "_fields")):
            raise ValueError(f"file names a class that is no record, {tree[kind]!r}")
        return found(**{name: decode(part, arrays) for name, part in tree["fields"].items()})

    return read


def _each(tree: Any, arrays: dict[str, np.ndarray]) -> list[Any]:
    return [decode(part, arrays) for part in tree]


_WRITERS: list[tuple[Any, Callable[[Any, dict[str, np.ndarray]], Any]]] = [
    (nn.Module, _write_module),
    (Tensor | np.ndarray, _write_array),
    (Enum, lambda value, arrays: {"enum": _named(value), "name": value.name}),
    (torch.dtype, lambda value, arrays: {"dtype": str(value).removeprefix("torch.")}),
    (tuple, _write_tuple),
    (list, lambda value, arrays: {"list": [encode(part, arrays) for part in value]}),
    (dict, lambda value, arrays: {"dict": [[encode(k, arrays), encode(v, arrays)] for k, v in value.items()]}),
    (set | frozenset, lambda value, arrays: {"set": [encode(part, arrays) for part in sorted(value)]}),
]

_READERS: dict[str, Callable[[dict[str, Any], dict[str, np.ndarray]], Any]] = {
    "module": _read_module,
    "dataclass": _read_fields("dataclass", object),
    "namedtuple": _read_fields("namedtuple", tuple),
    "enum": lambda tree, arrays: _class(tree["enum"], Enum)[tree["name"]],
    "tensor": lambda tree, arrays: torch.from_numpy(arrays[tree["tensor"]].copy()),
    "array": lambda tree, arrays: arrays[tree["array"]].copy(),
    "float": lambda tree, arrays: {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[tree["float"]],
    "dtype": lambda tree, arrays: _DTYPES[tree["dtype"]],
    "function": lambda tree, arrays: _FUNCTIONS[tree["function"]],
    "list": lambda tree, arrays: _each(tree["list"], arrays),
    "tuple": lambda tree, arrays: tuple(_each(tree["tuple"], arrays)),
    "size": lambda tree, arrays: torch.Size(_each(tree["size"], arrays)),
    "set": lambda tree, arrays: set(_each(tree["set"], arrays)),
    "dict": lambda tree, arrays: {decode(k, arrays): decode(v, arrays) for k, v in tree["dict"]},
}
