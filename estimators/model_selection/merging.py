r"""Two atoms of a mixing measure merged into one, and how far apart two atoms are.

In the distribution :math:`\sum_l w_l(x) N(y; \eta_l(x), s_l)` with :math:`\eta_l(x) = a_l^\top x + b_l`, atoms i and j
are replaced by the nearest single atom. Two rules say which that is.

*Projection*, with covariates at hand. The new gate and expert minimize the mean over x of the Kullback-Leibler
divergence of (expert, y) given x from the old distribution to the new. It falls apart into the gate, a softmax
regression on the weights with :math:`w_i + w_j` in place of the two, and the expert, weighted least squares:

.. math::

    (a, b) = \arg\min \sum_x \sum_{l \in \{i, j\}} w_l(x) (\eta_l(x) - a^\top x - b)^2, \qquad
    s = \frac{\sum_x \sum_l w_l(x) (s_l + (\eta_l(x) - a^\top x - b)^2)}{\sum_x \sum_l w_l(x)},

the mass-weighted mean of the lines plus, in the variance, their spread.

*Moments*, on parameters alone. Expand :math:`F(\theta) = e^{\beta_1^\top x} N(y; a^\top x + b, s)` around the mean
:math:`\bar\theta` of the pair with masses :math:`p_l = e^{\beta_{0l}}`. First-order terms vanish for mass-weighted
means of :math:`\beta_1, a, b, s` and the mass :math:`p_i + p_j`. Of the second-order terms those with
:math:`\partial_b^2 F = 2 \partial_s F` and :math:`\partial_{\beta_1} \partial_b F = \partial_a F` have the direction
of a first-order one, and are absorbed by

.. math:: s = \bar s + \mathrm{Var}(b), \qquad a = \bar a + \mathrm{Cov}(\beta_1, b).

Both leave the distribution of coinciding atoms as it is, and follow a translation of the gate: masses change by one
factor :math:`e^{t_0}`, which cancels, and :math:`\beta_1` moves by :math:`t_1`. The moments depend on where x has its
origin.

Source: Hai et al. (2025), arXiv 2510.12744, who merge by mass-weighted means; Do et al. (2024), arXiv 2403.01684, for
mixtures without covariates. Projection, and the covariance terms, are derived here.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from mixkit.measure import MixingMeasure

__all__ = [
    "Atoms",
    "bhattacharyya_gap",
    "harmonic_mass",
    "merge_by_moments",
    "merge_by_projection",
    "parameter_gap",
    "soft_multinomial",
]

Array = NDArray[np.float64]
_NEWTON_STEPS = 100
_TOLERANCE = 1e-10
_LARGEST_DAMPING = 1e12


class Atoms(NamedTuple):
    """A mixing measure in NumPy: gate bias, intercept and variance ``(k,)``, gate weight and slope ``(k, d)``."""

    gate_bias: Array
    gate_weight: Array
    slope: Array
    intercept: Array
    variance: Array

    @classmethod
    def of(cls, measure: MixingMeasure) -> "Atoms":
        """The atoms of a measure."""
        return cls(*(getattr(measure, name).detach().double().cpu().numpy() for name in cls._fields))

    def scores(self, x: Array) -> Array:
        """Gate scores ``(n, k)``."""
        return x @ self.gate_weight.T + self.gate_bias

    def weights(self, x: Array) -> Array:
        """Softmax weights ``(n, k)``."""
        scores = self.scores(x)
        return np.exp(scores - logsumexp(scores, axis=1, keepdims=True))

    def means(self, x: Array) -> Array:
        """Means of the experts ``(n, k)``."""
        return x @ self.slope.T + self.intercept

    def log_density(self, x: Array, y: Array) -> Array:
        """Log-density of each observation, ``(n,)``."""
        scores = self.scores(x)
        squares = (y[:, None] - self.means(x)) ** 2 / self.variance
        joint = scores - 0.5 * (squares + np.log(2.0 * np.pi * self.variance))
        return np.asarray(logsumexp(joint, axis=1) - logsumexp(scores, axis=1))

    def without(self, pair: tuple[int, int]) -> "Atoms":
        """The atoms but two."""
        return Atoms(*(np.delete(part, pair, axis=0) for part in self))

    def plus(self, atom: "Atoms") -> "Atoms":
        """With the atoms of another measure at the end."""
        return Atoms(*(np.concatenate(parts) for parts in zip(self, atom, strict=True)))


def merge_by_projection(atoms: Atoms, pair: tuple[int, int], x: Array) -> Atoms:
    """The atoms with a pair merged into one, the last, nearest over covariates ``x (n, d)``: see the module's head."""
    weights = atoms.weights(x)
    own = weights[:, pair]
    total, means = own.sum(1), atoms.means(x)[:, pair]
    design = np.column_stack([x, np.ones(len(x))])
    line = _least_squares(design, (own * means).sum(1), total)
    spread = atoms.variance[list(pair)] + (means - (design @ line)[:, None]) ** 2
    merged = atoms.without(pair).plus(_atom(np.zeros_like(line), line, float((own * spread).sum() / total.sum())))
    targets = np.column_stack([np.delete(weights, pair, axis=1), total])
    gates = soft_multinomial(design, targets, _gate_starts(atoms, pair, design, total))
    return merged._replace(gate_bias=gates[:, -1], gate_weight=gates[:, :-1])


