"""Data larger than memory: EM on streams of rows, and batches of files; start with ``stochastic_em.py``."""

from .result import StreamResult
from .sources import ArrayBatches, ParquetBatches, array_batches, read_batches
from .start import IllDeterminedStartWarning
from .stochastic_em import StochasticEM
from .stream import Stream

__all__ = [
    "ArrayBatches",
    "IllDeterminedStartWarning",
    "ParquetBatches",
    "StochasticEM",
    "Stream",
    "StreamResult",
    "array_batches",
    "read_batches",
]
