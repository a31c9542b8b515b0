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


def _block_scores(point: Point, blocks: list[Block], chunk: Chunk) -> list[Tensor]:
    """For each block and expert of it the sum of the scores of a unit's rows if they are its, ``(r, s, k, a D, b)``."""
    scores = []
    for block, terms in zip(blocks, point.terms, strict=True):
        r, s, _, c = terms.log_prob.shape
        first = torch.stack(terms.first, 3) if terms.first else terms.log_prob.new_zeros((r, s, block.k, 0, c))
        own = chunk.pooled(first.unsqueeze(4) * chunk.design[:, None, None, None])  # (r, s, k, a, D, b)
        scores.append(own.flatten(3, 4))
    return scores


def _owned(blocks: list[Block]) -> list[list[tuple[int, int]]]:
    """For each expert its blocks, and which of the block's experts it is: of a product of families all blocks."""
    found: dict[int, list[tuple[int, int]]] = {}
    for number, block in enumerate(blocks):
        for local, expert in enumerate(range(*block.experts.indices(sum(own.k for own in blocks)))):
            found.setdefault(expert, []).append((number, local))
    return [found[expert] for expert in sorted(found)]


def complete_scores(point: Point, blocks: list[Block], chunk: Chunk) -> list[Tensor]:
    """For each expert the entries of the complete data's score that are its, ``(r, s, S_j, b)``.

    Those are the covariates of the unit, in the row of the gate, if it has a free one, and the expert's own scores.
    """
    scores = _block_scores(point, blocks, chunk)
    covariates = chunk.gate_design.unsqueeze(1).expand(*scores[0].shape[:2], -1, -1)
    found = []
    for expert, places in enumerate(_owned(blocks)):
        own = [scores[number][:, :, local] for number, local in places]
        found.append(torch.cat([covariates, *own] if expert < point.num_scores else own, 2))
    return found


def score_places(blocks: list[Block], num_scores: int, width: int) -> Tensor:
    """Where each of the coefficients ``(m D,)`` stands among the entries of :func:`complete_scores`."""
    parts = []
    for expert, places in enumerate(_owned(blocks)):
        if expert < num_scores:
            parts.append(torch.arange(width) + expert * width)
        for number, local in places:
            block = blocks[number]
            start = (num_scores + block.first_row + local * block.num_arguments) * width
            parts.append(torch.arange(block.num_arguments * width) + start)
    return torch.cat(parts).argsort()


def unit_slopes(point: Point, blocks: list[Block], chunk: Chunk) -> Tensor:
    """Gradient of each unit's log-likelihood times its weight in all coefficients, ``(r, s, m, D, b)``."""
    gate = unit_gate_slopes(point, chunk).unsqueeze(3) * chunk.gate_design[:, None, None]
    r = chunk.of_units(point.responsibilities)
    scores = zip(blocks, _block_scores(point, blocks, chunk), strict=True)
    own = [(r[:, :, block.experts].unsqueeze(3) * part).flatten(2, 3) for block, part in scores]
    experts = torch.cat(own, 2).unflatten(2, (-1, chunk.design.shape[1]))
    rows = torch.cat([gate, experts], 2)
    return rows if chunk.unit_weight is None else rows * chunk.unit_weight.unsqueeze(-2)
