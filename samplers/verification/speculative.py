"""Speculative sampling with one draft: the pure functions of the canonical form, and the chain verifier."""

import torch
from torch import Tensor

from .._validation import check_rows, check_unit
from .node import Decision, Node
from .results import Verification
from .single_row import verify_one
from .sources import RandomSource
from .verifier import NodeVerifier
from .verify_drafts import DraftBlock


def accept_probability(target: Tensor, draft: Tensor) -> Tensor:
    r"""Probability :math:`\min(1, q / p)` of accepting a token of target probability :math:`q` and draft probability
    :math:`p`.

    Zero where :math:`q = 0`, one where :math:`p = 0 < q`. Shapes broadcast.

    Args:
        target: Target probabilities of the drafted tokens.
        draft: Draft (or selection) probabilities of the same tokens.

    Raises:
        TypeError: If an argument is no tensor of floating point numbers.
        ValueError: If an entry lies outside [0, 1].

    Source: Leviathan, Kalman and Matias (2023), arXiv 2211.17192; Chen et al. (2023), arXiv 2302.01318.

    Example:
        >>> import torch
        >>> accept_probability(torch.tensor([0.2, 0.5, 0.0]), torch.tensor([0.4, 0.1, 0.0]))
        tensor([0.5000, 1.0000, 0.0000])
    """
    check_unit("target", target)
    check_unit("draft", draft)
    return accept_ratio(target, draft)


def accept_ratio(target: Tensor, draft: Tensor) -> Tensor:
    """`accept_probability` without its checks, for rules that have checked their block."""
    return torch.where(target >= draft, (target > 0).to(target.dtype), target / torch.where(draft > 0, draft, 1.0))


def residual(target: Tensor, draft: Tensor) -> Tensor:
    r"""Distribution :math:`(q - p)_+ / \sum_y (q - p)_+(y)` to draw from after a rejection.

    Where :math:`q \le p` everywhere nothing can be rejected; the row returned is then the target itself, never NaN.

    Args:
        target: Target probabilities ``(..., v)``.
        draft: Draft (or selection) probabilities ``(..., v)``.

    Raises:
        TypeError: If an argument is no tensor of floating point numbers.
        ValueError: If rows are no probabilities, or their vocabularies differ.

    Source: Leviathan, Kalman and Matias (2023), arXiv 2211.17192.

    Example:
        >>> import torch
        >>> residual(torch.tensor([0.2, 0.5, 0.3]), torch.tensor([0.8, 0.1, 0.1]))
        tensor([0.0000, 0.6667, 0.3333])
    """
    check_rows(target=target, draft=draft)
    return normalized_residual(target, draft)


def normalized_residual(target: Tensor, draft: Tensor) -> Tensor:
    """`residual` without its checks."""
    weights = residual_weights(target, draft)
    return weights / weights.sum(-1, keepdim=True)


def residual_weights(target: Tensor, draft: Tensor) -> Tensor:
    """The residual before it is normalized: what is drawn from needs no normalizing."""
    weights = (target - draft).clamp_min_(0.0)
    some = weights.sum(-1, keepdim=True) > 0
    return weights if some.all() else torch.where(some, weights, target)


def output_law(target: Tensor, selection: Tensor) -> Tensor:
    r"""Distribution of the output when a token drawn from :math:`x` is offered to a target :math:`q`: the target,
    whatever :math:`x` is.

    :math:`\min(x, q) + (1 - \sum \min(x, q)) \cdot` `residual`. Computed from the pieces, so that a wrong piece shows.

    Args:
        target: Target probabilities ``(..., v)``.
        selection: Probabilities of the token offered ``(..., v)``.

    Raises:
        TypeError: If an argument is no tensor of floating point numbers.
        ValueError: If rows are no probabilities, or their vocabularies differ.

    Source: Khisti et al. (2024), arXiv 2410.18234, theorem 1.

    Example:
        >>> import torch
        >>> output_law(torch.tensor([0.2, 0.5, 0.3]), torch.tensor([0.8, 0.1, 0.1]))
        tensor([0.2000, 0.5000, 0.3000])
    """
    check_rows(target=target, selection=selection)
    accepted = selection * accept_ratio(target, selection)
    return accepted + (1 - accepted.sum(-1, keepdim=True)).clamp_min(0.0) * normalized_residual(target, selection)


def acceptance(target: Tensor, selection: Tensor) -> Tensor:
    r"""Probability :math:`\sum_y \min(x(y), q(y))` that a token of distribution :math:`x` is accepted: 1 - total
    variation.

    Args:
        target: Target probabilities ``(..., v)``.
        selection: Probabilities of the token offered ``(..., v)``.

    Raises:
        TypeError: If an argument is no tensor of floating point numbers.
        ValueError: If rows are no probabilities, or their vocabularies differ.

    Example:
        >>> import torch
        >>> acceptance(torch.tensor([0.2, 0.5, 0.3]), torch.tensor([0.8, 0.1, 0.1]))
        tensor(0.4000)
    """
    check_rows(target=target, selection=selection)
    return common_mass(target, selection)


def common_mass(target: Tensor, selection: Tensor) -> Tensor:
    """`acceptance` without its checks."""
    return torch.minimum(target, selection).sum(-1)


def offer(target: Tensor, selection: Tensor, token: Tensor, source: RandomSource) -> Decision:
    """Offer tokens ``(r,)`` drawn from ``selection (r, v)`` to the target ``(r, v)``: accept, or draw the residual."""
    chosen = token[:, None]
    probability = accept_ratio(target.gather(-1, chosen), selection.gather(-1, chosen))[:, 0]
    accepted = source.accept(probability)
    if accepted.all():
        return Decision(token, probability)
    rest = (~accepted).nonzero()[:, 0]
    if rest.numel() < token.numel():
        target, selection, source = target[rest], selection[rest], source.rows(rest)
    return Decision(token.index_put((rest,), source.choose(residual_weights(target, selection))), probability)


class SpeculativeSampling(NodeVerifier):
    r"""Speculative sampling of one draft: accept :math:`x` with probability :math:`\min(1, q(x)/p(x))`, else draw from
    :math:`(q - p)_+`.

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

    def node(self, node: Node, source: RandomSource) -> Decision:
        """Offer the drafted token to the target."""
        return offer(node.target, node.draft, node.tokens[:, 0], source)

    def acceptance(self, target: Tensor, drafts: Tensor) -> Tensor:
        r"""Acceptance :math:`\sum_y \min(p(y), q(y))` ``(r,)`` at one node, from probabilities ``(r, v)`` and
        ``(r, 1, v)``.

        Raises:
            ValueError: If there are several drafts.
        """
        if drafts.shape[1] != 1:
            raise ValueError(f"drafts must have shape (r, 1, v) for speculative sampling, got {tuple(drafts.shape)}")
        return common_mass(target, drafts[:, 0])

    def _verify(self, block: DraftBlock, source: RandomSource) -> Verification:
        """One row alone takes a path with less overhead, for the same tokens from the same draws."""
        if block.shape[0] == 1 and block.draft is not None:
            return verify_one(block, block.draft[0, 0], source)
        return super()._verify(block, source)
