"""Speculative sampling with one draft: the pure functions of the canonical form, and the chain verifier."""

import torch
from torch import Tensor

from .base import NodeVerifier
from .node import Decision, Node, compute_dtype
from .results import Info, Verification
from .sources import Source
from .walk import Block


def accept_probability(target: Tensor, draft: Tensor) -> Tensor:
    r"""Probability $\min(1, q / p)$ of accepting a token of target probability $q$ and draft probability $p$.

    Zero where $q = 0$, one where $p = 0 < q$. Shapes broadcast.

    Args:
        target: Target probabilities of the drafted tokens.
        draft: Draft (or selection) probabilities of the same tokens.

    Source: Leviathan, Kalman and Matias (2023), arXiv 2211.17192; Chen et al. (2023), arXiv 2302.01318.

    Example:
        >>> import torch
        >>> accept_probability(torch.tensor([0.2, 0.5, 0.0]), torch.tensor([0.4, 0.1, 0.0]))
        tensor([0.5000, 1.0000, 0.0000])
    """
    return torch.where(target >= draft, (target > 0).to(target.dtype), target / torch.where(draft > 0, draft, 1.0))


def residual(target: Tensor, draft: Tensor) -> Tensor:
    r"""Law $(q - p)_+ / \sum_y (q - p)_+(y)$ to draw from after a rejection.

    Where $q \le p$ everywhere nothing can be rejected; the row returned is then the target itself, never NaN.

    Args:
        target: Target probabilities ``(..., v)``.
        draft: Draft (or selection) probabilities ``(..., v)``.

    Source: Leviathan, Kalman and Matias (2023), arXiv 2211.17192.

    Example:
        >>> import torch
        >>> residual(torch.tensor([0.2, 0.5, 0.3]), torch.tensor([0.8, 0.1, 0.1]))
        tensor([0.0000, 0.6667, 0.3333])
    """
    weights = residual_weights(target, draft)
    return weights / weights.sum(-1, keepdim=True)


def residual_weights(target: Tensor, draft: Tensor) -> Tensor:
    """The residual before it is normalised: what is drawn from needs no normalising."""
    weights = (target - draft).clamp_min_(0.0)
    some = weights.sum(-1, keepdim=True) > 0
    return weights if some.all() else torch.where(some, weights, target)


def output_law(target: Tensor, selection: Tensor) -> Tensor:
    r"""Law of the output when a token of law $x$ is offered to a target $q$: the target, whatever $x$ is.

    $\min(x, q) + (1 - \sum \min(x, q)) \cdot$ `residual`. Computed from the pieces, so that a wrong piece shows.

    Args:
        target: Target probabilities ``(..., v)``.
        selection: Probabilities of the token offered ``(..., v)``.

    Source: Khisti et al. (2024), arXiv 2410.18234, theorem 1.

    Example:
        >>> import torch
        >>> output_law(torch.tensor([0.2, 0.5, 0.3]), torch.tensor([0.8, 0.1, 0.1]))
        tensor([0.2000, 0.5000, 0.3000])
    """
    accepted = selection * accept_probability(target, selection)
    return accepted + (1 - accepted.sum(-1, keepdim=True)).clamp_min(0.0) * residual(target, selection)


def acceptance(target: Tensor, selection: Tensor) -> Tensor:
    r"""Probability $\sum_y \min(x(y), q(y))$ that a token of law $x$ is accepted; one minus the total variation.

    Args:
        target: Target probabilities ``(..., v)``.
        selection: Probabilities of the token offered ``(..., v)``.

    Example:
        >>> import torch
        >>> acceptance(torch.tensor([0.2, 0.5, 0.3]), torch.tensor([0.8, 0.1, 0.1]))
        tensor(0.4000)
    """
    return torch.minimum(target, selection).sum(-1)


def offer(target: Tensor, selection: Tensor, token: Tensor, source: Source) -> Decision:
    """Offer tokens ``(r,)`` of law ``selection (r, v)`` to the target ``(r, v)``: accept, or draw from the residual."""
    chosen = token[:, None]
    probability = accept_probability(target.gather(-1, chosen), selection.gather(-1, chosen))[:, 0]
    accepted = source.accept(probability)
    if accepted.all():
        return Decision(token, probability)
    rest = (~accepted).nonzero()[:, 0]
    if rest.numel() < token.numel():
        target, selection, source = target[rest], selection[rest], source.rows(rest)
    return Decision(token.index_put((rest,), source.choose(residual_weights(target, selection))), probability)


class SpeculativeSampling(NodeVerifier):
    r"""Speculative sampling of one draft: accept $x$ with probability $\min(1, q(x)/p(x))$, else draw from $(q - p)_+$.

    Source: Leviathan, Kalman and Matias (2023), arXiv 2211.17192, algorithm 1; Chen et al. (2023), arXiv 2302.01318.

    Example:
        >>> import torch
        >>> g = torch.Generator().manual_seed(0)
        >>> target, draft = torch.randn(1, 4, 10, generator=g), torch.randn(1, 3, 10, generator=g)
        >>> tokens = torch.distributions.Categorical(logits=draft).probs.argmax(-1)
        >>> out = SpeculativeSampling().verify(target, draft, tokens, generator=g)
        >>> out.tokens.shape, 0 <= int(out.num_accepted) <= 3
        (torch.Size([1, 4]), True)
    """

    max_drafts = 1
    precise = False

    def node(self, node: Node, source: Source) -> Decision:
        """Offer the drafted token to the target."""
        return offer(node.target, node.draft, node.tokens[:, 0], source)

    def rule(self, block: Block, source: Source) -> Verification:
        """Walk along the block; one row alone takes a path with less overhead and the same draws."""
        if block.shape[0] == 1 and block.draft is not None:
            return _one_chain(block, block.draft[0, 0], source)
        return super().rule(block, source)


def _one_chain(block: Block, draft_logits: Tensor, source: Source) -> Verification:
    """Verify one row: each law is normalised when it is reached."""
    target_logits, drafted = block.target[0, 0], block.tokens[0, 0].tolist()
    dtype = compute_dtype(target_logits, precise=False)
    tests: list[float] = []
    accepted, length = 0, int(block.lengths[0, 0])
    target = target_logits[0].softmax(-1, dtype=dtype)
    weights = target
    while accepted < length:
        draft = draft_logits[accepted].softmax(-1, dtype=dtype)
        here, there = float(target[drafted[accepted]]), float(draft[drafted[accepted]])
        tests.append(float(here > 0) if here >= there else here / there)
        if not source.accept_one(tests[-1]):
            weights = residual_weights(target, draft)
            break
        accepted += 1
        weights = target = target_logits[accepted].softmax(-1, dtype=dtype)
    following = int(source.choose(weights[None]))
    return _one_row(block, drafted[:accepted], following, tests)


def _one_row(block: Block, accepted: list[int], following: int, tests: list[float]) -> Verification:
    size, device = block.shape[2], block.tokens.device
    tokens = [*accepted, following] + [-1] * (size - len(accepted))
    unreached = [0] * (size - len(tests))
    whole = torch.tensor(
        [tokens + [1] * len(tests) + unreached + [len(accepted), 0 if accepted else -1]], device=device
    )
    tokens_out, num_active, num_accepted, winner = whole.split([size + 1, size, 1, 1], -1)
    probability = torch.tensor([tests + unreached], dtype=torch.float64, device=device)
    return Verification(tokens_out, num_accepted[0], winner[0], Info(probability, num_active))
