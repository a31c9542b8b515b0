"""Recurrent and hybrid models: their state cannot be cropped, so it is copied and tokens are read again."""

import copy
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...decoding import Scorer
from .key_values import check_model
from .mask_probe import is_right, probe_tokens

_FARTHEST = 16
"""Tokens that are read again in one call before the checkpoint is moved by a call of its own."""

_CACHES = ("past_key_values", "cache_params", "state")


@dataclass
class Checkpoint:
    """The state of a model after the tokens ``ids (n,)``."""

    ids: Tensor
    state: Any

    def __len__(self) -> int:
        return len(self.ids)

    def is_prefix(self, ids: Tensor) -> bool:
        """Whether the row ``ids (l,)`` begins with these tokens."""
        return len(self) <= len(ids) and torch.equal(self.ids, ids[: len(self)])


class ReplayScorer(Scorer):
    """A causal model of transformers whose state is one of a kind after each token: Mamba, RWKV, hybrids of attention.

    Such a state cannot be cropped after a rejection. Of each row two copies are kept: one after the row's last scored
    token, from which the row goes on if all drafts are accepted, and one before its drafts, from which it is read
    again if not. Each row is a call of the model, so padding never enters a state.

    Args:
        model: A causal model in evaluation mode that takes its state as ``past_key_values``, ``cache_params`` or
            ``state``.

    Raises:
        TypeError: If ``model`` is no model of transformers, such as a name.
        ValueError: If the model is an encoder-decoder or in training mode, if it takes no state, or if, tested once on
            a few tokens, it does not go on from its state as if it had read all tokens at once.
    """

    def __init__(self, model: Any) -> None:
        self.model = check_model(model)
        self.num_readable = model.get_input_embeddings().num_embeddings
        parameters = inspect.signature(model.forward).parameters
        names = [name for name in _CACHES if name in parameters]
        if not names:
            raise ValueError(f"model must take its state as one of {_CACHES}, got {type(model).__name__}")
        self._state_name = names[0]
        self._step_size = self._largest_step()
        self.reset()

    def reset(self) -> None:
        """Forget all states."""
        self._checkpoints: list[Checkpoint] = []

    @torch.no_grad()
    def scores(self, ids: Tensor, lengths: Tensor, count: int) -> Tensor:
        """Read of each row what comes after its best checkpoint, the last ``count`` tokens at least."""
        kept: list[Checkpoint] = []
        logits = []
        for row, length in zip(ids, lengths.tolist(), strict=True):
            scored, checkpoints = self._score(row[:length], min(count, length))
            logits.append(torch.nn.functional.pad(scored, (0, 0, count - len(scored), 0)))
            kept += checkpoints
        self._checkpoints = kept
        return torch.stack(logits)

    def _score(self, ids: Tensor, count: int) -> tuple[Tensor, list[Checkpoint]]:
        """Logits ``(count, v)`` after the last prefixes of ``ids (n,)``, and the checkpoints to keep of the row."""
        fits = [point for point in self._checkpoints if len(point) <= len(ids) - count and point.is_prefix(ids)]
        begin = max(fits, key=len, default=Checkpoint(ids[:0], None))
        middle = len(ids) - count
        if middle - len(begin) > (_FARTHEST if fits else 0):
            state = self._read(ids[len(begin) : middle], copy.deepcopy(begin.state))[1]
            begin = Checkpoint(ids[:middle].clone(), state)
        logits, state = self._read(ids[len(begin) :], copy.deepcopy(begin.state))
        return logits[-count:], [begin, Checkpoint(ids.clone(), state)]

    def _read(self, ids: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Logits ``(n, v)`` after each of ``ids (n,)``, read from a state, which is overwritten, and the state then."""
        logits = []
        for piece in ids.split(len(ids) if state is None else self._step_size):
            output = self.model(input_ids=piece[None], **{self._state_name: state}, use_cache=True)
            state = getattr(output, self._state_name)
            logits.append(output.logits[0])
        return torch.cat(logits), state

    @torch.no_grad()
    def _largest_step(self) -> int:
        """How many tokens the model reads at once from a state: all or one; tested against reading them in one go."""
        ids = probe_tokens(self.model, 9)[0]
        for size in (2**30, 1):
            self._step_size = size
            try:
                whole, wrong = self._read(ids, None)[0], self._read(ids[5:], None)[0]
                state = self._read(ids[:5], None)[1]
                if state is not None:
                    twice = [self._read(ids[5:], copy.deepcopy(state))[0] for _ in range(2)]
                    if all(is_right(found[1:], whole[6:], wrong[1:]) for found in twice):
                        return size
            except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):
                continue
        raise ValueError(
            f"model must go on from its {self._state_name} as if it had read all tokens at once, and "
            f"{type(self.model).__name__} does not: give a function ids -> logits, which is called without a state"
        )


def is_causal(model: Any) -> bool:
    """Whether logits do not depend on later tokens, tested on a few: they are then the same but for rounding."""
    ids = probe_tokens(model, 9)
    other = ids.clone()
    other[:, 6:] = ids[:, :3]
    first, second = (model(input_ids=part).logits[0, :6] for part in (ids, other))
    return bool((first - second).abs().max() <= 4 * torch.finfo(first.dtype).eps * first.abs().max())
