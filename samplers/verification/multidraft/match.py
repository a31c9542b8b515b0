"""Sampler match: draw from the target and hope that a draft holds the token."""

from torch import Tensor

from ..node import Decision, Node
from ..sources import RandomSource
from ..verifier import NodeVerifier


class SamplerMatch(NodeVerifier):
    r"""Draw :math:`z` from the target and accept it if a draft holds it: acceptance
    :math:`\sum_y q(y) (1 - \prod_i (1 - p_i(y)))`.

    It reads no draft distribution, so drafts may be anything. Source: the naive scheme of Miao et al. (2023), arXiv
    2305.09781.

    Example:
        >>> import torch
        >>> one_hot = torch.tensor([[[0.0, -torch.inf], [0.0, -torch.inf]]])
        >>> SamplerMatch().verify(one_hot, one_hot[:, :1], torch.tensor([[0]])).num_accepted
        tensor([1])
    """

    precise = False
    uses_kept_tokens = False

    def node(self, node: Node, source: RandomSource) -> Decision:
        """Draw from the target."""
        token = source.choose(node.target)
        return Decision(token, node.target.gather(-1, token[:, None])[:, 0])

    def acceptance(self, target: Tensor, drafts: Tensor) -> Tensor:
        """Exact acceptance ``(r,)`` at one node, from probabilities ``(r, v)`` and ``(r, m, v)``."""
        return (target * (1 - (1 - drafts).prod(-2))).sum(-1)