def _atom(gate: Array, line: Array, variance: float) -> Atoms:
    return Atoms(gate[-1:], gate[None, :-1], line[None, :-1], line[-1:], np.array([variance]))


def _least_squares(design: Array, weighted_response: Array, weight: Array) -> Array:
    root = np.sqrt(weight)
    response = np.divide(weighted_response, root, out=np.zeros_like(root), where=root > 0)
    return np.asarray(np.linalg.lstsq(design * root[:, None], response, rcond=None)[0])


def _gate_starts(atoms: Atoms, pair: tuple[int, int], design: Array, total: Array) -> list[Array]:
    """Gates ``(k - 1, d + 1)``: the others' with that of one of the pair, or a line through the pair's; and none."""
    gates = np.column_stack([atoms.gate_weight, atoms.gate_bias])
    others, both = np.delete(gates, pair, axis=0), gates[list(pair)]
    line = _least_squares(design, total * logsumexp(design @ both.T, axis=1), total)
    starts = [np.vstack([others, gate]) for gate in (*both, both.mean(0), line)]
    return [*starts, np.zeros_like(starts[0])]


def soft_multinomial(design: Array, targets: Array, starts: list[Array]) -> Array:
    """Softmax regression on probabilities: maximize the mean of ``sum_j targets_j log w_j`` by damped Newton steps.

    Args:
        design: ``(n, D)``.
        targets: ``(n, k)``, rows that sum to 1.
        starts: coefficients ``(k, D)``, of which the best is climbed from; the value is concave.

    Returns:
        Coefficients ``(k, D)``, the last row zero.
    """

    def value(gates: Array) -> float:
        scores = design @ gates.T
        return float(((targets * scores).sum(1) - logsumexp(scores, axis=1)).mean())

    if len(starts[0]) == 1:
        return np.zeros_like(starts[0])
    best = max(starts, key=value)
    best, current, damping = best - best[-1], value(best), 1e-6
    for _ in range(_NEWTON_STEPS):
        gradient, information = _multinomial_derivatives(design, targets, best)
        ridge = damping * (np.trace(information) / len(information) + 1e-12)
        step = np.linalg.solve(information + ridge * np.eye(len(information)), gradient)
        proposed = best + np.vstack([step.reshape(-1, design.shape[1]), np.zeros(design.shape[1])])
        gain = value(proposed) - current
        damping = max(damping * 0.1, 1e-12) if gain >= 0 else damping * 10.0
        if gain >= 0:
            best, current = proposed, current + gain
        if 0 <= gain <= _TOLERANCE or damping > _LARGEST_DAMPING:
            break
    return best


