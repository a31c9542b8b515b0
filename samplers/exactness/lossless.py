r"""Is a verifier lossless? Its exact joint distribution by enumeration, and a chi-square test for black boxes.

A test case is a pair of small models, given as tables (`Laws`): the target's next-token law after every prefix, and
each draft's. `joint_law` runs the verifier's own code on every tuple of drafts and through every branch of its
decisions, continues each output from the target to ``t + 1`` tokens, and adds up the probabilities. A lossless
verifier gives the target's joint law.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from scipy.stats import chi2
from torch import Generator, Tensor

from mixkit._validation import check_integer

from .._validation import check_seed
from ..verification.results import Verification
from ..verification.sources import Seed, invert_cdf
from ..verification.verifier import Verifier
from .branches import Branches
from .small_models import Laws, block_logits, draft_tuples, random_laws, sample_drafts, target_law

__all__ = [
    "BlackBox",
    "ChiSquare",
    "Enumeration",
    "Laws",
    "chi_square",
    "chi_square_test",
    "enumerate_law",
    "joint_law",
    "random_laws",
    "target_law",
]

_ROWS = 40_000
_AGAIN = 256
_MOST = 2**26


class BlackBox(Protocol):
    """Anything with a ``verify`` like that of `Verifier`, whatever its randomness."""

    def verify(
        self, target_logits: Tensor, draft_logits: Tensor | None, draft_tokens: Tensor, *, generator: Generator
    ) -> Verification:
        """Verify drafted tokens."""


@dataclass(frozen=True)
class Enumeration:
    """Exact distribution of a verifier's output.

    Attributes:
        law: Joint distribution of ``t + 1`` tokens ``(c, v^(t+1))``, continued from the target after the output.
        mean_accepted: Expected number of accepted tokens ``(c,)``.
        mass: Probability found ``(c,)``: 1, or less where drafts without replacement run out of tokens.
    """

    law: Tensor
    mean_accepted: Tensor
    mass: Tensor


def joint_law(verifier: Verifier, laws: Laws, *, lengths: Tensor | None = None) -> Enumeration:
    """Enumerate all draft tuples and all branches of a verifier.

    Args:
        verifier: Any `Verifier` that draws through the `accept`, `choose` and `highest` of its `RandomSource`.
        laws: Test cases; the cost grows as ``c v^(m t)``.
        lengths: Draft lengths ``(m,)`` in ``0..t``; None for full drafts.

    Raises:
        TypeError: If ``verifier`` is no `Verifier`, or draws uniforms.
        ValueError: If the verifier draws random numbers of its own, or if there are too many draft tuples.

    Example:
        >>> import torch
        >>> from samplers import SpeculativeSampling
        >>> laws = random_laws(5, 3, 1, 2, identical=True, generator=torch.Generator().manual_seed(0))
        >>> bool((joint_law(SpeculativeSampling(), laws).law - target_law(laws)).abs().max() < 1e-12)
        True
    """
    check_verifier(verifier)
    check_size(laws)
    case, tokens, weight = draft_tuples(laws, with_replacement=verifier.with_replacement)

    def run(rows: Tensor, source: Branches) -> Verification:
        block = block_logits(laws, case[rows], tokens[rows])
        return verifier.verify(*block, lengths=_spread(lengths, rows), generator=source)

    return enumerate_law(run, laws, case, weight)


class Output(Protocol):
    """What enumeration reads of an output."""

    @property
    def tokens(self) -> Tensor:
        """Token ids ``(w, t+1)``."""

    @property
    def num_accepted(self) -> Tensor:
        """Accepted tokens ``(w,)``."""


def enumerate_law(run: Callable[[Tensor, Branches], Output], laws: Laws, case: Tensor, weight: Tensor) -> Enumeration:
    """Follow every branch of a procedure from each of its starts.

    Args:
        run: Maps starts ``(w,)``, as indices, and a source of their decisions to their outputs.
        laws: Test cases.
        case: Case of each start ``(s,)``.
        weight: Probability of each start within its case ``(s,)``.

    Raises:
        ValueError: If a second run with the same decisions ends otherwise.
    """
    total = _Total(laws)
    row = torch.arange(case.numel())
    forced = torch.zeros(case.numel(), 0, dtype=torch.long)
    while row.numel():
        now, row, forced, left = row[:_ROWS], row[_ROWS:], forced[_ROWS:], forced[:_ROWS]
        source = Branches(left, weight[now])
        out = run(now, source)
        _check_again(run, out, now, left, weight)
        total.add(case[now], out, source.weight)
        origin, decisions = source.unexplored()
        width = max(decisions.shape[1], forced.shape[1])
        row = torch.cat([row, now[origin]])
        forced = torch.cat([_widen(forced, width), _widen(decisions, width)])
    return total.result()


def _check_again(
    run: Callable[[Tensor, Branches], Output], out: Output, now: Tensor, forced: Tensor, weight: Tensor
) -> None:
    """Run some rows again: decisions that are not the source's show as another output."""
    some = torch.arange(0, now.numel(), -(-now.numel() // _AGAIN))
    again = run(now[some], Branches(forced[some], weight[now[some]]))
    if not (torch.equal(again.tokens, out.tokens[some]) and torch.equal(again.num_accepted, out.num_accepted[some])):
        raise ValueError(
            "verifier must draw all its randomness from the RandomSource it is given, got two outputs from one set of "
            "decisions: draw by source.accept, source.choose and source.highest, or test it by chi_square_test"
        )


def check_verifier(verifier: Any) -> None:
    """Refuse what is no verifier that can be enumerated."""
    if not isinstance(verifier, Verifier):
        got = f"the class {verifier.__name__}" if isinstance(verifier, type) else type(verifier).__name__
        raise TypeError(
            "verifier must be an instance of Verifier (a subclass of NodeVerifier writes node, one of Verifier rule; "
            f"chi_square_test takes any object with verify), got {got}"
        )


def check_size(laws: Laws) -> None:
    """Refuse more draft tuples, or more outputs, than fit in memory."""
    cases, v, m, t = laws.sizes
    tuples = 1 if laws.drafts is None or laws.tokens is not None else v ** (m * t)
    if cases * max(tuples, v ** (t + 1)) > _MOST:
        raise ValueError(
            f"laws must have at most {_MOST} draft tuples and outputs in all cases to be enumerated, got {cases} cases "
            f"of {tuples} draft tuples (v ** (m * t) = {v} ** {m * t}) and {v ** (t + 1)} outputs: test by "
            "chi_square_test"
        )


def _spread(lengths: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if lengths is None else lengths.expand(rows.numel(), -1)


def _widen(decisions: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(decisions, (0, width - decisions.shape[1]), value=-1)


class _Total:
    """Adds up the probabilities of outputs, by their length."""

    def __init__(self, laws: Laws):
        cases, self.v, _, t = laws.sizes
        self.laws = laws
        self.mass = [torch.zeros(cases * self.v ** (n + 1), dtype=torch.float64) for n in range(t + 1)]
        self.accepted = torch.zeros(cases, dtype=torch.float64)

    def add(self, case: Tensor, out: Output, weight: Tensor) -> None:
        prefix = case
        for n, mass in enumerate(self.mass):
            prefix = prefix * self.v + out.tokens[:, n].clamp_min(0)
            here = out.num_accepted == n
            mass.index_add_(0, prefix[here], weight[here])
        self.accepted.index_add_(0, case, weight * out.num_accepted)

    def result(self) -> Enumeration:
        law = self.mass[0].view(self.accepted.numel(), -1)
        for n, level in enumerate(self.laws.target[1:], start=1):
            law = (law[..., None] * level).flatten(1) + self.mass[n].view(law.shape[0], -1)
        return Enumeration(law, self.accepted, law.sum(-1))


@dataclass(frozen=True)
class ChiSquare:
    """A chi-square test of goodness of fit, pooled over cases.

    Attributes:
        statistic: Pearson's statistic; infinite if an impossible output was seen.
        degrees: Degrees of freedom.
        p_value: Probability of a statistic this large if the distribution is right.
        passed: Whether ``p_value >= false_alarm``.
    """

    statistic: float
    degrees: int
    p_value: float
    passed: bool


def chi_square(counts: Tensor, law: Tensor, *, false_alarm: float = 1e-6) -> ChiSquare:
    """Test counts ``(c, n)`` against distributions ``(c, n)``; outputs expected fewer than five times are pooled.

    Example:
        >>> import torch
        >>> chi_square(torch.tensor([[50, 50]]), torch.tensor([[0.5, 0.5]])).p_value
        1.0
    """
    expected = law.double() * counts.sum(-1, keepdim=True)
    if (counts[expected == 0] > 0).any():
        return ChiSquare(float("inf"), 0, 0.0, False)
    rare = (expected < 5) & (expected > 0)
    often = expected >= 5
    seen = torch.cat([counts * often, (counts * rare).sum(-1, keepdim=True)], -1).double()
    hoped = torch.cat([expected * often, (expected * rare).sum(-1, keepdim=True)], -1)
    statistic = float(((seen - hoped).square() / hoped.clamp_min(1e-300)).sum())
    degrees = int((hoped > 0).sum() - hoped.shape[0])
    p_value = float(chi2.sf(statistic, degrees)) if degrees else 1.0
    return ChiSquare(statistic, degrees, p_value, p_value >= false_alarm)


def chi_square_test(
    verifier: BlackBox, laws: Laws, *, num_samples: int = 20_000, false_alarm: float = 1e-6, generator: Seed
) -> ChiSquare:
    """Run a verifier on sampled drafts and test the joint distribution of its output, continued from the target.

    Args:
        verifier: Anything with ``verify``; how it draws does not matter.
        laws: Test cases whose drafts are independent.
        num_samples: Samples per case.
        false_alarm: Probability that a lossless verifier fails (up to the accuracy of the chi-square distribution).
        generator: Generator or seed.

    Raises:
        TypeError: If ``verifier`` is a class, or has no ``verify``.
        ValueError: If ``num_samples`` is below 1.

    Example:
        >>> from samplers import SpeculativeSampling
        >>> generator = Generator().manual_seed(0)
        >>> laws = random_laws(2, 3, 1, 1, identical=True, generator=generator)
        >>> chi_square_test(SpeculativeSampling(), laws, num_samples=2000, generator=generator).passed
        True
    """
    check_integer("num_samples", num_samples, low=1)
    if isinstance(verifier, type) or not callable(getattr(verifier, "verify", None)):
        got = f"the class {verifier.__name__}" if isinstance(verifier, type) else type(verifier).__name__
        raise TypeError(f"verifier must be an object with a method verify, got {got}")
    generator = check_seed(generator)
    cases, v, _, t = laws.sizes
    case = torch.arange(cases).repeat_interleave(num_samples)
    tokens = sample_drafts(laws, case, generator)
    out = verifier.verify(*block_logits(laws, case, tokens), generator=generator)
    prefix = torch.zeros_like(case)
    for n, level in enumerate(laws.target):
        fresh = invert_cdf(level[case, prefix], torch.rand(case.numel(), generator=generator, dtype=torch.float64))
        prefix = prefix * v + torch.where(out.num_accepted >= n, out.tokens[:, n], fresh)
    counts = torch.bincount(case * v ** (t + 1) + prefix, minlength=cases * v ** (t + 1)).view(cases, -1)
    return chi_square(counts, target_law(laws), false_alarm=false_alarm)
