"""From a learned score to the denoiser that a flow needs."""

from __future__ import annotations

import torch
from torch import Tensor

from mixkit._validation import check_positive

from .losses import Denoiser
from .paths import GumbelSoftmaxPath


def score_denoiser(score_model: Denoiser, path: GumbelSoftmaxPath, *, min_time: float = 1e-3) -> Denoiser:
    r"""The denoiser implied by a model trained with ``score_matching_loss``, so that ``sample_flow`` can follow it.

    With ``q = softmax(f)`` the model's output, ``E = e^signal(t) - 1`` and ``r = softmax(-T log x)``, the marginal
    score ``-T + v T q`` belongs to exactly one posterior,

        p_i = (1 + E r_i) (w_i - sum_j w_j / (v + E)) / E,     w = q / r.

    It sums to 1 whatever ``q`` is; entries that an imperfect model makes negative become 0. At time 0 the score says
    nothing about the token, so earlier times than ``min_time`` are read at ``min_time``.

    Args:
        score_model: maps ``log_x (*batch, length, v)`` and times ``(*batch,)`` to logits ``f``.
        path: the path it was trained on.
        min_time: in (0, 1]; a small fraction of the whole.

    Returns:
        A denoiser: logits (log-probabilities, -inf for none) of each token.

    Example:
        >>> from mixkit.relaxations.flows import gumbel_softmax_path
        >>> path, log_x = gumbel_softmax_path(), torch.tensor([[0.2, 0.3, 0.5]]).log()
        >>> knows = lambda log_x, t: path.signal(t)[..., None] * torch.tensor([1.0, 0.0, 0.0]) - log_x  # token 0
        >>> score_denoiser(knows, path)(log_x, torch.tensor(0.5)).softmax(-1)[0, 0]
        tensor(1.)
    """
    check_positive("min_time", min_time)
    if min_time > 1:
        raise ValueError(f"min_time must be at most 1, got {min_time}")

    def denoiser(log_x: Tensor, t: Tensor) -> Tensor:
        t = t.clamp_min(min_time)
        log_score = torch.log_softmax(score_model(log_x, t), dim=-1)
        time = t[..., None, None]
        log_rest = torch.log_softmax(-path.temperature(time) * log_x, dim=-1)
        excess, ratio = torch.expm1(path.signal(time)), (log_score - log_rest).exp()
        share = (1 + excess * log_rest.exp()) * (ratio - ratio.sum(-1, keepdim=True) / (log_x.shape[-1] + excess))
        return (share / excess).clamp_min(0).log()

    return denoiser
