"""Drafts from the target's hidden states: where these are kept, and heads that go on from them."""

from abc import abstractmethod

import torch
from torch import Tensor

from mixkit._validation import check_integer

from ..processors import LogitsFunction
from ..verification.sources import RandomSource
from .drafting import Drafter, Drafts
from .histories import Histories
from .scoring import as_chain, at_least_float32, fit_vocabulary, process, sampling_probs

__all__ = ["HeadDrafts", "HiddenStates"]


class HiddenStates:
    """Hidden states of the tokens of every row, as the target last computed them.

    What was computed of drafted tokens that were rejected is overwritten when the round after it scores what stands
    there instead; of the last token of a row there is none yet.

    Args:
        shape: Rows and columns ``(B, W)``.
        lengths: Lengths of the prompts ``(B,)``.
        hidden: States of their last ``w`` tokens ``(B, w, d)``.
    """

    def __init__(self, shape: torch.Size, lengths: Tensor, hidden: Tensor | None) -> None:
        if hidden is None:
            raise ValueError("target must keep the hidden states that it was asked to watch, got none")
        self.states = hidden.new_zeros(*shape, hidden.shape[-1])
        rows = torch.arange(len(lengths), device=hidden.device)
        self._write(rows, lengths.to(hidden.device), hidden)

    def of(self, histories: Histories) -> Tensor:
        """Return the states ``(R, L, d)`` of rows."""
        return self.states[histories.origin, : histories.ids.shape[1]]

    def write(self, rows: Histories, hidden: Tensor | None, source: Tensor, num_drafts: int) -> None:
        """Keep the states ``(R m, w, d)`` of the draft ``source (R,)`` of the ``m`` of each row, as it was scored."""
        if hidden is None:
            raise ValueError("target must keep the hidden states that it was asked to watch, got none")
        kept = torch.arange(len(source), device=hidden.device) * num_drafts + source.to(hidden.device)
        self._write(rows.origin[kept], rows.lengths[kept], hidden[kept])

    def _write(self, origin: Tensor, lengths: Tensor, hidden: Tensor) -> None:
        place = lengths[:, None] + torch.arange(-hidden.shape[1], 0, device=hidden.device)
        row, column = (place >= 0).nonzero(as_tuple=True)
        self.states[origin[row], place[row, column]] = hidden[row, column]


class HeadDrafts(Drafter):
    """One draft, token by token, from a small head that goes on from the target's hidden states.

    A subclass writes ``step``. Heads that ignore the tokens are those of Medusa (Cai et al. 2024, arXiv 2401.10774);
    heads that read each token and predict the next hidden state are those of EAGLE (Li et al. 2024, arXiv 2401.15077)
    and of multi-token prediction (DeepSeek-V3 2024, arXiv 2412.19437).

    Args:
        draft_length: Longest draft ``t``.
        layers: Layers of the target that ``step`` begins with, numbered as in transformers' ``output_hidden_states``.
        processors: A processor of the head's logits; None for that of the target.

    Example:
        >>> import torch
        >>> class Medusa(HeadDrafts):  # one linear head for each position
        ...     def __init__(self, heads):
        ...         super().__init__(draft_length=len(heads))
        ...         self.heads = heads
        ...     def step(self, hidden, tokens, position):
        ...         return self.heads[position](hidden), hidden
        >>> Medusa([torch.nn.Linear(4, 9) for _ in range(3)]).draft_length
        3
    """

    def __init__(
        self, draft_length: int = 5, layers: tuple[int, ...] = (-1,), processors: LogitsFunction | None = None
    ) -> None:
        self.draft_length = check_integer("draft_length", draft_length, low=1)
        self.hidden_layers = tuple(layers)
        if not self.hidden_layers:
            raise ValueError("layers must name at least one, got none")
        self.processors, self.inherits_processors = as_chain(processors), processors is None

    @abstractmethod
    def step(self, hidden: Tensor, tokens: Tensor, position: int) -> tuple[Tensor, Tensor]:
        """Return the logits of the next token ``(R, v)`` and what the next step is given as ``hidden``.

        Args:
            hidden: At position 0 the target's states ``(R, d)`` at the token before the last, the latest there are;
                then what the last step returned.
            tokens: The last token of each row ``(R,)``, at position 0 the one that the target has not read yet.
            position: Position in the draft.
        """

    def propose(self, histories: Histories, limits: Tensor, vocab_size: int, source: RandomSource) -> Drafts:
        """Draw a draft of every row, as long as its limit allows, or until a token that ends the row."""
        if histories.hidden is None:
            raise ValueError("histories must hold hidden states, got none: heads draft for a SpeculativeDecoder")
        longest = int(limits.max())
        row = torch.arange(len(histories), device=limits.device)
        hidden = histories.hidden[row, histories.lengths - 2]
        rows, lengths = histories.with_room(1, longest), limits.clone()
        tokens, laws = limits.new_zeros(len(histories), max(longest, 1)), []
        last = histories.ids[row, histories.lengths - 1]
        for position in range(longest):
            going = lengths > position
            some = going.nonzero()[:, 0]  # what a row draws depends on it alone
            if some.numel() == 0:
                break
            logits, hidden = self.step(hidden, last, position)
            logits = at_least_float32(fit_vocabulary(logits, vocab_size))[:, None]
            laws.append(process(self.processors, logits, rows, rows.lengths[:, None])[:, 0])
            last = torch.zeros_like(last)
            last[some] = source.rows(some).choose(sampling_probs(laws[-1][some]))
            tokens[:, position] = last
            lengths = lengths.masked_fill(going & histories.is_end(last), position + 1)
            rows = rows.append(last[:, None], (lengths > position + 1).long())
        if not laws:
            laws.append(torch.zeros(len(histories), vocab_size, device=limits.device))
        return Drafts(tokens[:, None], torch.stack(laws, 1)[:, None], lengths[:, None])
