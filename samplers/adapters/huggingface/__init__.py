"""Hugging Face causal models in the decoding loop: their caches, and ``model.generate(custom_generate=...)``.

Needs the extra ``mixkit[hf]``; start with ``generate.py``. A `KeyValueScorer` keeps the cache of what it has scored
and, at each call, keeps of it what the new rows have in common with the old ones: after a rejection the cache is
cropped, the winner's cache serves all drafts of its row, rows that are done drop out, and every row has a length of its
own. A token tree is scored in one pass, by an attention mask that shows each node its ancestors. A `ReplayScorer` does
the same for recurrent and hybrid models by copies of their states; `as_cached_scorer` finds out which a model takes.
"""

try:
    import transformers as _transformers  # noqa: F401
except ImportError as error:  # pragma: no cover
    raise ImportError("samplers.adapters.huggingface needs transformers: pip install mixkit[hf]") from error

from .generate import speculative_generate
from .key_values import KeyValueScorer
from .replay import ReplayScorer
from .scorers import as_cached_scorer
from .warpers import translate

__all__ = ["KeyValueScorer", "ReplayScorer", "as_cached_scorer", "speculative_generate", "translate"]
