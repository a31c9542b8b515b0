"""What the parameters of a model are, as records that everything else reads; start with ``record.py``."""

from .coefficient_block import CoefficientBlock
from .collect import free_mask, module_records, num_redundant, records_of, relative_to_reference
from .exchange import alike_experts, distinct_orders, patterned_parts, reorder_experts
from .forms import Computation, has_form
from .pattern import CoefficientPattern
from .patterned import Patterned
from .record import Axis, DefaultPrior, ParameterRecord, Place, Slope, UnitChange
from .transforms import CholeskyFactor, Exp, Identity, ScalePower, Transform

__all__ = [
    "Axis",
    "CholeskyFactor",
    "CoefficientBlock",
    "CoefficientPattern",
    "Computation",
    "DefaultPrior",
    "Exp",
    "Identity",
    "ParameterRecord",
    "Patterned",
    "Place",
    "ScalePower",
    "Slope",
    "Transform",
    "UnitChange",
    "alike_experts",
    "distinct_orders",
    "free_mask",
    "has_form",
    "module_records",
    "num_redundant",
    "patterned_parts",
    "records_of",
    "relative_to_reference",
    "reorder_experts",
]
