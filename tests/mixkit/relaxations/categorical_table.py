"""One row for every estimator of a categorical choice; the contract tests run over all rows."""

from mixkit.gates.temperatures import LearnableTemperature
from mixkit.relaxations import (
    Enumeration,
    GumbelRao,
    GumbelSoftmax,
    LeaveOneOut,
    Rebar,
    ReinMax,
    StraightThrough,
    StraightThroughGumbelSoftmax,
)

HARD = {
    "straight_through_gumbel_softmax": lambda: StraightThroughGumbelSoftmax(0.5),
    "straight_through": lambda: StraightThrough(),
    "straight_through_tempered": lambda: StraightThrough(LearnableTemperature(1.5)),
    "gumbel_rao": lambda: GumbelRao(0.5, num_samples=3),
    "reinmax": lambda: ReinMax(),
    "reinmax_tempered": lambda: ReinMax(1.3),
}
PATH = {"gumbel_softmax": lambda: GumbelSoftmax(0.5), **HARD}
UNBIASED = {
    "leave_one_out": lambda: LeaveOneOut(),
    "rebar": lambda: Rebar(0.5),
    "rebar_scaled": lambda: Rebar(1.0, scale=0.7),
    "enumeration": lambda: Enumeration(),
}
ALL = {**PATH, **UNBIASED}
