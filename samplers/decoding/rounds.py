"""One round of the loop: draft, score, verify."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..verification.paths import paths
from ..verification.sources import RandomSource
from ..verification.tree import TreeVerifier
from ..verification.verifier import Verifier
from .drafting import Drafter, Drafts
from .greedy import keep_best, keep_best_path
from .hidden import HiddenStates
from .histories import Histories
from .outcome import Outcome
from .scoring import best_tokens
from .target import Target, share_prefixes
from .tree import Nodes, TreeDrafter, tree_law


class Rounds(ABC):
    """What the rounds of a decoding have in common."""

    @abstractmethod
    def run(
        self, histories: Histories, limits: Tensor, source: RandomSource, keeps_logits: bool
    ) -> tuple[Outcome, Tensor]:
        """Draft for every row within its limit ``(R,)``, score and verify; return the longest drafts ``(R,)`` too."""


@dataclass(frozen=True)
class ChainRounds(Rounds):
    """Rounds of one draft or several.

    Attributes:
        target: What is to be followed.
        drafter: What proposes.
        verifier: The rule.
        vocab_size: Number of tokens ``v``.
        hidden: Where the target's hidden states are kept, for drafters that read them.
    """

    target: Target
    drafter: Drafter
    verifier: Verifier
    vocab_size: int
    hidden: HiddenStates | None = None

    def run(
        self, histories: Histories, limits: Tensor, source: RandomSource, keeps_logits: bool
    ) -> tuple[Outcome, Tensor]:
        """Draft, score, verify."""
        if self.hidden is not None:
            histories = replace(histories, hidden=self.hidden.of(histories))
        drafts = self.drafter.propose(histories, limits, self.vocab_size, source)
        drafts = cut(drafts, histories, self.vocab_size)
        scored = self.target.of_drafts(histories, drafts, limits)
        shape = drafts.tokens.shape[:2]
        if self.target.is_greedy:
            best, law = self.target.best(scored)
            outcome = keep_best(best.unflatten(0, shape), drafts.tokens, drafts.lengths)
            law = law.unflatten(0, shape)
        else:
            law = self.target.law(scored).unflatten(0, shape)
            outcome = self._verify(law, drafts, source)
        if self.hidden is not None:
            self.hidden.write(scored.histories, self.target.scorer.hidden, outcome.source, shape[1])
        if keeps_logits:
            row = torch.arange(shape[0], device=law.device)
            outcome = replace(outcome, logits=law[row, outcome.source.to(law.device)])
        return outcome, drafts.lengths.amax(-1)

    def _verify(self, law: Tensor, drafts: Drafts, source: RandomSource) -> Outcome:
        """Verify drafts against the target's logits ``(R, m, c, v)``; ``c - 1`` is the longest draft."""
        share_prefixes(law, drafts)
        if law.shape[2] == 1:  # no row has a draft
            law = torch.nn.functional.pad(law, (0, 0, 0, 1))
        size = law.shape[2] - 1
        is_even = bool((drafts.lengths == size).all())
        verification = self.verifier.verify(
            law,
            None if drafts.logits is None else drafts.logits[:, :, :size],
            drafts.tokens[..., :size],
            lengths=None if is_even else drafts.lengths,
            generator=source,
        )
        return Outcome(verification.tokens, verification.num_accepted, verification.winner.clamp(min=0))


@dataclass(frozen=True)
class TreeRounds(Rounds):
    """Rounds of a token tree.

    Attributes:
        target: What is to be followed.
        tree: What proposes.
        verifier: The rule at every node.
        vocab_size: Number of tokens ``v``.
    """

    target: Target
    tree: TreeDrafter
    verifier: TreeVerifier
    vocab_size: int

    def run(
        self, histories: Histories, limits: Tensor, source: RandomSource, keeps_logits: bool
    ) -> tuple[Outcome, Tensor]:
        """Draft, score, verify."""
        tree, target = self.tree, self.target
        drafts = tree.propose(histories, limits, self.vocab_size, source)
        nodes = Nodes(drafts.tokens, tree.parents, drafts.lengths)
        processors = target.before if target.is_greedy else target.processors
        law = tree_law(target.scorer, processors, histories, nodes, tree.parents.numel() + 1, target.vocab_size)
        parents = tree.parents.to(law.device)
        if target.is_greedy:
            outcome = keep_best_path(best_tokens(law), drafts.tokens, parents, drafts.lengths)
        else:
            found = self.verifier.verify(
                law, drafts.logits, drafts.tokens, parents, lengths=drafts.lengths, generator=source
            )
            last = found.path.gather(1, (found.num_accepted - 1).clamp(min=0)[:, None])[:, 0] + 1
            outcome = Outcome(found.tokens, found.num_accepted, last.where(found.num_accepted > 0, 0))
        if keeps_logits:
            outcome = replace(outcome, logits=along_path(law, parents, outcome.source))
        return outcome, limits.where(drafts.lengths > 0, 0)


def as_rounds(
    target: Target,
    drafter: Any,
    verifier: Verifier | TreeVerifier,
    vocab_size: int,
    hidden: HiddenStates | None = None,
) -> Rounds:
    """Return the rounds of a verifier and what it takes drafts from."""
    if isinstance(verifier, TreeVerifier):
        return TreeRounds(target, drafter, verifier, vocab_size)
    return ChainRounds(target, drafter, verifier, vocab_size, hidden)


def along_path(law: Tensor, parents: Tensor, node: Tensor) -> Tensor:
    """Logits ``(R, t+1, v)`` after the root and the nodes down to ``node (R,)``, counted from 1, of ``(R, n+1, v)``."""
    path = torch.nn.functional.pad(paths(parents)[0] + 1, (1, 0))[node]
    return law.gather(1, path[..., None].expand(-1, -1, law.shape[-1]))


def cut(drafts: Drafts, histories: Histories, vocab_size: int) -> Drafts:
    """End each draft after a token that ends the row, and before one that the target does not have."""
    step = torch.arange(drafts.tokens.shape[-1], device=drafts.tokens.device)
    inside = step < drafts.lengths[..., None]
    is_end, is_unknown = histories.is_end(drafts.tokens) & inside, (drafts.tokens >= vocab_size) & inside
    last = torch.where(is_end, step + 1, torch.where(is_unknown, step, drafts.lengths[..., None]))
    lengths = last.amin(-1) if last.shape[-1] else drafts.lengths
    return replace(drafts, tokens=drafts.tokens.where(step < lengths[..., None], 0), lengths=lengths)