def _multinomial_derivatives(design: Array, targets: Array, gates: Array) -> tuple[Array, Array]:
    """Gradient and negated Hessian of the mean log-likelihood in all rows of ``gates`` but the last."""
    scores = design @ gates.T
    fitted = np.exp(scores - logsumexp(scores, axis=1, keepdims=True))[:, :-1]
    gradient = (targets[:, :-1] - fitted).T @ design / len(design)
    size = fitted.shape[1]
    blocks = [
        [(design * (fitted[:, i] * ((i == j) - fitted[:, j]))[:, None]).T @ design / len(design) for j in range(size)]
        for i in range(size)
    ]
    return gradient.ravel(), np.block(blocks)


def merge_by_moments(atoms: Atoms, pair: tuple[int, int]) -> Atoms:
    """The atoms with a pair merged into one, the last, of its moments: see the module's head."""
    i = list(pair)
    bias = atoms.gate_bias[i]
    share = np.exp(bias - logsumexp(bias))
    weight, slope = share @ atoms.gate_weight[i], share @ atoms.slope[i]
    intercept = float(share @ atoms.intercept[i])
    off = share * (atoms.intercept[i] - intercept)
    slope = slope + off @ (atoms.gate_weight[i] - weight)
    variance = float(share @ atoms.variance[i] + off @ (atoms.intercept[i] - intercept))
    merged = _atom(np.append(weight, logsumexp(bias)), np.append(slope, intercept), variance)
    return atoms.without(pair).plus(merged)


def harmonic_mass(first: float, second: float) -> float:
    """``1 / (1 / p + 1 / q)``, by which a gap between two atoms counts; 0 if one of the masses is."""
    return first * second / (first + second) if first + second > 0 else 0.0


def parameter_gap(atoms: Atoms, i: int, j: int) -> float:
    r"""The distance :math:`\|b_i - b_j\|^2 + \|a_i - a_j\| + |s_i - s_j|` between the experts of two atoms.

    The exponents follow the rates of two fitted atoms that share a true one, :math:`n^{-1/8}` for the intercept and
    :math:`n^{-1/4}` for slope and variance (arXiv 2305.03288), so that the terms are of one order. The gate is left
    out, as in the code published with arXiv 2510.12744: the gates of abrupt atoms have no finite estimate, and would
    outweigh all else.
    """
    intercept, variance = atoms.intercept[i] - atoms.intercept[j], atoms.variance[i] - atoms.variance[j]
    return float(intercept**2 + np.linalg.norm(atoms.slope[i] - atoms.slope[j]) + abs(variance))


def bhattacharyya_gap(atoms: Atoms, i: int, j: int, x: Array, weights: Array) -> float:
    r"""One minus the overlap of two experts where their gates are, from 0 to 1.

    .. math::

        \frac{\sum_x (w_i + w_j)(x) (1 - \int \sqrt{N(y; \eta_i, s_i) N(y; \eta_j, s_j)} dy)}{\sum_x (w_i + w_j)(x)},

    the squared Hellinger distance. For near atoms of variance s it is
    :math:`(\eta_i - \eta_j)^2 / 8 s + (s_i - s_j)^2 / 16 s^2` to second order. It does not change when x or y is
    measured in other units or from another origin.
    """
    pair_weight = weights[:, i] + weights[:, j]
    together = atoms.variance[i] + atoms.variance[j]
    height = np.sqrt(2.0 * np.sqrt(atoms.variance[i] * atoms.variance[j]) / together)
    gap = x @ (atoms.slope[i] - atoms.slope[j]) + (atoms.intercept[i] - atoms.intercept[j])
    overlap = height * np.exp(-(gap**2) / (4.0 * together))
    return float(np.average(1.0 - overlap, weights=pair_weight)) if pair_weight.sum() > 0 else 0.0
