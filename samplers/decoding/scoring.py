"""How the loop asks a model for logits."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeGuard

import torch
from torch import Tensor

from .._validation import check_logits
from ..processors import Chain, LogitsFunction, PerRow, Processor, Temperature
from ..processors.ordering import largest_index
from .histories import Histories

Model = Callable[[Tensor], Any]
"""A causal model: ids ``(R, L)`` to next-token logits ``(R, L, v)``, or to an object that holds them as ``logits``."""


class Scorer(ABC):
    """A causal model as the loop sees it. A subclass may keep a cache of what it has seen between calls.

    Attributes:
        hidden: Hidden states ``(R, w, d)`` of the last ``w`` tokens of each row in the last call of ``scores``, those
            of all watched layers side by side; None if none are watched.
        num_readable: Ids that the model can read, ``0..num_readable-1``; None if that is not known. A row that holds
            another is not given to a draft model.
    """

    num_readable: int | None = None
    hidden: Tensor | None = None

    def watch(self, layers: tuple[int, ...]) -> None:
        """Keep the hidden states of some layers at every call of ``scores``, for drafters that read them.

        Raises:
            ValueError: If this scorer cannot.
        """
        if layers:
            raise ValueError(
                "target must be a scorer that gives hidden states, such as a KeyValueScorer, for drafts that read "
                f"them, got {type(self).__name__}"
            )

    @abstractmethod
    def scores(self, ids: Tensor, lengths: Tensor, count: int) -> Tensor:
        """Return the next-token logits after the last ``count`` prefixes of each row.

        Args:
            ids: Token ids ``(R, L)``, right-padded: a view of a buffer that is written to afterwards, so a scorer
                copies what it keeps.
            lengths: Number of tokens in each row ``(R,)``.
            count: How many prefixes ``c``, at least 1.

        Returns:
            Logits ``(R, c, v)``; entry ``[r, j]`` follows ``ids[r, :lengths[r] - c + 1 + j]``. Entries of prefixes
            shorter than one token may hold anything. A tensor that the scorer does not use again: it may be written to.
        """

    def tree_scores(
        self, ids: Tensor, lengths: Tensor, tokens: Tensor, parents: Tensor, sizes: Tensor, count: int
    ) -> Tensor:
        """Return the next-token logits after nodes of a tree below each row.

        Here each prefix is a row of its own; a subclass may score the whole tree at once.

        Args:
            ids: Token ids ``(R, L)``, right-padded.
            lengths: Number of tokens in each row ``(R,)``.
            tokens: Token of each node ``(R, n)``.
            parents: Parent of each node ``(n,)``: -1 for the root, which is the row's last token, else an earlier node.
            sizes: Number of nodes of each row ``(R,)``; what lies beyond is padding.
            count: How many ``c`` of the root and the nodes, the last ones.

        Returns:
            Logits ``(R, c, v)``. Entries of padding may hold anything.
        """
        rows = Histories.plain(ids, lengths).along(tokens, parents, sizes, count)
        return self.scores(rows.ids, rows.lengths, 1)[:, 0].unflatten(0, (len(ids), count))

    def reset(self) -> None:  # noqa: B027  a scorer without a cache has nothing to forget
        """Forget what was cached: a new batch begins."""


class CallableScorer(Scorer):
    """A stateless causal model: logits at a position depend on the ids up to it alone.

    Args:
        model: ids ``(R, L)`` to logits ``(R, L, v)``, or to an object that holds them as ``logits``.

    Example:
        >>> import torch
        >>> bigram = torch.eye(3).log()
        >>> scorer = CallableScorer(lambda ids: bigram[ids])
        >>> scorer.scores(torch.tensor([[0, 1], [2, 0]]), torch.tensor([2, 1]), 1).exp()
        tensor([[[0., 1., 0.]],
                [[0., 0., 1.]]])
    """

    def __init__(self, model: Model) -> None:
        if not callable(model):
            raise TypeError(f"model must be a callable ids -> logits, got {type(model).__name__}")
        self.model = model

    def scores(self, ids: Tensor, lengths: Tensor, count: int) -> Tensor:
        """Call the model on whole rows and pick the positions asked for."""
        output = self.model(ids)
        logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
        if not isinstance(logits, Tensor):
            raise TypeError(
                "model must return a torch.Tensor of logits, or an object that holds one as logits, got "
                f"{type(output).__name__}"
            )
        if logits.ndim != 3 or logits.shape[:2] != ids.shape:
            raise ValueError(f"model must map ids {tuple(ids.shape)} to logits (R, L, v), got {tuple(logits.shape)}")
        position = lengths[:, None] - count + torch.arange(count, device=ids.device)
        return logits.gather(1, position.clamp(min=0)[..., None].expand(-1, -1, logits.shape[-1]))


def check_no_class(name: str, value: Any) -> None:
    """Refuse a class where an instance is wanted: it is callable too, but the call makes an instance."""
    if isinstance(value, type):
        raise TypeError(f"{name} must be an instance, got the class {value.__name__}")


def as_scorer(model: Scorer | Model) -> Scorer:
    """Return a scorer as it is, and any other callable as a `CallableScorer`."""
    check_no_class("model", model)
    return model if isinstance(model, Scorer) else CallableScorer(model)


def model_name(scorer: Scorer) -> str:
    """Name of a scorer's model: that of a function, of the type of any other callable."""
    model = getattr(scorer, "model", scorer)
    return getattr(model, "__name__", type(model).__name__)


