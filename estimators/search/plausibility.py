r"""Which experts rest on coincidences: a tiny scale on few rows, as chance alone would find somewhere in the data.

An expert with p coefficients passes through any p rows, and its scale is then what the nearest other rows leave. Of n
rows there are :math:`\binom{n}{p}` choices, and around each another row lies within two scales :math:`\sigma` with a
probability of about :math:`q = 4 \sigma / (\sqrt{2 \pi} s)`, where s is the scale of what the rows would be without
the expert. Each coincidence of m rows is found by :math:`\binom{m}{p}` choices, so that the expected number of those
with as many rows as the expert has,

.. math:: \binom{n}{p} \binom{m}{p}^{-1} P(\mathrm{Binomial}(n - p, q) \ge m - p),

is large for a spurious maximum (McLachlan & Peel, 2000, Finite Mixture Models, section 3.10) and tiny for a line that
the data follow. To count such coincidences is the idea of Desolneux, Moisan & Morel (2000, International Journal of
Computer Vision 40, 7-23).
"""

import math
from typing import NamedTuple

import torch
from scipy.special import betainc
from torch import Tensor

from mixkit.parameters import Axis

from ..data.dataset import Data
from ..optimizers.objective import EndRules, Objective

__all__ = ["Doubts", "doubts", "finest_variance", "spurious_remarks"]

_TINY = 0.05  # of the widest expert's scale: below it experts are suspected
_WITHIN_TWO_SCALES = 4.0 / math.sqrt(2.0 * math.pi)
_LEAST_STD = 1e-7  # of the response's: what a least-squares fit in double precision resolves
_ROUNDING = 8.0 * torch.finfo(torch.float64).eps


class Doubts(NamedTuple):
    """Why ends are not to be trusted, each ``(r, s)`` bool.

    Attributes:
        at_floor: a variance stands at its floor, which is there to stop it and was not chosen as a constraint.
        starved: an expert has fewer observations than it needs.
        spurious: an expert has a tiny scale on as few rows as chance would bring there.
    """

    at_floor: Tensor
    starved: Tensor
    spurious: Tensor

    @property
    def any(self) -> Tensor:
        """Whether there is a reason, ``(r, s)`` bool."""
        return self.at_floor | self.starved | self.spurious

    def reason(self, rules: EndRules, at: tuple[int, int]) -> str:
        """The reason against the end ``at`` a position, in words that follow "it"."""
        if bool(self.at_floor[at]):
            return "has a variance at its floor (variance_floor=)"
        if bool(self.starved[at]):
            return f"rests an expert on fewer than {rules.least_observations} observations"
        return "has an expert with a tiny scale on as few observations as chance alone would bring there"


def doubts(objective: Objective, theta: Tensor) -> Doubts:
    """What there is to hold against ends ``theta (r, s, P)``: nothing where the likelihood has a bound."""
    rules = objective.end_rules
    at_floor = objective.at_floor(theta).any(-1)
    if not bool(torch.isfinite(objective.unwrapped(theta)[1].lower).any()):
        return Doubts(*(torch.zeros_like(at_floor),) * 3)
    log_std, counts = _log_std(objective, theta), objective.observations(theta)
    starved = (counts < rules.least_observations).any(-1)
    spurious = _is_tiny(log_std)
    if bool(spurious.any()):
        spurious &= _log_coincidences(objective, log_std, counts) >= 0.0
    if rules.has_chosen_floor:
        at_floor = torch.zeros_like(at_floor)
    elif rules.finds_lines and bool(at_floor.any()):
        at_floor = at_floor & ~_is_on_lines(objective, log_std, counts)
    return Doubts(at_floor, starved, spurious.any(-1))


def spurious_remarks(objective: Objective, theta: Tensor) -> list[str]:
    """What a reader should know of the experts of the first end ``theta (r, s, P)`` that rest on coincidences."""
    log_std = _log_std(objective, theta)
    is_tiny = _is_tiny(log_std)
    if not bool(is_tiny.any()):
        return []
    is_spurious = is_tiny & (_log_coincidences(objective, log_std, objective.observations(theta)) >= 0.0)
    found = is_spurious[0, 0].nonzero().squeeze(-1).tolist()
    if not found:
        return []
    return [
        f"experts {found} have a tiny scale on as few observations as chance alone would bring there: the "
        "maximum may be spurious (fewer experts, a variance_floor of 1e-4 or more, or more starts)"
    ]


