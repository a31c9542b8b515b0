"""Settings of its own for each row of a batch."""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from .base import Chain, LogitsFunction

__all__ = ["PerRow"]


class PerRow:
    """A processor for each row of a batch: temperatures, top-k, top-p, or chains of them, that differ by request.

    In the decoding loop every position of every draft of a row is processed by that row's processor; called, it
    processes ``scores (B, v)`` row by row. Rows whose processors have equal settings are processed together.

    Args:
        processors: A processor for each row, or None for rows whose logits stay as they are.

    Raises:
        TypeError: If an entry is neither a callable nor None.
        ValueError: If there is no entry.

    Example:
        >>> import torch
        >>> from samplers import Temperature, TopK
        >>> PerRow([Temperature(0.5), None, TopK(1)])(None, torch.tensor([[0.0, 1.0]] * 3))
        tensor([[0., 2.],
                [0., 1.],
                [-inf, 1.]])
    """

    def __init__(self, processors: Sequence[LogitsFunction | None]) -> None:
        if not isinstance(processors, Sequence) or isinstance(processors, str):
            raise TypeError(f"processors must be a sequence of one for each row, got {type(processors).__name__}")
        if len(processors) == 0:
            raise ValueError("processors must have an entry for each row, got none")
        self.processors = [Chain() if one is None else Chain(one) for one in processors]

    def __len__(self) -> int:
        return len(self.processors)

    def groups(self, rows: Tensor) -> list[tuple[LogitsFunction, Tensor]]:
        """Return processors, and which entries ``(s,)`` of ``rows (r,)``, rows of the batch, each of them has.

        Raises:
            ValueError: If a row has no processor.
        """
        found: dict[Hashable, tuple[LogitsFunction, list[int]]] = {}
        for entry, row in enumerate(rows.tolist()):
            if row >= len(self.processors):
                raise ValueError(f"processors must have an entry for each row, got {len(self)} and row {row}")
            one = self.processors[row]
            key = row if one.needs_history else one.settings_key
            found.setdefault(key, (one, []))[1].append(entry)
        return [(one, torch.tensor(entries, device=rows.device)) for one, entries in found.values()]

    def __call__(self, input_ids: Tensor | None, scores: Tensor) -> Tensor:
        """Return the processed ``scores (B, v)``, row ``b`` by the processor of row ``b``."""
        if len(scores) != len(self):
            raise ValueError(f"scores must have a row for each of the {len(self)} processors, got {len(scores)}")
        processed = torch.empty_like(scores)
        for one, rows in self.groups(torch.arange(len(scores), device=scores.device)):
            history = None if input_ids is None else input_ids[rows]
            processed[rows] = one(history, scores[rows])  # type: ignore[arg-type]
        return processed

    def __repr__(self) -> str:
        return f"PerRow({self.processors!r})"
