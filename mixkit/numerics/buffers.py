"""Buffers that stay in float32 whatever the dtype of the model they belong to."""

from typing import Any, ClassVar

from torch import nn

__all__ = ["KeepsFloat32"]


class KeepsFloat32(nn.Module):
    """A module whose named buffers keep the dtype they were built in, and so their small steps.

    ``half()``, ``to(dtype)`` and a state dictionary in half precision, assigned or copied, leave their dtype alone.

    Attributes:
        float32_buffers: names of these buffers.
    """

    float32_buffers: ClassVar[tuple[str, ...]] = ()

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        before = {name: getattr(self, name) for name in self.float32_buffers}
        super()._apply(fn, recurse)
        for name, value in before.items():
            moved = getattr(self, name)
            if moved.dtype != value.dtype:
                kept = value.to(moved.device) if not moved.is_meta and not value.is_meta else moved.to(value.dtype)
                setattr(self, name, kept)
        return self

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        before = {name: getattr(self, name).dtype for name in self.float32_buffers}
        super()._load_from_state_dict(*arguments, **options)
        for name, dtype in before.items():
            loaded = getattr(self, name)
            if loaded.dtype != dtype:
                setattr(self, name, loaded.to(dtype))
