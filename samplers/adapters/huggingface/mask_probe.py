"""Whether a model can score a token tree in one pass: tested on the model itself."""

from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from ...verification.paths import ancestry, paths

_SHORTEST = 64
_PARENTS = [-1, -1, 0, 1]


class MaskProbe:
    """Says whether a model's attention follows a mask of queries and keys, and its positions are those it is told.

    Two experiments, made once each on the model itself. A small tree is scored in one pass and path by path. Then one
    token is scored after a long cache, with a mask that hides nothing and without one: they differ if the model has a
    window or chunks of its own that such a mask would switch off. The keys and values of that cache are those of a few
    tokens, repeated, so that it costs one step of decoding. Every difference is measured against what a wrong mask
    would do, so no tolerance depends on the scale of the logits. A model that fails, or raises an error, cannot.

    Args:
        model: A causal model of transformers.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self._proven, self._has_failed = 0, False

    @torch.no_grad()
    def holds(self, length: int) -> bool:
        """Whether trees below rows of at most ``length`` tokens can be scored in one pass."""
        if self._has_failed or length <= self._proven:
            return not self._has_failed
        reach = max(_SHORTEST, 1 << (length - 1).bit_length())
        try:
            is_tree_right = self._proven > 0 or follows_trees(self.model)
            self._has_failed = not (is_tree_right and sees_all(self.model, 2 * reach))
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError):  # it takes no such mask
            self._has_failed = True
        self._proven = 0 if self._has_failed else reach
        return not self._has_failed


def probe_tokens(model: Any, count: int) -> Tensor:
    """Token ids ``(1, count)`` that the model can read."""
    embeddings = model.get_input_embeddings()
    return (3 * torch.arange(count, device=embeddings.weight.device)[None] + 1) % embeddings.num_embeddings


def additive(seen: Tensor, dtype: torch.dtype) -> Tensor:
    """The mask ``(R, 1, q, k)`` to add to attention scores: 0 where seen ``(R, q, k)``, else the lowest number."""
    return torch.zeros_like(seen, dtype=dtype).masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


def is_right(found: Tensor, right: Tensor, wrong: Tensor) -> bool:
    """Whether ``found`` is much nearer to ``right`` than ``wrong`` is: all logits ``(..., v)``."""
    share = 0.1 if found.dtype in (torch.float16, torch.bfloat16) else 0.01
    found, right, wrong = found.double(), right.double(), wrong.double()
    return bool(((found - right).abs().mean(-1) < share * (wrong - right).abs().mean(-1)).all())


def follows_trees(model: Any) -> bool:
    """Whether a tree scored in one pass has the logits of its paths, and not those of a chain."""
    ids = probe_tokens(model, 5 + len(_PARENTS))
    parents, row, nodes = torch.tensor(_PARENTS, device=ids.device), ids[:, :5], ids[:, 5:]
    chain = torch.ones(1, 9, 9, dtype=torch.bool, device=ids.device).tril()
    tree = chain.clone()
    tree[:, 5:, 5:] = ancestry(parents)
    depth = paths(parents)[1][1:]
    position = torch.cat((torch.arange(5, device=ids.device), 4 + depth))[None]
    found, wrong = (_logits(model, ids, position, additive(mask, model.dtype))[:, 7:] for mask in (tree, chain))
    path = torch.cat((row.expand(2, -1), nodes[0, [[0, 2], [1, 3]]]), dim=1)
    right = _logits(model, path, torch.arange(7, device=ids.device).expand(2, -1), None)[:, -1]
    return is_right(found[0], right, wrong[0])


def sees_all(model: Any, length: int) -> bool:
    """Whether the model without a mask sees all of ``length`` cached tokens, as with a mask that hides nothing."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    length = min(length, limit - 1) if isinstance(limit, int) and limit > 1 else length
    ids = probe_tokens(model, 9)
    half, four = length // 2, torch.arange(4, device=ids.device)
    index = torch.cat((four.repeat(half // 4 + 1)[:half], 4 + four.repeat(length // 4 + 1)[: length - half]))
    seen = torch.ones(1, 1, length + 1, dtype=torch.bool, device=ids.device)
    blind = seen.clone()
    blind[..., :half] = False
    right, found, wrong = (
        _after_cache(model, ids, index, None if mask is None else additive(mask, model.dtype))
        for mask in (None, seen, blind)
    )
    return is_right(found, right, wrong)


def _after_cache(model: Any, ids: Tensor, index: Tensor, mask: Tensor | None) -> Tensor:
    """Logits ``(v,)`` of the last of ``ids (1, 9)`` after a cache made of the entries ``index`` of the first eight."""
    cache = DynamicCache()
    place = torch.arange(9, device=ids.device)[None]
    _logits(model, ids[:, :8], place[:, :8], None, cache)
    for layer in cache.layers:
        layer.keys, layer.values = layer.keys[:, :, index], layer.values[:, :, index]
    return _logits(model, ids[:, 8:], place[:, 8:], mask, cache)[0, -1]


def _logits(model: Any, ids: Tensor, position: Tensor, mask: Tensor | None, cache: Any = None) -> Tensor:
    cache = DynamicCache() if cache is None else cache
    output = model(input_ids=ids, attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True)
    return output.logits
