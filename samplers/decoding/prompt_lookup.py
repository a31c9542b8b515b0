"""Drafts copied from what came before."""

import numpy as np
import torch
from torch import Tensor

from mixkit._validation import check_integer

from ..verification.sources import RandomSource
from .drafting import Drafter, Drafts
from .histories import Histories

__all__ = ["PromptLookup"]


class PromptLookup(Drafter):
    """One draft without a distribution: what followed the last occurrence of the latest tokens in the history itself.

    The longest suffix of at most ``max_ngram`` tokens that occurs earlier is looked up; its latest earlier occurrence
    counts. Where the text that followed it comes to the end of the history, it goes on with the draft itself: a text of
    period 2 is continued with period 2. A row without an earlier occurrence gets no draft. One look-up takes a few
    passes over the history, at most one for each token of the match. (Saxena 2023, prompt lookup decoding.)

    Args:
        draft_length: Longest draft ``t``.
        max_ngram: Longest suffix to look up.

    Example:
        >>> import torch
        >>> from samplers.decoding import Histories
        >>> rows = Histories.of([[1, 2, 3, 4, 1, 2], [5, 6, 5, 6, 5, 6]])
        >>> PromptLookup(3).propose(rows, torch.tensor([3, 3]), 7, None).tokens
        tensor([[[3, 4, 1]],
        <BLANKLINE>
                [[5, 6, 5]]])
    """

    def __init__(self, draft_length: int = 5, max_ngram: int = 3) -> None:
        self.draft_length = check_integer("draft_length", draft_length, low=1)
        self.max_ngram = check_integer("max_ngram", max_ngram, low=1)

    def __repr__(self) -> str:
        return f"PromptLookup(draft_length={self.draft_length}, max_ngram={self.max_ngram})"

    def propose(self, histories: Histories, limits: Tensor, vocab_size: int, source: RandomSource) -> Drafts:
        """Look every row up."""
        tokens = np.zeros((len(histories), 1, self.draft_length), dtype=np.int64)
        lengths = np.zeros((len(histories), 1), dtype=np.int64)
        ids, ends = histories.ids.cpu().numpy(), histories.lengths.tolist()
        for row, (end, limit) in enumerate(zip(ends, limits.tolist(), strict=True)):
            history = ids[row, :end]
            start = find_continuation(history, self.max_ngram) if limit > 0 else end
            if start < end:
                tokens[row, 0, :limit] = np.resize(history[start:], limit)
                lengths[row, 0] = limit
        device = limits.device
        return Drafts(torch.from_numpy(tokens).to(device), None, torch.from_numpy(lengths).to(device))


def find_continuation(history: np.ndarray, max_ngram: int) -> int:
    """Index after the latest earlier occurrence of the longest suffix of ``history (n,)``; ``n`` if there is none.

    Example:
        >>> find_continuation(np.array([1, 2, 3, 4, 1, 2]), 3)
        2
    """
    size = len(history)
    found, is_match = size, None
    for length in range(1, min(max_ngram, size - 1) + 1):
        # Entry e says whether the ``length`` tokens that end at e are the last ones of the history.
        same = history[: size - length] == history[size - length]
        is_match = same if is_match is None else np.logical_and(is_match[1:], same, out=same)
        back = int(is_match[::-1].argmax())
        if not is_match[len(is_match) - 1 - back]:
            break
        found = size - 1 - back
    return found
