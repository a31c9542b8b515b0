"""Block verification of one row: from the end of the draft, so that only what is tested is computed.

A batch is verified by the tensors of ``block.py``, which an enumeration needs too. The same seed gives a row the same
tokens either way, which the tests hold.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from .node import compute_dtype
from .single_row import are_laws
from .sources import RandomSource


class OneBlock:
    """One draft of one row.

    Args:
        target: Target logits ``(n+1, v)``.
        draft: Draft logits ``(n, v)``.
        tokens: Drafted tokens.

    Attributes:
        weights: Weights of the prefixes, the empty one first.
        is_sound: Whether all rows were distributions; if not, nothing else is to be asked.
    """

    def __init__(self, target: Tensor, draft: Tensor, tokens: list[int]):
        self._last, self._length = target[-1], len(tokens)
        self._dtype = compute_dtype(target, precise=False)
        self._spare = torch.empty(target.shape[-1], dtype=self._dtype, device=target.device)
        self._target = [row.softmax(-1, dtype=self._dtype) for row in target[: self._length]]
        self._draft = [row.softmax(-1, dtype=self._dtype) for row in draft]
        held = [
            (q[token].item(), p[token].item()) for q, p, token in zip(self._target, self._draft, tokens, strict=True)
        ]
        self.is_sound = are_laws(self._last[None]) and not any(math.isnan(q + p) for q, p in held)
        self.weights = [1.0]
        for q, p in held:
            here = self.weights[-1] * q
            self.weights.append(float(here > 0) if here >= p else here / p)

    def draw(self, source: RandomSource) -> tuple[int, int]:
        """Draw the number of accepted tokens and the token after them."""
        accepted = self._length - source.choose_in_turn(self._ends())
        return accepted, source.choose_one(self._following(accepted))

    def _ends(self) -> Iterator[float]:
        """Probabilities that all tokens are kept, all but the last, and so on."""
        left = 1.0
        for place in range(self._length, -1, -1):
            keep = self._keep(place)
            yield left * keep
            left *= 1 - keep

    def _keep(self, place: int) -> float:
        """Probability of keeping the first tokens, given that no longer prefix is kept."""
        weight = self.weights[place]
        if place in (0, self._length):
            return weight
        surplus = float(self._surplus(place).sum())
        below = surplus + 1 - weight
        return surplus / below if below > 0 else 1.0

    def _surplus(self, place: int) -> Tensor:
        scaled = torch.mul(self._target[place], self.weights[place], out=self._spare)
        return scaled.sub_(self._draft[place]).clamp_min_(0.0)

    def _following(self, accepted: int) -> Tensor:
        """Weights of the token after the accepted ones."""
        if accepted == self._length:
            return self._last.softmax(-1, dtype=self._dtype)
        weights = self._surplus(accepted)
        return weights if float(weights.sum()) > 0 else self._target[accepted]
