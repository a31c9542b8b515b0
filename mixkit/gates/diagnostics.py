r"""What a gate does to data: how selective it is, by what margin, how well it learns, and whether it has collapsed.

All figures are averages over rows of covariates; none needs responses. A gate is asked for its scores over the
temperature, :math:`u(x) = s(x) / \tau(x)`, and its weights :math:`w(x)`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .._validation import at_least_float32, check_finite, check_last_dim, check_positive, check_tensor
from .gate import Gate, entropy

__all__ = ["GateDiagnostics", "gate_diagnostics", "gradient_strength", "score_margin", "wasserstein_uniformity"]

_TEMPERATURES = (4.0, 2.0, 1.0, 0.5, 0.25, 0.125)
_MARGIN_LEVELS = (0.1, 0.5, 0.9)


@dataclass(frozen=True, eq=False, repr=False)
class GateDiagnostics:
    r"""How a gate treats ``n`` rows of covariates; prints as a table.

    Attributes:
        num_rows: n.
        entropy: mean entropy of the weights in nats, from 0 to ``log(num_selected)``.
        effective_experts: mean of ``exp(entropy)`` over the rows, from 1 to ``num_selected``: experts that share a row.
        effective_load: ``exp`` of the entropy of the mean weights, from 1 to k: experts that share the data. One when
            the gate has collapsed.
        top_weight: mean of the largest weight of a row, from 1 / k to 1.
        margin: ``(3,)``, the lower 10%, 50% and 90% quantiles over the rows of :func:`score_margin`, with K =
            ``num_selected`` for sparse gates and 1 for dense ones. A selection that ranks something else than the
            scores (slopes without biases, scores plus balancing biases) jumps elsewhere.
        soft_share: mean weight of each expert ``(k,)``, summing to 1.
        hard_share: share of the rows at which each expert has the largest weight ``(k,)``, summing to 1.
        selection_rate: share of the rows at which each expert is selected ``(k,)``, summing to ``num_selected``.
        temperatures: factors on the gate's own temperature, ``(q,)``.
        mean_gradient: :func:`gradient_strength` at each of them, the mean over the rows ``(q,)``.
        max_gradient: the same, the maximum over the rows ``(q,)``.
        uniformity: :func:`wasserstein_uniformity` of the covariates, rows of zeros left out; NaN if all are.
    """

    num_rows: int
    entropy: float
    effective_experts: float
    effective_load: float
    top_weight: float
    margin: Tensor
    soft_share: Tensor
    hard_share: Tensor
    selection_rate: Tensor
    temperatures: Tensor
    mean_gradient: Tensor
    max_gradient: Tensor
    uniformity: float

    def unused(self, share: float = 0.01) -> list[int]:
        """Experts whose soft share is below ``share`` of an even one, ``share / k``."""
        return (self.soft_share < share / len(self.soft_share)).nonzero().squeeze(-1).tolist()

    def __repr__(self) -> str:
        """Figures of the gate, then of each expert, then of each temperature."""
        low, middle, high = self.margin.tolist()
        lines = [f"GateDiagnostics(k={len(self.soft_share)}, n={self.num_rows})"]
        figures = [
            ("mean entropy (nats)", f"{self.entropy:.4g}"),
            ("effective experts of a row", f"{self.effective_experts:.4g}"),
            ("effective experts of the data", f"{self.effective_load:.4g}"),
            ("mean largest weight", f"{self.top_weight:.4g}"),
            ("margin: 10%, median, 90%", f"{low:.4g}, {middle:.4g}, {high:.4g}"),
            ("uniformity of covariates (W2)", f"{self.uniformity:.4g}"),
        ]
        lines += [f"  {label:<32}{value}" for label, value in figures]
        experts = {"soft share": self.soft_share, "hard share": self.hard_share, "selected": self.selection_rate}
        lines += _columns("expert", [str(j) for j in range(len(self.soft_share))], experts)
        gradients = {"mean |dw/du|": self.mean_gradient, "max |dw/du|": self.max_gradient}
        return "\n".join(
            [*lines, *_columns("temperature x", [f"{t:g}" for t in self.temperatures.tolist()], gradients)]
        )


def _columns(head: str, names: list[str], columns: dict[str, Tensor]) -> list[str]:
    lines = [f"  {head:<14}" + "".join(f"{title:>14}" for title in columns)]
    for row, name in enumerate(names):
        lines.append(f"  {name:<14}" + "".join(f"{float(column[row]):>14.4g}" for column in columns.values()))
    return lines


def gate_diagnostics(
    gate: Gate,
    x: Tensor,
    *,
    temperatures: Sequence[float] = _TEMPERATURES,
    generator: torch.Generator | None = None,
) -> GateDiagnostics:
    r"""Measure a gate on covariates.

    Args:
        gate: a single gate (no batch of models) of k experts.
        x: covariates ``(n, d)``, n at least 1.
        temperatures: positive factors on the gate's own temperature at which :func:`gradient_strength` is taken.
        generator: source of the noise, for selections that are random.

    Returns:
        The figures, in the dtype of the gate but float32 at least.

    Raises:
        TypeError: if ``gate`` is not a gate or ``x`` not a floating tensor.
        ValueError: if ``x`` has another shape, has no rows or is not finite, or a temperature is not positive.

    Source: selectivity, distance and gradients of a softmax are the three limits of normalization studied in
        arXiv 2508.17821; uniformity is Fang et al. (2024), arXiv 2403.00642.

    Example:
        >>> import torch
        >>> from mixkit import constant_gate
        >>> print(gate_diagnostics(constant_gate(4), torch.ones(3, 2), temperatures=[1.0]))
        GateDiagnostics(k=4, n=3)
          mean entropy (nats)             1.386
          effective experts of a row      4
          effective experts of the data   4
          mean largest weight             0.25
          margin: 10%, median, 90%        0, 0, 0
          uniformity of covariates (W2)   1.414
          expert            soft share    hard share      selected
          0                       0.25             1             1
          1                       0.25             0             1
          2                       0.25             0             1
          3                       0.25             0             1
          temperature x   mean |dw/du|   max |dw/du|
          1                      0.433         0.433
    """
    _check(gate, x)
    factors = torch.tensor([float(check_positive("temperatures", t)) for t in temperatures], dtype=torch.float64)
    with torch.no_grad():
        scores, kept = (at_least_float32(part) for part in gate.scores(x, generator))
        log_weights = at_least_float32(gate.normalizer(kept))
        weights, rows = log_weights.exp(), entropy(log_weights)
        load = weights.mean(0)
        top = weights.argmax(-1)
        margin = score_margin(scores, _selected(gate)).double()
    strengths = [gradient_strength(gate, kept / float(t)) / float(t) for t in factors]
    return GateDiagnostics(
        num_rows=len(x),
        entropy=float(rows.mean()),
        effective_experts=float(rows.exp().mean()),
        effective_load=float(entropy(load.log()).exp()),
        top_weight=float(weights.amax(-1).mean()),
        margin=margin.sort().values[[int(level * (len(x) - 1)) for level in _MARGIN_LEVELS]],
        soft_share=load,
        hard_share=torch.nn.functional.one_hot(top, gate.num_experts).to(load).mean(0),
        selection_rate=(kept > -torch.inf).to(load).mean(0),
        temperatures=factors,
        mean_gradient=torch.stack([s.mean() for s in strengths]),
        max_gradient=torch.stack([s.amax() for s in strengths]),
        uniformity=_uniformity(x),
    )


def _uniformity(x: Tensor) -> float:
    rows = x[(x != 0).any(-1)]
    return wasserstein_uniformity(rows) if len(rows) else float("nan")


def _check(gate: Gate, x: Tensor) -> None:
    if not isinstance(gate, Gate):
        raise TypeError(f"gate must be a mixkit.gates.Gate, got {type(gate).__name__}")
    if check_tensor("x", x).ndim != 2 or not len(x):
        raise ValueError(f"x must have shape (n, d) with n >= 1, got {tuple(x.shape)}")
    bias = gate.score.bias
    if bias is not None and bias.ndim > 1:
        raise ValueError(f"gate must be a single one, got a batch of shape {tuple(bias.shape[:-1])}")


def _selected(gate: Gate) -> int:
    """K of a sparse gate; 1 of a dense one, whose margin is that of the best expert over the second."""
    return gate.num_selected if gate.num_selected < gate.num_experts else min(1, gate.num_experts - 1)


def score_margin(scores: Tensor, num_selected: int = 1) -> Tensor:
    r"""How far the K-th largest score lies above the next, :math:`u_{(K)} - u_{(K+1)}`, ``(..., k)`` to ``(...,)``.

    With scores over the temperature it is the logarithm of the ratio of the two weights under a softmax: 0 at a border
    between experts, where a selection jumps; inf where there is no next score above -inf, or K = 0.

    Args:
        scores: ``(..., k)``.
        num_selected: K, from 0 to k; at K = k there is no next score.

    Raises:
        ValueError: if K is not in that range.

    Example:
        >>> import torch
        >>> score_margin(torch.tensor([[3.0, 0.0, 1.0], [2.0, 2.0, 2.0]]), 2)
        tensor([1., 0.])
    """
    k = check_tensor("scores", scores).shape[-1]
    if not 0 <= num_selected <= k:
        raise ValueError(f"num_selected must be from 0 to {k}, got {num_selected}")
    if num_selected in (0, k):
        return torch.full_like(scores[..., 0], torch.inf)
    top = scores.topk(num_selected + 1, dim=-1).values
    last, following = top[..., -2], top[..., -1]
    return torch.where(following > -torch.inf, last - following, torch.inf)


def gradient_strength(gate: Gate, kept: Tensor) -> Tensor:
    r"""The Frobenius norm of :math:`\partial w / \partial u` at each row: how strongly a loss can move the gate.

    For a softmax it is :math:`(\sum_j w_j^2 - 2 \sum_j w_j^3 + (\sum_j w_j^2)^2)^{1/2}`, at most 1/2 for two experts.
    At a temperature :math:`\tau` on top, the derivative in the scores before it is this over :math:`\tau`; each entry,
    :math:`w_i (\delta_{ij} - w_j) / \tau`, is at most :math:`1 / (4 \tau)`. So as the temperature falls the gradient
    grows like :math:`1 / \tau` on the borders between experts and vanishes like :math:`e^{-m / \tau} / \tau` at rows of
    margin m (see :func:`score_margin`): few rows move the gate, and strongly.

    Args:
        gate: whose normalizer is differentiated; the selection is held fixed.
        kept: scores after temperature and selection, ``(n, k)``, -inf where unselected; rows do not interact.

    Returns:
        ``(n,)``.

    Source: derived here; that low temperatures make gradients large and rare is a finding of arXiv 2508.17821.

    Example:
        >>> import torch
        >>> from mixkit import constant_gate
        >>> gradient_strength(constant_gate(2), torch.zeros(1, 2))
        tensor([0.5000])
    """
    with torch.enable_grad():
        leaf = kept.detach().clone().requires_grad_()
        weights = gate.normalizer(leaf).exp()
        rows = [
            torch.autograd.grad(weights[..., j].sum(), leaf, retain_graph=True)[0] for j in range(weights.shape[-1])
        ]
    jacobian = torch.where((leaf.detach() > -torch.inf).unsqueeze(-2), torch.stack(rows, -2), 0.0)
    return jacobian.square().sum((-1, -2)).sqrt()


def wasserstein_uniformity(z: Tensor) -> float:
    r"""How far representations are from uniform on the sphere; large where they have collapsed.

    Rows are scaled to length one. With their mean :math:`\mu` and covariance :math:`\Sigma`, both taken as those of a
    normal distribution, the 2-Wasserstein distance to :math:`N(0, I_m / m)`, the limit of the uniform distribution on
    the sphere, is

    .. math:: W_2 = (\|\mu\|^2 + 1 + \mathrm{tr} \Sigma - \tfrac{2}{\sqrt m} \mathrm{tr} \Sigma^{1/2})^{1/2}.

    Zero for isotropic rows; :math:`\sqrt 2` where all point one way; :math:`(2 - 2 \sqrt{r / m})^{1/2}` where they are
    isotropic in a subspace of r dimensions.

    Args:
        z: representations, covariates or rows of weights, ``(n, m)``, none of length zero.

    Raises:
        TypeError: if ``z`` is not a floating tensor.
        ValueError: if ``z`` has another shape, is not finite, or has a row of zeros.

    Source: Fang, Li, Sun, Wang (2024), arXiv 2403.00642; the formula is that of the distance between normal
        distributions (Olkin and Pukelsheim 1982).

    Example:
        >>> import torch
        >>> axes = torch.eye(3, dtype=torch.float64)
        >>> round(wasserstein_uniformity(torch.cat([axes, -axes])), 6)
        0.0
    """
    if check_tensor("z", z).ndim != 2 or not len(z):
        raise ValueError(f"z must have shape (n, m) with n >= 1, got {tuple(z.shape)}")
    rows = check_finite("z", z.detach()).double()
    check_last_dim("z", rows, rows.shape[-1], "entries")
    length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    if not bool((length > 0).all()):
        raise ValueError(f"z must have no row of zeros, got {int((length == 0).sum())}")
    rows = rows / length
    mean = rows.mean(0)
    eigenvalues = torch.linalg.svdvals(rows - mean).square() / len(rows)
    squared = mean.square().sum() + 1.0 + eigenvalues.sum() - 2.0 / rows.shape[-1] ** 0.5 * eigenvalues.sqrt().sum()
    return float(squared.clamp(min=0.0).sqrt())
