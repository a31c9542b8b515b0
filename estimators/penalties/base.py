"""What a smooth penalty is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mixkit.mixture import MixtureOfExperts
from mixkit.parameters import ParameterRecord, records_of

__all__ = ["Penalty", "PenaltyView", "Sum"]


class PenaltyView(NamedTuple):
    """What a penalty sees of a model and one data set.

    Attributes:
        parameters: of the model by name, in the units of the data.
        model: gives the form; its own parameters are of no account.
        x: covariates ``(n, d)``, without an offset; of groups of rows that share an expert their first rows.
        weight: weights of the observations, or of the groups, ``(n,)``.
        x_std: standard deviations of the covariates ``(d,)``, 1 for constants.
        y_std: standard deviation of the response, ``()``, or of each coordinate ``(p,)``.
        known_records: see ``records``; None to collect them anew.
    """

    parameters: dict[str, Tensor]
    model: MixtureOfExperts
    x: Tensor
    weight: Tensor
    x_std: Tensor
    y_std: Tensor
    known_records: Mapping[str, ParameterRecord] | None = None

    @property
    def records(self) -> Mapping[str, ParameterRecord]:
        """What the parameters are, by name."""
        if self.known_records is not None:
            return self.known_records
        return {record.name: record for record in records_of(self.model)}


class Penalty(ABC):
    """A function of the parameters that a fit subtracts from the total log-likelihood; penalties add up with ``+``.

    To add one, subclass this with :meth:`value`, differentiable twice by autograd.

    Attributes:
        is_quadratic: whether the value is a polynomial of degree two in the parameters (logarithms of scales among
            them), so that derivatives at one point tell all.
        is_smooth: whether the value has two derivatives.
        is_in_data_units: whether the value changes with the covariates' origin or units.
    """

    is_quadratic: bool = False
    is_smooth: bool = True
    is_in_data_units: bool = False

    @abstractmethod
    def value(self, view: PenaltyView) -> Tensor:
        """The penalty, a scalar; +inf or NaN where parameters are not allowed."""

    def determines(self, record: ParameterRecord) -> bool:
        """Whether it holds every entry of a parameter where the data say nothing of it; of slopes searches ask that.

        Coefficients of columns that depend on others are fixed at zero unless a penalty holds them.
        """
        return False

    def __add__(self, other: "Penalty") -> "Penalty":
        """The sum of two penalties."""
        if not isinstance(other, Penalty):
            return NotImplemented
        return Sum(self, other)


class Sum(Penalty):
    """Several penalties as one."""

    def __init__(self, *parts: Penalty) -> None:
        self.parts: list[Penalty] = []
        for part in parts:
            self.parts += part.parts if isinstance(part, Sum) else [part]
        self.is_quadratic = all(part.is_quadratic for part in self.parts)
        self.is_smooth = all(part.is_smooth for part in self.parts)
        self.is_in_data_units = any(part.is_in_data_units for part in self.parts)

    def value(self, view: PenaltyView) -> Tensor:
        """The sum of the values."""
        return torch.stack([part.value(view) for part in self.parts]).sum()

    def determines(self, record: ParameterRecord) -> bool:
        """Whether one of the parts does."""
        return any(part.determines(record) for part in self.parts)

    def __repr__(self) -> str:
        """The parts."""
        return " + ".join(repr(part) for part in self.parts)
