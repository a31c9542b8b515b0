"""Temperature and truncation of logits, callable as Hugging Face logits processors."""

from .base import Chain, LogitsFunction, Processor, Truncation
from .cutoff import Epsilon, Eta
from .min_p import MinP
from .per_row import PerRow
from .temperature import Temperature
from .top_k import TopK
from .top_p import TopP
from .typical import Typical

__all__ = [
    "Chain",
    "Epsilon",
    "Eta",
    "LogitsFunction",
    "MinP",
    "PerRow",
    "Processor",
    "Temperature",
    "TopK",
    "TopP",
    "Truncation",
    "Typical",
]
