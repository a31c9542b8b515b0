"""Drafts copied from what came before."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mixkit._validation import check_integer

from ..verification.sources import RandomSource
from . import Drafter, Drafts, Histories

__all__ = ["PromptLookup"]


class PromptLookup(Drafter):
    """One draft without a distribution: what followed the last occurrence of the latest tokens in the history itself.

    The longest suffix of at most ``max_ngram`` tokens that occurs earlier is looked up; its latest earlier occurrence
    counts. A row without one gets no draft. (Saxena 2023, prompt lookup decoding.)

    Args:
        draft_length: Longest draft ``t``.
        max_ngram: Longest suffix to look up.

    Example:
        >>> import torch
        >>> from samplers.decoding import Histories
        >>> rows = Histories.of([[1, 2, 3, 4, 1, 2]])
        >>> PromptLookup(2).propose(rows, torch.tensor([2]), 5, None).tokens
        tensor([[[3, 4]]])
    """

    def __init__(self, draft_length: int = 5, max_ngram: int = 3) -> None:
        self.draft_length = check_integer("draft_length", draft_length, low=1)
        self.max_ngram = check_integer("max_ngram", max_ngram, low=1)

    def propose(self, histories: Histories, limits: Tensor, vocab_size: int, source: RandomSource) -> Drafts:
        """Look every row up."""
        tokens = torch.zeros(len(histories), 1, self.draft_length, dtype=torch.long)
        lengths = torch.zeros(len(histories), 1, dtype=torch.long)
        rows = zip(histories.ids.tolist(), histories.lengths.tolist(), limits.tolist(), strict=True)
        for row, (ids, length, limit) in enumerate(rows):
            found = self._find(ids[:length])[:limit]
            tokens[row, 0, : len(found)] = torch.tensor(found, dtype=torch.long)
            lengths[row] = len(found)
        return Drafts(tokens.to(limits.device), None, lengths.to(limits.device))

    def _find(self, ids: Sequence[int]) -> Sequence[int]:
        """Return what followed the latest earlier occurrence of the longest suffix."""
        for size in range(min(self.max_ngram, len(ids) - 1), 0, -1):
            suffix = ids[-size:]
            for start in range(len(ids) - size - 1, -1, -1):
                if ids[start : start + size] == suffix:
                    return ids[start + size : start + size + self.draft_length]
        return []
