"""The gates of the papers, named compositions of a score, a temperature, a selection and a normalizer."""

import inspect
from collections.abc import Callable
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor

from ..parameters import CoefficientPattern
from .gate import Gate
from .normalizers import NormalizedSigmoid
from .scores import ActivationScore, ConstantScore, DistanceScore, LinearScore
from .selections import TopKBySlope
from .temperatures import LearnableTemperature, Temperature

__all__ = [
    "LinearScoreOptions",
    "ScoreOptions",
    "activation_gate",
    "constant_gate",
    "dense_to_sparse_gate",
    "gate_by_name",
    "gate_names",
    "laplace_gate",
    "sigmoid_gate",
    "softmax_gate",
    "topk_gate",
]


class ScoreOptions(TypedDict, total=False):
    """Keyword arguments that all named gates take.

    ``bias``: whether the score has a bias (default True); ``batch_shape``: leading dimensions of independent models
    (default ``()``); ``dtype`` and ``device`` of the parameters; ``generator``: source of their initial values.
    """

    bias: bool
    batch_shape: tuple[int, ...]
    dtype: torch.dtype | None
    device: torch.device | str | None
    generator: torch.Generator | None


class LinearScoreOptions(ScoreOptions, total=False):
    """Keyword arguments of gates with linear scores: those of :class:`ScoreOptions`, and ``pattern``.

    ``pattern``: which coefficients are common, fixed or absent (:class:`~mixkit.parameters.CoefficientPattern`).
    """

    pattern: CoefficientPattern | None


def softmax_gate(num_features: int, num_experts: int, **options: Unpack[LinearScoreOptions]) -> Gate:
    r"""The softmax gate, :math:`w = \text{softmax}(\beta_1^\top x + \beta_0)`.

    The gate of Jordan and Jacobs (1994); its rates in Nguyen, Nguyen and Ho (2023), arXiv 2305.03288.

    Args:
        num_features: number of covariates ``d``.
        num_experts: number of experts ``k``.
        **options: those of :class:`LinearScoreOptions`.

    Example:
        >>> import torch
        >>> gate = softmax_gate(2, 3, generator=torch.Generator().manual_seed(0))
        >>> gate(torch.ones(5, 2)).shape
        torch.Size([5, 3])
    """
    return Gate(LinearScore(num_features, num_experts, **options))


def topk_gate(num_features: int, num_experts: int, num_selected: int, **options: Unpack[LinearScoreOptions]) -> Gate:
    r"""The top-K sparse softmax gate, :math:`w = \text{softmax}(\text{TopK}(\beta_1^\top x, K; \beta_0))`.

    From Nguyen, Akbarian, Yan and Ho (2024), arXiv 2309.13850: experts are ranked on :math:`\beta_1^\top x`, without
    the bias. Most code ranks the full score, which is ``Gate(LinearScore(...), selection=TopKByScore(K))``. With K = 1
    the weight is 1 whatever the scores, so no gradient reaches them: see ``renormalize`` of :meth:`Gate.route`.

    Center the covariates: without a bias in the ranking the regions of selection meet at the origin, and where every
    row of x points the same way (one positive covariate) the same K experts are kept for all of them.

    Args:
        num_features: number of covariates ``d``.
        num_experts: number of experts ``k``.
        num_selected: how many experts are kept at every row, K.
        **options: those of :class:`LinearScoreOptions`.

    Example:
        >>> import torch
        >>> gate = topk_gate(2, 3, 2, generator=torch.Generator().manual_seed(0))
        >>> (gate(torch.ones(5, 2)) > -torch.inf).sum(-1)
        tensor([2, 2, 2, 2, 2])
    """
    return Gate(LinearScore(num_features, num_experts, **options), selection=TopKBySlope(num_selected))


def dense_to_sparse_gate(
    num_features: int,
    num_experts: int,
    *,
    temperature: Temperature | None = None,
    **options: Unpack[LinearScoreOptions],
) -> Gate:
    r"""The dense-to-sparse gate, :math:`w = \text{softmax}((\beta_1^\top x + \beta_0) / \tau)`.

    From Nie et al. (2022), arXiv 2112.14397; its rates in Nguyen, Akbarian and Ho (2024), arXiv 2401.13875.

    Args:
        num_features: number of covariates ``d``.
        num_experts: number of experts ``k``.
        temperature: :math:`\tau`; a learnable one that starts at 1 if None.
        **options: those of :class:`LinearScoreOptions`.

    Example:
        >>> import torch
        >>> from mixkit.schedules import GeometricSchedule
        >>> from mixkit.gates.temperatures import ScheduledTemperature
        >>> annealed = ScheduledTemperature(GeometricSchedule(start=2.0, end=0.3, rate=0.99))
        >>> gate = dense_to_sparse_gate(2, 3, temperature=annealed, generator=torch.Generator().manual_seed(0))
        >>> gate(torch.ones(5, 2)).shape
        torch.Size([5, 3])
    """
    score = LinearScore(num_features, num_experts, **options)
    return Gate(score, temperature=_temperature(temperature, options))


