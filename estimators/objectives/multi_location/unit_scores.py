"""Scores of units whose rows share an expert, in the coefficients ``(m, D)`` of all linear predictors."""

import torch
from torch import Tensor

from ..softmax_gate.design import Chunk
from .derivatives import Point
from .families import Block

__all__ = ["complete_scores", "score_places", "unit_gate_slopes", "unit_slopes"]


def unit_gate_slopes(point: Point, chunk: Chunk) -> Tensor:
    """Derivatives of each unit's log-likelihood in its free gate scores, ``(r, s, g, b)``."""
    g = point.num_scores
    return chunk.of_units(point.responsibilities[:, :, :g]) - point.weights[:, :, :g]


def _expert_scores(point: Point, blocks: list[Block], chunk: Chunk) -> list[Tensor]:
    """For each expert the sum of the scores of a unit's rows if they are its, ``(r, s, a D, b)``."""
    scores = []
    for block, terms in zip(blocks, point.terms, strict=True):
        r, s, _, c = terms.log_prob.shape
        first = torch.stack(terms.first, 3) if terms.first else terms.log_prob.new_zeros((r, s, block.k, 0, c))
        own = chunk.pooled(first.unsqueeze(4) * chunk.design[:, None, None, None])  # (r, s, k, a, D, b)
        scores += list(own.flatten(3, 4).unbind(2))
    return scores


def complete_scores(point: Point, blocks: list[Block], chunk: Chunk) -> list[Tensor]:
    """For each expert the entries of the complete data's score that are its, ``(r, s, S_j, b)``.

    Those are the covariates of the unit, in the row of the gate, if it has a free one, and the expert's own scores.
    """
    covariates, scores = chunk.gate_design.unsqueeze(1), _expert_scores(point, blocks, chunk)
    shape = scores[0].shape[:2]
    gate = [covariates.expand(*shape, -1, -1)] * point.num_scores
    return [torch.cat([gate[j], own], 2) if j < point.num_scores else own for j, own in enumerate(scores)]


def score_places(blocks: list[Block], num_scores: int, width: int) -> Tensor:
    """Where each of the coefficients ``(m D,)`` stands among the entries of :func:`complete_scores`."""
    parts, expert = [], 0
    for block in blocks:
        for local in range(block.k):
            if expert < num_scores:
                parts.append(torch.arange(width) + expert * width)
            start = (num_scores + block.first_row + local * block.num_arguments) * width
            parts.append(torch.arange(block.num_arguments * width) + start)
            expert += 1
    return torch.cat(parts).argsort()


def unit_slopes(point: Point, blocks: list[Block], chunk: Chunk) -> Tensor:
    """Gradient of each unit's log-likelihood times its weight in all coefficients, ``(r, s, m, D, b)``."""
    gate = unit_gate_slopes(point, chunk).unsqueeze(3) * chunk.gate_design[:, None, None]
    r = chunk.of_units(point.responsibilities)
    own = [r[:, :, j : j + 1] * scores for j, scores in enumerate(_expert_scores(point, blocks, chunk))]
    experts = torch.cat(own, 2).unflatten(2, (-1, chunk.design.shape[1]))
    rows = torch.cat([gate, experts], 2)
    return rows if chunk.unit_weight is None else rows * chunk.unit_weight.unsqueeze(-2)
