"""Gates: covariates to log-weights over experts, -inf for the unselected; start with ``gate.py``."""

from .gate import Gate, Routing, entropy
from .named import (
    LinearScoreOptions,
    ScoreOptions,
    activation_gate,
    constant_gate,
    dense_to_sparse_gate,
    gate_by_name,
    gate_names,
    laplace_gate,
    sigmoid_gate,
    softmax_gate,
    topk_gate,
)

__all__ = [
    "Gate",
    "LinearScoreOptions",
    "Routing",
    "ScoreOptions",
    "activation_gate",
    "constant_gate",
    "dense_to_sparse_gate",
    "entropy",
    "gate_by_name",
    "gate_names",
    "laplace_gate",
    "sigmoid_gate",
    "softmax_gate",
    "topk_gate",
]
