"""Test cases for verifiers: small target and draft models, given as tables."""

from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from mixkit._validation import check_integer

from .._validation import check_seed
from ..verification.sources import Seed, invert_cdf


@dataclass(frozen=True)
class Laws:
    """Tables of ``c`` test cases over ``v`` tokens, ``m`` drafts of length ``t``.

    A prefix ``x_1..x_j`` has the index ``x_1 v^(j-1) + ... + x_j`` among ``v^j``.

    Attributes:
        target: Target probabilities after each prefix: ``t + 1`` tensors ``(c, v^j, v)``, ``j = 0..t``.
        drafts: Draft probabilities after each prefix: ``t`` tensors ``(c, m, v^j, v)``; None for drafts without a law.
        tokens: The drafts themselves ``(c, m, t)`` where they have no law.
    """

    target: tuple[Tensor, ...]
    drafts: tuple[Tensor, ...] | None = None
    tokens: Tensor | None = None

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """``(c, v, m, t)``."""
        cases, _, v = self.target[0].shape
        if self.drafts is not None:
            return cases, v, self.drafts[0].shape[1], len(self.drafts)
        if self.tokens is None:
            raise ValueError("Laws must hold drafts or tokens, got neither")
        return cases, v, self.tokens.shape[1], self.tokens.shape[2]

    def cases(self, index: Tensor) -> "Laws":
        """Return some of the cases."""
        return replace(
            self,
            target=tuple(level[index] for level in self.target),
            drafts=None if self.drafts is None else tuple(level[index] for level in self.drafts),
            tokens=None if self.tokens is None else self.tokens[index],
        )


def random_laws(num_cases: int, v: int, num_drafts: int, length: int, *, identical: bool, generator: Seed) -> Laws:
    """Draw test cases: smooth and peaked rows, rows with zeros, one-hot rows, equal rows, disjoint supports.

    Args:
        num_cases: Number of cases ``c``.
        v: Vocabulary.
        num_drafts: Drafts ``m``.
        length: Draft length ``t``.
        identical: Whether all drafts of a case share one law.
        generator: Generator or seed.

    Raises:
        ValueError: If a size is below 1, or a seed is negative.

    Example:
        >>> laws = random_laws(5, 3, 2, 1, identical=False, generator=Generator().manual_seed(0))
        >>> laws.sizes, laws.target[1].shape, laws.drafts[0].shape  # the target after each first token
        ((5, 3, 2, 1), torch.Size([5, 3, 3]), torch.Size([5, 2, 1, 3]))
    """
    sizes = {"num_cases": num_cases, "v": v, "num_drafts": num_drafts, "length": length}
    for name, size in sizes.items():
        check_integer(name, size, low=1)
    generator = check_seed(generator)
    target = tuple(_random_rows((num_cases, v**j, v), generator) for j in range(length + 1))
    laws = 1 if identical else num_drafts
    drafts = []
    for j in range(length):
        rows = _random_rows((num_cases, laws, v**j, v), generator)
        drafts.append(_relate(target[j][:, None].expand_as(rows), rows, generator).expand(-1, num_drafts, -1, -1))
    return Laws(target, tuple(drafts))