def activation_gate(
    num_features: int,
    num_experts: int,
    *,
    activation: Callable[[Tensor], Tensor] = torch.sigmoid,
    temperature: Temperature | None = None,
    **options: Unpack[LinearScoreOptions],
) -> Gate:
    r"""The activation dense-to-sparse gate, :math:`w = \text{softmax}((\sigma(\beta_1^\top x) + \beta_0) / \tau)`.

    From Nguyen, Akbarian and Ho (2024), arXiv 2401.13875; see :class:`~mixkit.gates.scores.ActivationScore`.

    Args:
        num_features: number of covariates ``d``.
        num_experts: number of experts ``k``.
        activation: :math:`\sigma`, elementwise and smooth.
        temperature: :math:`\tau`; a learnable one that starts at 1 if None.
        **options: those of :class:`LinearScoreOptions`.

    Example:
        >>> import torch
        >>> gate = activation_gate(2, 3, activation=torch.tanh, generator=torch.Generator().manual_seed(0))
        >>> gate(torch.ones(5, 2)).shape
        torch.Size([5, 3])
    """
    score = ActivationScore(activation, num_features, num_experts, **options)
    return Gate(score, temperature=_temperature(temperature, options))


def sigmoid_gate(num_features: int, num_experts: int, **options: Unpack[LinearScoreOptions]) -> Gate:
    r"""The normalized sigmoid gate, :math:`w_j \propto \text{sigmoid}(\beta_{1j}^\top x + \beta_{0j})`.

    The sigmoid gate is studied by Nguyen, Ho and Rinaldo (2024), arXiv 2405.13997, and its normalized form, which is
    this one, by Nguyen et al. (2025), arXiv 2505.10860.

    Args:
        num_features: number of covariates ``d``.
        num_experts: number of experts ``k``.
        **options: those of :class:`LinearScoreOptions`.

    Example:
        >>> import torch
        >>> gate = sigmoid_gate(2, 3, generator=torch.Generator().manual_seed(0))
        >>> gate(torch.ones(5, 2)).shape
        torch.Size([5, 3])
    """
    return Gate(LinearScore(num_features, num_experts, **options), normalizer=NormalizedSigmoid())


def laplace_gate(
    num_features: int, num_experts: int, *, squared: bool = False, **options: Unpack[ScoreOptions]
) -> Gate:
    r"""The Laplace gate, :math:`w = \text{softmax}(-\lVert x - c \rVert + \beta_0)`.

    From Han, Nguyen, Harris, Ho and Saria (2024), arXiv 2402.03226; see :class:`~mixkit.gates.scores.DistanceScore`.

    Args:
        num_features: number of covariates ``d``.
        num_experts: number of experts ``k``.
        squared: take the squared Euclidean distance instead.
        **options: those of :class:`ScoreOptions`.

    Example:
        >>> import torch
        >>> gate = laplace_gate(2, 3, generator=torch.Generator().manual_seed(0))
        >>> gate(torch.ones(5, 2)).shape
        torch.Size([5, 3])
    """
    return Gate(DistanceScore(num_features, num_experts, squared=squared, **options))


def constant_gate(
    num_experts: int,
    *,
    batch_shape: tuple[int, ...] = (),
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Gate:
    r"""Mixing proportions that do not depend on x, :math:`w = \text{softmax}(\beta_0)`, equal at the start.

    Args:
        num_experts: number of experts ``k``.
        batch_shape: leading dimensions of independent models.
        dtype: dtype of the bias.
        device: device of the bias.

    Example:
        >>> import torch
        >>> constant_gate(4).load(torch.ones(5, 2)).detach()
        tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """
    return Gate(ConstantScore(num_experts, batch_shape=batch_shape, dtype=dtype, device=device))


_NAMED: dict[str, Callable[..., Gate]] = {
    "softmax": softmax_gate,
    "top-k": topk_gate,
    "temperature": dense_to_sparse_gate,
    "activation": activation_gate,
    "sigmoid": sigmoid_gate,
    "laplace": laplace_gate,
    "constant": lambda num_features, num_experts, *, generator=None, **options: constant_gate(num_experts, **options),
}


def gate_names(*, with_options: bool = True) -> tuple[str, ...]:
    """The names of the gates that :func:`gate_by_name` knows; of those that need no options if they cannot be given."""
    return tuple(name for name, build in _NAMED.items() if with_options or not _needs_options(build))


def _needs_options(build: Callable[..., Gate]) -> bool:
    named = [p for p in inspect.signature(build).parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    return len(named) > 2


def gate_by_name(name: str, num_features: int, num_experts: int, **options: Any) -> Gate:
    """The gate that a word names, wherever a word names one.

    Args:
        name: "softmax", "top-k", "temperature", "activation", "sigmoid", "laplace" or "constant".
        num_features: number of covariates ``d``.
        num_experts: number of experts ``k``.
        **options: those of the gate's function; a constant gate has no random start, so ``generator`` does nothing.

    Raises:
        ValueError: for an unknown name.

    Example:
        >>> gate_by_name("constant", 2, 3).score
        ConstantScore(num_experts=3, bias=True)
    """
    if name not in _NAMED:
        raise ValueError(f"gate must be one of {sorted(_NAMED)}, got {name!r}")
    return _NAMED[name](num_features, num_experts, **options)


def _temperature(given: Temperature | None, options: ScoreOptions) -> Temperature:
    if given is not None:
        return given
    return LearnableTemperature(
        batch_shape=options.get("batch_shape", ()), dtype=options.get("dtype"), device=options.get("device")
    )
