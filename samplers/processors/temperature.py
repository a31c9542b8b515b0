"""Temperature."""

import torch
from torch import Tensor

from ._checks import check_temperature
from .base import Processor, keep_only
from .ordering import largest_index


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
        best = largest_index(scores)[..., None]
        return keep_only(scores, torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, best, True))

    def _divide(self, scores: Tensor) -> Tensor:
        """Scores over the temperature, by way of float64 where the dtype of the scores does not hold the quotient."""
        dtype = torch.promote_types(scores.dtype, torch.float32)  # torch divides half precision in float32
        if not torch.finfo(dtype).tiny <= self.temperature <= torch.finfo(dtype).max:
            return divide_exactly(scores, self.temperature)
        divided = scores / self.temperature
        if self.temperature < 1 and not bool(divided.detach().amax(-1).isfinite().all()):
            return divide_exactly(scores, self.temperature)
        return divided


def divide_exactly(scores: Tensor, temperature: float) -> Tensor:
    """Scores less their largest over any positive temperature, in float64: the largest is 0, others may be ``-inf``.

    Example:
        >>> divide_exactly(torch.tensor([2000.0, 1999.0], dtype=torch.float16), 0.02)
        tensor([  0., -50.], dtype=torch.float16)
    """
    below = (scores - scores.detach().amax(-1, keepdim=True)).double()
    tiniest = torch.finfo(torch.float64).tiny  # below it a float64 may be flushed to zero
    return torch.where(below < 0, below / max(temperature, tiniest), below).to(scores.dtype)
