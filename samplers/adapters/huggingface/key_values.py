"""Causal models with a cache of keys and values."""

import inspect
from collections.abc import Callable, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, LinearAttentionCacheLayerMixin

from ...decoding import Scorer
from ...verification.paths import ancestry, paths
from .mask_probe import MaskProbe, additive

_FEW = 16
"""Tokens that are rather computed again than in a call of their own."""

_MATCH_SIZE = 2**22
"""Token comparisons made at once when rows look for their place in the cache."""


class KeyValueScorer(Scorer):
    """A causal model of transformers that does not compute again what its KV cache holds.

    Rows of different length are kept right-aligned in one cache, with explicit positions and a mask. A sliding window
    is applied by the model's mask: the cache keeps all of a sequence.

    Args:
        model: A causal model of transformers in evaluation mode, whose cache is a ``DynamicCache`` of keys and values.

    Raises:
        TypeError: If ``model`` is no model of transformers, such as a name.
        ValueError: If the model is an encoder-decoder or in training mode, or if its cache is of another kind.
    """

    def __init__(self, model: Any) -> None:
        self.model = check_model(model)
        self.num_readable = model.get_input_embeddings().num_embeddings
        parameters = inspect.signature(model.forward).parameters
        if "past_key_values" not in parameters:
            raise ValueError(f"model must take past_key_values, a cache of keys and values, got {type(model).__name__}")
        if has_recurrent_layers(model):
            raise ValueError(
                "model must cache keys and values, and no recurrent state beside them (see as_cached_scorer), got "
                f"{type(model).__name__}"
            )
        self._keeps_logits = "logits_to_keep" in parameters
        self._probe = MaskProbe(model)
        self._begin: tuple[Any, Tensor, Tensor] | None = None
        self._layers: tuple[int, ...] = ()
        self.reset()

    def reset(self) -> None:
        """Forget the cache, but for one that a decoding is to begin with."""
        self._cache: Any = None
        self._ids = torch.zeros(0, 0, dtype=torch.long)
        self._lengths = torch.zeros(0, dtype=torch.long)
        begin, self._begin = self._begin, None
        if begin is not None:
            self._cache, self._ids, self._lengths = begin

    def watch(self, layers: tuple[int, ...]) -> None:
        """Keep hidden states of layers, numbered as in ``output_hidden_states``: 0 are the embeddings, -1 the last."""
        self._layers = tuple(layers)

    def begin_with(self, cache: Any, rows: Sequence[Tensor]) -> None:
        """Let the next decoding begin with a ``DynamicCache`` that holds the tokens of each row ``(n_b,)``.

        Rows are right-aligned in it, as those of left-padded prompts are. Its tensors are read, not written to.

        Raises:
            ValueError: If it does not hold all keys and values of a sequence, of as many rows.
        """
        if any(not is_complete(layer) for layer in getattr(cache, "layers", [None])):
            raise ValueError(
                "past_key_values must be a DynamicCache() of all keys and values of the sequences (one made from a "
                f"config with sliding windows holds the last ones only), got a {type(cache).__name__}"
            )
        if cache.get_seq_length() == 0 or max(map(len, rows)) == 0:
            return
        if cache.layers[0].keys.shape[0] != len(rows):
            raise ValueError(f"past_key_values must hold {len(rows)} rows, got {cache.layers[0].keys.shape[0]}")
        own = DynamicCache()
        for index, layer in enumerate(cache.layers):
            own.update(layer.keys, layer.values, index)
        ids = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
        self._begin = own, ids, torch.tensor([len(row) for row in rows], device=ids.device)

    @torch.no_grad()
    def hand_over(self, cache: Any, rows: Sequence[Tensor], padding: Tensor, width: int) -> None:
        """Fill a ``DynamicCache`` with ``width`` columns that hold each row ``(n_b,)`` after its padding ``(B,)``.

        Rows that ended early are read again; what is in the columns after them is to be masked.
        """
        ids = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
        lengths = torch.tensor([len(row) for row in rows], device=ids.device)
        self.scores(ids, lengths, 1)
        own_padding = self._width - lengths
        column = torch.arange(width, device=ids.device) - (padding.to(ids.device) - own_padding)[:, None]
        slot = column.clamp_(0, self._width - 1)[:, None, :, None]
        for index, mine in enumerate(self._cache.layers):
            keys, values = (
                states.gather(2, slot.expand(-1, states.shape[1], -1, states.shape[3]))
                for states in (mine.keys, mine.values)
            )
            if index < len(cache.layers) and cache.layers[index].is_initialized:
                cache.layers[index].keys, cache.layers[index].values = keys, values
            else:
                cache.update(keys, values, index)

    @torch.no_grad()
    def scores(self, ids: Tensor, lengths: Tensor, count: int) -> Tensor:
        """Run the model on the tokens that the cache does not hold, and on the last ``count`` at least."""
        source, common = self._match(ids, lengths, count)
        if len(ids) > 1 and not self._layers:
            far = lengths - torch.minimum(common, lengths - count) > 2 * count + _FEW
            if bool(far.any()) and not bool(far.all()):
                return self._scores_apart(far, source, ids, lengths, count)
        tokens, position, is_cached = self._new(ids, lengths, count, source, common)
        mask = None
        if is_cached is not None:
            mask = torch.cat((is_cached, position >= 0), dim=1).long()
            position = position.clamp(min=0)
        return self._run(tokens, position, mask, count)

    def _scores_apart(self, far: Tensor, source: Tensor | None, ids: Tensor, lengths: Tensor, count: int) -> Tensor:
        """Score rows that the cache holds little of, ``far (R,)``, such as new prompts, in a call of their own.

        Then the caches are joined. Together with the others, these would be read again over the same length.
        """
        order = torch.cat([which.nonzero()[:, 0] for which in (far, ~far)])
        logits, caches = [], []
        for which in (far, ~far):
            rows = which.nonzero()[:, 0]
            part = copy(self)
            if self._cache is not None:
                old = rows if source is None else source[rows]
                part._cache, part._ids, part._lengths = DynamicCache(), self._ids[old], self._lengths[old]
                for index, layer in enumerate(self._cache.layers):
                    part._cache.update(layer.keys[old], layer.values[old], index)
            width = int(lengths[rows].max())
            logits.append(part.scores(ids[rows, :width], lengths[rows], count))
            caches.append(part._cache)
        back = order.argsort()
        self._cache, self._ids, self._lengths = joined(caches, back), ids.clone(), lengths
        return torch.cat(logits)[back]

    @torch.no_grad()
    def tree_scores(
        self, ids: Tensor, lengths: Tensor, tokens: Tensor, parents: Tensor, sizes: Tensor, count: int
    ) -> Tensor:
        """Run the model on the whole tree at once, each node seeing the row and its ancestors; keep none of it.

        Models whose attention does not follow a mask of every node and token, found by `MaskProbe` (sliding windows,
        local attention, flash attention, ALiBi), score every prefix as a row of its own.
        """
        if not self._probe.holds(int(lengths.max()) + tokens.shape[1]):
            return super().tree_scores(ids, lengths, tokens, parents, sizes, count)
        new, position, is_cached = self._new(ids, lengths, 1, *self._match(ids, lengths, 1))
        depth = paths(parents)[1][1:]
        is_real = torch.arange(len(depth), device=ids.device) < sizes[:, None]
        node_position = torch.where(is_real, depth, 0) + lengths[:, None] - 1
        if is_cached is None:
            is_cached = torch.ones(len(ids), self._width, dtype=torch.bool, device=ids.device)
        mask = additive(tree_mask(is_cached, position >= 0, parents), self.model.dtype)
        position = torch.cat((position, node_position), dim=1).clamp_(min=0)
        logits = self._run(torch.cat((new, tokens), dim=1), position, mask, count)
        _map_layers(self._cache, lambda states: states[:, :, : states.shape[2] - len(depth)])
        return logits

    @property
    def _width(self) -> int:
        """Number of tokens that the cache holds of the longest row."""
        return 0 if self._cache is None or not self._cache.layers else self._cache.layers[0].keys.shape[2]

    def _new(
        self, ids: Tensor, lengths: Tensor, count: int, source: Tensor | None, common: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The last tokens of each row ``(R, w)`` that the cache does not hold, ``count`` at least, and their positions.

        Positions ``(R, w)`` are negative in the padding before a row. The cache is arranged to hold what comes before;
        its entries that are no padding are ``(R, c)``, None where neither it nor the new tokens hold any.
        """
        ends = lengths.tolist()
        width = max(end - min(here, end - count) for end, here in zip(ends, common.tolist(), strict=True))
        kept = [max(end - width, 0) for end in ends]
        self._arrange(source, kept)
        self._ids, self._lengths = ids.clone(), lengths
        position = torch.arange(-width, 0, device=ids.device) + lengths[:, None]
        if min(ends) == max(ends) >= width:
            return ids[:, ends[0] - width : ends[0]], position, None
        longest = max(kept)
        is_cached = torch.arange(-longest, 0, device=ids.device) >= -torch.tensor(kept, device=ids.device)[:, None]
        return ids.gather(1, position.clamp(min=0)), position, is_cached

    def _run(self, tokens: Tensor, position: Tensor, mask: Tensor | None, count: int) -> Tensor:
        output = self.model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=position,
            past_key_values=self._cache,
            use_cache=True,
            **({"logits_to_keep": count} if self._keeps_logits else {}),
            **({"output_hidden_states": True} if self._layers else {}),
        )
        if self._layers:
            self.hidden = torch.cat([output.hidden_states[layer] for layer in self._layers], dim=-1)
        return output.logits[:, -count:]

    def _match(self, ids: Tensor, lengths: Tensor, count: int) -> tuple[Tensor | None, Tensor]:
        """For each row, the old row ``(R,)`` with the longest common prefix, and its length ``(R,)``.

        None for the old rows says that every row has its own place. First rows are compared with the old rows that
        stand where theirs must be if drafts were made of them, or they of drafts; those that do not go on from there
        are compared with all.
        """
        if self._cache is None:
            return None, torch.zeros_like(lengths)
        if len(ids) == len(self._ids) == 1:
            size = min(int(lengths), int(self._lengths))
            if torch.equal(ids[:, :size], self._ids[:, :size]):
                return None, torch.tensor([size], device=ids.device)
        source = guess_source(ids, lengths, self._ids, self._lengths)
        if source is None:
            common = common_prefix(ids, lengths, self._ids, self._lengths)
            if len(ids) == 1:
                return None, common
            most = self._lengths
        else:
            most = self._lengths[source]
            common = common_prefix(ids, lengths, self._ids[source], most)
        searching = (common < torch.minimum(lengths - count, most)).nonzero()[:, 0]
        if len(searching) == 0:
            return source, common
        source = torch.arange(len(ids), device=ids.device) if source is None else source
        for rows in searching.split(max(_MATCH_SIZE // self._ids.numel(), 1)):
            found = common_prefix(ids[rows, None], lengths[rows, None], self._ids[None], self._lengths[None])
            longest, best = found.max(dim=1)
            is_longer = longest > common[rows]
            source[rows] = torch.where(is_longer, best, source[rows])
            common[rows] = torch.where(is_longer, longest, common[rows])
        return source, common

    def _arrange(self, source: Tensor | None, kept: Sequence[int]) -> None:
        """Make row ``r`` of the cache the first ``kept[r]`` tokens of the old row ``source[r]``, right-aligned."""
        width = max(kept)
        if self._cache is None or width == 0:
            self._cache = DynamicCache()
            return
        old_width = check_layers(self._cache)[0].keys.shape[2]
        lengths = (self._lengths if source is None else self._lengths[source]).tolist()
        start = [old_width - length + keep - width for length, keep in zip(lengths, kept, strict=True)]
        if source is None and min(start) == max(start):
            first = start[0]
            if first > 0 or width < old_width:
                _map_layers(self._cache, lambda states: states[:, :, first : first + width])
            return
        device = self._lengths.device
        index = torch.arange(len(kept), device=device) if source is None else source
        if min(start) == max(start):
            window = slice(start[0], start[0] + width)
            _map_layers(self._cache, lambda states: states[:, :, window].index_select(0, index))
            return
        slot = torch.tensor(start, device=device)[:, None] + torch.arange(width, device=device)
        slot = slot.clamp_(min=0)[:, None, :, None]
        _map_layers(
            self._cache,
            lambda states: states.index_select(0, index).gather(
                2, slot.expand(-1, states.shape[1], -1, states.shape[3])
            ),
        )


def check_model(model: Any) -> Any:
    """Return a causal model in evaluation mode, refuse anything else."""
    if isinstance(model, str | bytes | type) or not callable(model) or not hasattr(model, "config"):
        got = repr(model) if isinstance(model, str) else type(model).__name__
        raise TypeError(f"model must be a causal model of transformers (load it with from_pretrained), got {got}")
    if model.training:
        raise ValueError("model must be in evaluation mode (model.eval()), got one in training mode")
    if model.config.is_encoder_decoder:
        raise ValueError(f"model must be decoder-only, got {type(model).__name__}")
    return model


def has_recurrent_layers(model: Any) -> bool:
    """Whether a layer of a model's cache holds something besides keys and values."""
    layers = DynamicCache(config=model.config.get_text_config()).layers
    return any(not isinstance(one, DynamicLayer) or isinstance(one, LinearAttentionCacheLayerMixin) for one in layers)


def joined(caches: Sequence[Any], order: Tensor) -> Any:
    """Put the rows of caches together, right-aligned, in the given order ``(R,)``."""
    cache = DynamicCache()
    width = max(one.layers[0].keys.shape[2] for one in caches)
    for index in range(len(caches[0].layers)):
        pair = [(one.layers[index].keys, one.layers[index].values) for one in caches]
        keys, values = (
            torch.cat([torch.nn.functional.pad(part, (0, 0, width - part.shape[2], 0)) for part in parts])[order]
            for parts in zip(*pair, strict=True)
        )
        cache.update(keys, values, index)
    return cache


def guess_source(ids: Tensor, lengths: Tensor, old_ids: Tensor, old_lengths: Tensor) -> Tensor | None:
    """Old rows ``(R,)`` that rows are likely to go on from; None where row ``r`` is likely to go on from row ``r``.

    Where there are ``m`` rows for each old one, they stand together, and so do ``m`` old ones for each row: then the
    one of the longest common prefix is taken. Without such a proportion all come from the first.
    """
    new, old = len(ids), len(old_ids)
    if new == old:
        return None
    rows = torch.arange(new, device=ids.device)
    if new % old == 0:
        return rows // (new // old)
    if old % new == 0:
        group = old // new
        common = common_prefix(
            ids[:, None], lengths[:, None], old_ids.unflatten(0, (new, group)), old_lengths.unflatten(0, (new, group))
        )
        return rows * group + common.argmax(-1)
    return torch.zeros_like(rows)


def tree_mask(is_cached: Tensor, is_real: Tensor, parents: Tensor) -> Tensor:
    """What each of ``w`` new tokens and ``n`` nodes of a tree sees of ``c`` cached tokens and of themselves.

    Args:
        is_cached: Cached tokens that are no padding ``(R, c)``.
        is_real: New tokens that are no padding ``(R, w)``.
        parents: Parent of each node ``(n,)``, -1 for the last of the new tokens.

    Returns:
        ``(R, w+n, c+w+n)``: every token sees itself and what comes before it, every node its ancestors too.

    Example:
        >>> tree_mask(torch.ones(1, 1).bool(), torch.ones(1, 1).bool(), torch.tensor([-1, -1, 0]))[0].long()
        tensor([[1, 1, 0, 0, 0],
                [1, 1, 1, 0, 0],
                [1, 1, 0, 1, 0],
                [1, 1, 1, 0, 1]])
    """
    count, width, size = is_cached.shape[1], is_real.shape[1], parents.numel()
    within = torch.ones(width + size, width + size, dtype=torch.bool, device=is_real.device).tril()
    within[width:, width:] = ancestry(parents)
    before = torch.cat((is_cached, is_real), dim=1)[:, None].expand(-1, width + size, -1)
    seen = torch.nn.functional.pad(before, (0, size), value=True)
    return seen & torch.nn.functional.pad(within, (count, 0), value=True)


def common_prefix(ids: Tensor, lengths: Tensor, other_ids: Tensor, other_lengths: Tensor) -> Tensor:
    """Length ``(...)`` of the common prefix of rows ``(..., L)`` and ``(..., K)`` of the given lengths.

    Example:
        >>> common_prefix(torch.tensor([1, 2, 3]), torch.tensor(3), torch.tensor([1, 2, 4, 5]), torch.tensor(4))
        tensor(2)
    """
    size = min(ids.shape[-1], other_ids.shape[-1])
    is_equal = ids[..., :size] == other_ids[..., :size]
    position = torch.arange(size, dtype=torch.int32, device=ids.device)
    first_difference = torch.where(is_equal, size, position).amin(dim=-1).long()
    return torch.minimum(first_difference, torch.minimum(lengths, other_lengths))


def is_complete(layer: Any) -> bool:
    """Whether a layer of a cache holds all keys and values of a sequence, and nothing else."""
    if not isinstance(layer, DynamicLayer):
        return False
    tensors = {name for name, value in vars(layer).items() if isinstance(value, Tensor)}
    return tensors <= {"keys", "values"} and not layer.is_sliding


def check_layers(cache: Any) -> list[Any]:
    """Return the layers of a cache if each holds all keys and values of a sequence."""
    for layer in cache.layers:
        if not is_complete(layer):
            raise ValueError(f"model must cache all keys and values of a sequence, got a layer {type(layer).__name__}")
    if not cache.layers:
        raise ValueError("model must cache keys and values, got one that keeps none (see as_cached_scorer)")
    return cache.layers


def _map_layers(cache: Any, function: Callable[[Tensor], Tensor]) -> None:
    for layer in cache.layers:
        layer.keys, layer.values = function(layer.keys), function(layer.values)