def as_chain(processors: LogitsFunction | None) -> LogitsFunction:
    """Return a processor: the empty chain for None, a chain for Hugging Face's ``LogitsProcessorList``."""
    if processors is None:
        return Chain()
    check_no_class("processors", processors)
    if not callable(processors):
        raise TypeError(f"processors must be one callable (compose with Chain), got {type(processors).__name__}")
    return Chain(*processors) if isinstance(processors, list) else processors


def fit_vocabulary(logits: Tensor, size: int | None) -> Tensor:
    """Return logits ``(..., size)``: tokens past ``size`` are cut, missing ones have probability zero."""
    missing = 0 if size is None else size - logits.shape[-1]
    if missing <= 0:
        return logits[..., :size]
    return torch.nn.functional.pad(logits, (0, missing), value=-torch.inf)


def at_least_float32(logits: Tensor) -> Tensor:
    """Return half-precision logits in float32, others as they are."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def process(processors: LogitsFunction, logits: Tensor, histories: Histories, prefixes: Tensor) -> Tensor:
    """Process the logits of every position, each with its own history.

    A processor that reads the history is called with one row for each row of the batch, in order, as transformers'
    processors expect (some hold settings for each row); rows that are not asked for repeat others.

    Args:
        processors: A processor.
        logits: Logits ``(R, c, v)``.
        histories: The rows ``(R, L)``.
        prefixes: Length ``(R, c)`` of the prefix that each position follows.

    Returns:
        Processed logits ``(R, c, v)``.

    Raises:
        TypeError: If a processor returns no tensor.
        ValueError: If it returns another vocabulary, or logits that are no distribution: NaN, +inf, or a row that is
        all -inf.
    """
    if isinstance(processors, Chain) and len(processors) == 0:  # what draws from the logits, or verifies, checks them
        return logits
    processed = _processed(processors, logits, histories, prefixes)
    check_logits("logits after the processors", processed)
    return processed


def _processed(processors: LogitsFunction, logits: Tensor, histories: Histories, prefixes: Tensor) -> Tensor:
    if isinstance(processors, PerRow):
        return _processed_per_row(processors, logits, histories, prefixes)
    if reads_no_history(processors):
        output = processors.process(logits)
        check_processed(output, logits.shape[-1])
        return output
    processed = torch.empty_like(logits)
    for part in histories.lined_up(prefixes):
        output = processors(part.ids, logits[part.row[part.slot], part.column[part.slot]])
        check_processed(output, logits.shape[-1])
        processed[part.row, part.column] = output[part.origin]
    return processed


def _processed_per_row(processors: PerRow, logits: Tensor, histories: Histories, prefixes: Tensor) -> Tensor:
    """Process the logits of each row by its own processor, which is shown that row alone."""
    processed = torch.empty_like(logits)
    for one, rows in processors.groups(histories.origin):
        nothing = torch.zeros_like(rows)
        alone = replace(histories.rows(rows), origin=nothing, padding=nothing, batch=1)
        processed[rows] = _processed(one, logits[rows], alone, prefixes[rows])
    return processed


def reads_no_history(processors: LogitsFunction) -> TypeGuard[Processor]:
    """Whether logits are all that a processor depends on."""
    return isinstance(processors, Processor) and not processors.needs_history


def split_greedy(processors: LogitsFunction) -> tuple[LogitsFunction, bool]:
    """Return what is done before the largest score is taken, and whether that is the end; else all, and False.

    Example:
        >>> from samplers import TopK
        >>> split_greedy(Chain(TopK(2), Temperature(0)))
        (Chain(TopK(min_tokens_to_keep=1, top_k=2)), True)
    """
    if isinstance(processors, Temperature) and processors.temperature == 0:
        return Chain(), True
    if isinstance(processors, Chain) and len(processors) > 0:
        *before, last = processors
        inner, is_greedy = split_greedy(last)
        if is_greedy:
            return Chain(*before, *(inner if isinstance(inner, Chain) else [inner])), True
    return processors, False


def best_tokens(logits: Tensor) -> Tensor:
    """First token of the largest logit ``(...)`` of rows ``(..., v)``; refuse rows that are no distribution."""
    best = largest_index(logits)
    held = logits.gather(-1, best[..., None])
    if not math.isfinite(float(held.sum(dtype=torch.float64))):
        check_logits("logits after the processors", held)
    return best


def sampling_probs(logits: Tensor) -> Tensor:
    """Probabilities ``(..., v)`` to draw from; refuse rows that are no distribution, which the softmax makes NaN."""
    probs = logits.softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
    if bool(probs[..., 0].isnan().any()):
        check_logits("logits after the processors", logits)
    return probs


def check_processed(output: Any, vocab_size: int) -> None:
    """Refuse what a processor returns if it is no tensor, or of another vocabulary."""
    if not isinstance(output, Tensor):
        raise TypeError(f"processors must return a torch.Tensor of scores, got {type(output).__name__}")
    if output.shape[-1] != vocab_size:
        raise ValueError(
            f"processors must keep the vocabulary of {vocab_size} tokens (set scores to -inf to exclude some), got "
            f"{output.shape[-1]} tokens"
        )
