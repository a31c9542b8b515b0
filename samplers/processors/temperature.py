"""Temperature."""

import torch
from torch import Tensor

from ._checks import check_temperature
from .base import Processor, keep_only


class Temperature(Processor):
    r"""Divide logits by a temperature: the law becomes :math:`q(y)^{1/\tau} / \sum_z q(z)^{1/\tau}`.

    Temperature 0 is the limit, greedy: the first token of the largest score keeps it, all others get ``-inf``.

    Args:
        temperature: Non-negative and finite.

    Raises:
        ValueError: If ``temperature`` is negative, NaN or infinite.

    Example:
        >>> import torch
        >>> Temperature(0).process(torch.tensor([1.0, 3.0, 3.0]))
        tensor([-inf, 3., -inf])
    """

    def __init__(self, temperature: float) -> None:
        self.temperature = check_temperature(temperature)

    def transform(self, scores: Tensor) -> Tensor:
        """Return ``scores / temperature``, or the greedy choice at temperature 0."""
        if self.temperature > 0:
            return scores / self.temperature
        best = scores.detach().argmax(dim=-1, keepdim=True)
        return keep_only(scores, torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, best, True))
