"""From a log-likelihood and a penalty to what is climbed, and from its end to the selected model."""

from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import Slope, records_of

from ..objectives.multi_location.objective import MultiLinearObjective
from ..objectives.softmax_gate.laplace_experts import LaplaceObjective
from ..objectives.softmax_gate.objective import LinearObjective
from ..optimizers.newton import Ascent
from ..optimizers.objective import Objective
from .base import Penalty, Sum
from .lasso import Lasso
from .objective import PenalizedObjective
from .split import SplitObjective

__all__ = ["holds_slopes", "in_result_coordinates", "penalized", "without_penalty"]


def penalized(objective: Objective, penalty: Penalty | None, model: MixtureOfExperts) -> Objective:
    """The objective with the penalty subtracted: smooth parts first, then the lasso.

    Raises:
        TypeError: if ``penalty`` is none.
        ValueError: for a lasso on a model without linear predictors behind a softmax gate, and for any penalty on
            Laplace experts with linear medians, whose log-likelihood has kinks.
    """
    if penalty is None:
        return objective
    if isinstance(objective, LaplaceObjective):
        raise ValueError("penalty needs experts whose log-density has two derivatives, got LaplaceExperts")
    parts = penalty.parts if isinstance(penalty, Sum) else [penalty]
    lassos = [part for part in parts if isinstance(part, Lasso)]
    smooth = [part for part in parts if not isinstance(part, Lasso)]
    is_linear = isinstance(objective, LinearObjective | MultiLinearObjective)
    if smooth:
        objective = PenalizedObjective(objective, smooth[0] if len(smooth) == 1 else Sum(*smooth), model)
    if not lassos:
        return objective
    if not is_linear:
        raise ValueError(
            "penalty can hold a Lasso only for softmax gates and experts with linear predictors, "
            f"got {type(model.gate.score).__name__} and {type(model.experts).__name__}"
        )
    entries = objective.user_map().entries
    strengths = sum(lasso.strengths(entries, objective.lower) for lasso in lassos)
    return SplitObjective(objective, strengths)  # type: ignore[arg-type]


def holds_slopes(penalty: Penalty | None, model: MixtureOfExperts) -> tuple[bool, bool]:
    """Whether a penalty holds all slopes of the gate, and all of the experts, where the data do not determine them."""
    slopes = [record for record in records_of(model) if record.slope is not None]
    held = [] if not isinstance(penalty, Penalty) else [record for record in slopes if penalty.determines(record)]
    if not held:
        return False, False
    free = {record.slope for record in slopes if record not in held}
    return Slope.GATE not in free, Slope.EXPERTS not in free


def in_result_coordinates(objective: Objective, ascent: Ascent) -> tuple[Objective, Ascent]:
    """The objective and the ends ``(r, 1, P)`` in coordinates that results are read in."""
    if not isinstance(objective, SplitObjective):
        return objective, ascent
    selected, theta = objective.selected(ascent.theta), objective.fold(ascent.theta)
    selected.end_rules = objective.end_rules
    return selected, ascent._replace(theta=theta, evaluation=selected.evaluate(theta))


def without_penalty(objective: Objective) -> Objective:
    """The log-likelihood inside a penalized one; any other objective itself."""
    return objective.base if isinstance(objective, PenalizedObjective) else objective
