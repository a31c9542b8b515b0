"""Losses and sums over large choices: labels that share a softmax, rankings, vocabularies in blocks."""

from .blocks import log_sum_exp_in_blocks, softmax_in_blocks
from .decoupled_softmax import decoupled_softmax_loss
from .noisy_softmax import noisy_softmax_logits
from .plackett_luce import plackett_luce_loss

__all__ = [
    "decoupled_softmax_loss",
    "log_sum_exp_in_blocks",
    "noisy_softmax_logits",
    "plackett_luce_loss",
    "softmax_in_blocks",
]
