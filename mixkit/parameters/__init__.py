"""What the parameters of a model are, as records that everything else reads; start with ``record.py``."""

from .collect import free_mask, module_records, num_redundant, records_of
from .forms import Computation, has_form
from .record import Axis, DefaultPrior, ParameterRecord, Place, Slope, UnitChange
from .transforms import CholeskyFactor, Exp, Identity, ScalePower, Transform

__all__ = [
    "Axis",
    "CholeskyFactor",
    "Computation",
    "DefaultPrior",
    "Exp",
    "Identity",
    "ParameterRecord",
    "Place",
    "ScalePower",
    "Slope",
    "Transform",
    "UnitChange",
    "free_mask",
    "has_form",
    "module_records",
    "num_redundant",
    "records_of",
]