def _is_tiny(log_std: Tensor) -> Tensor:
    """Which experts have a scale that is tiny beside the widest's, ``(r, s, k)`` bool."""
    return (_beside_the_widest(log_std) < math.log(_TINY)).any(-1)


def _is_on_lines(objective: Objective, log_std: Tensor, counts: Tensor) -> Tensor:
    """Whether all experts at a floor have more rows within their scales than chance would bring there, ``(r, s)`` bool.

    Rows with one response in common count once: many equal responses are no line.
    """
    is_held = (log_std <= _log_floor(objective)).any(-1)
    rows = (counts - _most_equal(objective.data).to(counts)[:, None, None] + 1.0).clamp(min=0.0)
    return ((_log_coincidences(objective, log_std, rows) < 0.0) | ~is_held).all(-1)


def finest_variance(data: Data) -> float:
    """The least variance, relative to the response's, that responses in double precision tell from zero."""
    std, size = data.y.std(1, correction=0), data.y.abs().amax(1)
    rounding = (_ROUNDING * size / std)[std > 0.0]
    return max(_LEAST_STD, float(rounding.max()) if len(rounding) else 0.0) ** 2


def _log_std(objective: Objective, theta: Tensor) -> Tensor:
    """Logarithms of the experts' own scales relative to the response's, ``(r, s, k, c)``; 0 where there are none."""
    theta, base = objective.unwrapped(theta)
    found: dict[int, list[int]] = {}
    places = torch.isfinite(base.lower).nonzero().squeeze(-1).tolist()
    entries = base.user_map().entries if places else []
    for place in places:
        record, at = entries[place]
        if Axis.EXPERT in record.axes:
            found.setdefault(record.first_expert + at[record.axes.index(Axis.EXPERT)], []).append(place)
    relative = theta - base.lower + _log_floor(objective)
    k = max([objective.end_rules.num_experts, *(expert + 1 for expert in found)])
    log_std = theta.new_zeros((*theta.shape[:2], k, max(map(len, found.values()), default=1)))
    for expert, own in found.items():
        log_std[..., expert, : len(own)] = relative[..., own]
    return log_std


def _log_floor(objective: Objective) -> float:
    return 0.5 * math.log(objective.end_rules.variance_floor)


def _beside_the_widest(log_std: Tensor) -> Tensor:
    """Logarithms of scales relative to those of the expert that has the largest in each coordinate."""
    return log_std - log_std.amax(-2, keepdim=True)


def _log_coincidences(objective: Objective, log_std: Tensor, rows: Tensor) -> Tensor:
    """Logarithm of the expected number of coincidences as good as each expert, ``(r, s, k)``; see the module.

    Without the expert its rows would be the widest expert's if it is tiny beside that one, else anywhere among the
    responses. Copies of a row count once.

    Args:
        objective: tells the data and the coefficients of an expert.
        log_std: logarithms of scales relative to the response's, ``(r, s, k, c)``.
        rows: of each expert, ``(r, s, k)``.
    """
    beside = _beside_the_widest(log_std)
    relative = torch.where(beside < math.log(_TINY), beside, log_std).sum(-1)
    chance = (_WITHIN_TWO_SCALES * relative.exp()).clamp(max=1.0)
    n = _num_distinct(objective.data).to(rows)[:, None, None]
    p = float(objective.end_rules.least_observations)
    m, others = (rows * n / objective.n).clamp(min=p), (n - p).clamp(min=1.0)
    around = torch.minimum(m - p, others)
    tail = betainc(*(part.numpy(force=True) for part in (around.clamp(min=1e-9), others - around + 1.0, chance)))
    log_tail = torch.where(around > 0.0, torch.as_tensor(tail).to(rows).log(), 0.0)
    return log_tail + _log_choices(torch.maximum(n, m), p) - _log_choices(m, p)


def _log_choices(n: Tensor, p: float) -> Tensor:
    return torch.lgamma(n + 1.0) - torch.lgamma(n - p + 1.0) - math.lgamma(p + 1.0)


def _num_distinct(data: Data) -> Tensor:
    """Number of different rows of each data set ``(r,)``."""
    joint = torch.cat([data.x, data.y.reshape(*data.y.shape[:2], -1)], -1)
    return torch.tensor([len(torch.unique(rows, dim=0)) for rows in joint])


def _most_equal(data: Data) -> Tensor:
    """Number of rows that share the most frequent response, ``(r,)``."""
    return torch.stack([torch.unique(rows, dim=0, return_counts=True)[1].max() for rows in data.y])