def _random_rows(shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Rows of several kinds, in float64."""

    def uniform() -> Tensor:
        return torch.rand(*shape[:-1], 1, generator=generator, dtype=torch.float64)

    scores = torch.randn(shape, generator=generator, dtype=torch.float64) * (4 * uniform())
    top = scores.argmax(-1, keepdim=True)
    zero = torch.rand(shape, generator=generator) < 0.4
    zero = (zero & (uniform() < 0.4)) | (uniform() < 0.1)
    return scores.masked_fill(zero.scatter(-1, top, False), -torch.inf).softmax(-1)


def _relate(target: Tensor, rows: Tensor, generator: Generator) -> Tensor:
    """Make some draft rows equal to the target's, and some of disjoint support."""
    kind = torch.rand(*rows.shape[:-1], 1, generator=generator)
    rows = torch.where(kind < 0.1, target, rows)
    apart = rows * (target == 0)
    possible = (apart.sum(-1, keepdim=True) > 0) & (kind > 0.8)
    return torch.where(possible, apart / apart.sum(-1, keepdim=True).clamp_min(1e-300), rows)


def target_law(laws: Laws) -> Tensor:
    """Return the target's joint distribution of ``t + 1`` tokens ``(c, v^(t+1))``.

    Example:
        >>> first, second = torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[1.0, 0.0], [0.2, 0.8]]])
        >>> target_law(Laws((first, second)))
        tensor([[0.5000, 0.0000, 0.1000, 0.4000]])
    """
    law = laws.target[0].flatten(1)
    for level in laws.target[1:]:
        law = (law[..., None] * level).flatten(1)
    return law


def draft_tuples(laws: Laws, *, with_replacement: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """List the possible draft tuples of every case: case ``(w,)``, tokens ``(w, m, t)``, probability ``(w,)``."""
    cases, v, m, t = laws.sizes
    if laws.drafts is None or laws.tokens is not None:
        tokens = laws.tokens
        return torch.arange(cases), tokens, torch.ones(cases, dtype=torch.float64)  # type: ignore[return-value]
    digits = torch.arange(v ** (m * t))[:, None] // v ** torch.arange(m * t) % v
    tokens = digits.view(-1, m, t)
    prob = torch.ones(cases, tokens.shape[0], dtype=torch.float64)
    prefix = torch.zeros(tokens.shape[0], m, dtype=torch.long)
    for j, level in enumerate(laws.drafts):
        for i in range(m):
            prob = prob * _next_prob(level[:, i], prefix, tokens[..., j], i, with_replacement)
        prefix = prefix * v + tokens[..., j]
    case, which = (prob > 0).nonzero(as_tuple=True)
    return case, tokens[which], prob[case, which]


def _next_prob(level: Tensor, prefix: Tensor, tokens: Tensor, i: int, with_replacement: bool) -> Tensor:
    """Probability ``(c, n)`` of draft i's next token, given the earlier drafts' where they are not replaced."""
    prob = level[:, prefix[:, i], tokens[:, i]]
    if with_replacement:
        return prob
    used = torch.zeros_like(prob)
    fresh = torch.ones_like(prefix[:, 0], dtype=torch.bool)
    for k in range(i):
        sibling = prefix[:, k] == prefix[:, i]
        fresh &= ~(sibling & (tokens[:, k] == tokens[:, i]))
        used = used + sibling * level[:, prefix[:, i], tokens[:, k]]
    return torch.where(fresh & (prob > 0), prob / (1 - used).clamp_min(1e-300), 0.0)


def block_logits(laws: Laws, case: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return target logits ``(w, m, t+1, v)``, draft logits ``(w, m, t, v)`` or None, and the tokens ``(w, m, t)``."""
    _, v, m, t = laws.sizes
    prefix = torch.zeros(tokens.shape[:2], dtype=torch.long)
    target, drafts = [], []
    for j in range(t + 1):
        target.append(laws.target[j][case[:, None], prefix])
        if j < t:
            if laws.drafts is not None:
                drafts.append(laws.drafts[j][case[:, None], torch.arange(m), prefix])
            prefix = prefix * v + tokens[..., j]
    return torch.stack(target, 2).log(), torch.stack(drafts, 2).log() if drafts else None, tokens


def sample_drafts(laws: Laws, case: Tensor, generator: Generator) -> Tensor:
    """Draw independent drafts ``(w, m, t)`` for the cases ``(w,)``."""
    _, v, m, _ = laws.sizes
    if laws.drafts is None:
        return laws.tokens[case]  # type: ignore[index]
    prefix = torch.zeros(case.numel(), m, dtype=torch.long)
    tokens = []
    for level in laws.drafts:
        rows = level[case[:, None], torch.arange(m), prefix]
        tokens.append(invert_cdf(rows, torch.rand(prefix.shape, generator=generator, dtype=torch.float64)))
        prefix = prefix * v + tokens[-1]
    return torch.stack(tokens, -1)
