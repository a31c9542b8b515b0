"""Temperature."""

import torch
from torch import Tensor

from ._checks import check_temperature
from .base import Processor, keep_only

_MAY_OVERFLOW = 1e-2  # float16 ends at 65504


class Temperature(Processor):
    r"""Divide logits by a temperature: the distribution becomes :math:`q(y)^{1/\tau} / \sum_z q(z)^{1/\tau}`.

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
            return self._divide(scores)
        best = scores.detach().argmax(dim=-1, keepdim=True)
        return keep_only(scores, torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, best, True))

    def _divide(self, scores: Tensor) -> Tensor:
        """Scores over the temperature, less the largest where that would overflow."""
        divided = scores / self.temperature
        if self.temperature < _MAY_OVERFLOW and not bool(divided.detach().amax(-1).isfinite().all()):
            return (scores - scores.detach().amax(-1, keepdim=True)) / self.temperature
        return divided
