"""Temperatures: what divides the scores of a gate."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from .._validation import check_integer, check_last_dim, check_positive
from ..numerics.buffers import KeepsFloat32
from ..numerics.precision import check_divisor
from ..parameters import Axis, Computation, Exp, ParameterRecord, Place
from ..schedules import Schedule

__all__ = ["FixedTemperature", "InputTemperature", "LearnableTemperature", "ScheduledTemperature", "Temperature"]


class Temperature(Computation, nn.Module, ABC):
    """Maps covariates ``x (*batch, n, d)`` to positive temperatures that broadcast to ``(*batch, n, 1)``.

    Attributes:
        depends_on_x: whether the temperature may differ between rows of x; if not, its shape is ``()`` or
            ``(*batch, 1, 1)``, whatever x.
        is_vectorized: whether it treats rows of x alone and takes parameters with leading batch dimensions.
        scale_name: the parameter that is the logarithm of a number which multiplies every temperature; None if there is
            none.
        depends_on_position: whether it depends on the place of a row among the others.

    The first three are statements about the computation, which a subclass that overrides ``forward`` or ``divide`` does
    not inherit.
    """

    computed_by = ("forward", "divide")
    statements = ("depends_on_x", "is_vectorized", "scale_name")
    depends_on_x: bool = True
    depends_on_position: bool = False
    is_vectorized: bool = False
    scale_name: str | None = None

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """The temperature at every row of ``x``."""

    def divide(self, scores: Tensor, x: Tensor) -> Tensor:
        """Scores ``(*batch, n, k)`` over the temperature; a score of -inf stays and has no part in the gradient."""
        possible = scores > -torch.inf
        return torch.where(possible, torch.where(possible, scores, 0.0) / self(x), -torch.inf)


class FixedTemperature(Temperature):
    """One temperature for all x, a setting and not a parameter.

    Args:
        value: the temperature, positive.

    Raises:
        ValueError: if ``value`` is not positive and finite.

    Example:
        >>> import torch
        >>> FixedTemperature(0.5)(torch.ones(4, 2))
        tensor(0.5000)
    """

    depends_on_x = False
    is_vectorized = True

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.value = float(check_positive("value", value))

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of no dimension."""
        return x.new_full((), self.value)

    def divide(self, scores: Tensor, x: Tensor) -> Tensor:
        """Scores over the temperature."""
        return scores if self.value == 1.0 else scores / check_divisor("the temperature", self.value, scores.dtype)

    def extra_repr(self) -> str:
        """The value shown by ``repr``."""
        return f"{self.value:g}"


class LearnableTemperature(Temperature):
    r"""One temperature :math:`\tau = e^{\theta}` per model, learned through its logarithm.

    The temperature of the dense-to-sparse gate of Nguyen, Akbarian and Ho (2024), arXiv 2401.13875. Beside a linear
    score only :math:`\beta / \tau` is identified: learn the two together to study that, fix one of them to fit.

    Args:
        initial: the temperature at the start, positive.
        batch_shape: leading dimensions of independent models.
        dtype: dtype of the parameter.
        device: device of the parameter.

    Attributes:
        log_temperature: :math:`\theta`, ``(*batch,)``.

    Raises:
        ValueError: if ``initial`` is not positive and finite.

    Example:
        >>> import torch
        >>> LearnableTemperature(0.5, batch_shape=(3,))(torch.ones(4, 2)).shape
        torch.Size([3, 1, 1])
    """

    depends_on_x = False
    is_vectorized = True
    scale_name = "log_temperature"

    def __init__(
        self,
        initial: float = 1.0,
        *,
        batch_shape: tuple[int, ...] = (),
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        log_initial = math.log(float(check_positive("initial", initial)))
        self.log_temperature = nn.Parameter(torch.full(batch_shape, log_initial, dtype=dtype, device=device))

    def parameter_records(self) -> tuple[ParameterRecord, ...]:
        """The logarithm of the temperature."""
        return (ParameterRecord("log_temperature", "temperature", transform=Exp(), place=Place.GATE),)

    def forward(self, x: Tensor) -> Tensor:
        """Temperatures ``(*batch, 1, 1)``."""
        return self.log_temperature.exp()[..., None, None]

    def extra_repr(self) -> str:
        """The batch shape shown by ``repr``."""
        return f"batch_shape={tuple(self.log_temperature.shape)}"


class ScheduledTemperature(KeepsFloat32, Temperature):
    """A temperature that follows a schedule, one value per call of ``step``.

    Both the number of steps taken and the temperature reached are buffers, so ``state_dict`` resumes the schedule and
    a compiled model need not be compiled anew at each step.

    Args:
        schedule: the temperature as a function of the step.
        dtype: dtype in which the temperature is held.
        device: device on which it is held.

    Attributes:
        step_count: steps taken so far, an integer tensor of no dimension.
        value: the temperature now, a tensor of no dimension.

    Raises:
        TypeError: if ``schedule`` is not a :class:`~mixkit.schedules.Schedule`.

    Example:
        >>> import torch
        >>> from mixkit.schedules import LinearSchedule
        >>> temperature = ScheduledTemperature(LinearSchedule(start=2.0, end=1.0, num_steps=4))
        >>> temperature.step()
        >>> temperature(torch.ones(4, 2))
        tensor(1.7500)
    """

    step_count: Tensor
    value: Tensor

    depends_on_x = False
    is_vectorized = True
    float32_buffers = ("value",)

    def __init__(
        self, schedule: Schedule, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None
    ) -> None:
        super().__init__()
        if not isinstance(schedule, Schedule):
            raise TypeError(f"schedule must be a mixkit.schedules.Schedule, got {type(schedule).__name__}")
        self.schedule = schedule
        self.register_buffer("step_count", torch.tensor(0, device=device))
        self.register_buffer(
            "value", torch.tensor(schedule(0), dtype=dtype or torch.get_default_dtype(), device=device)
        )

    @torch.no_grad()
    def step(self) -> None:
        """Move to the next value of the schedule."""
        self.step_count += 1
        self.value.fill_(self.schedule(int(self.step_count)))

    def forward(self, x: Tensor) -> Tensor:
        """A tensor of no dimension."""
        return self.value

    def divide(self, scores: Tensor, x: Tensor) -> Tensor:
        """Scores over the temperature."""
        return scores / self.value

    def extra_repr(self) -> str:
        """The schedule shown by ``repr``."""
        return repr(self.schedule)


class InputTemperature(Temperature):
    r"""A temperature that depends on the input, :math:`\tau(x) = \tau_0 + \text{softplus}(w^\top x + c)`.

    Args:
        num_features: number of covariates ``d``.
        floor: :math:`\tau_0`, below which the temperature cannot fall; positive.
        initial: the temperature at the start, the same for all x; above ``floor``.
        batch_shape: leading dimensions of independent models.
        dtype: dtype of the parameters.
        device: device of the parameters.

    Attributes:
        weight: :math:`w`, ``(*batch, d)``, zero at the start.
        bias: :math:`c`, ``(*batch,)``.

    Raises:
        ValueError: if ``floor`` is not positive or ``initial`` is not above it.

    Example:
        >>> import torch
        >>> InputTemperature(2, initial=0.5)(torch.ones(2, 2)).detach()
        tensor([[0.5000],
                [0.5000]])
    """

    def __init__(
        self,
        num_features: int,
        *,
        floor: float = 0.01,
        initial: float = 1.0,
        batch_shape: tuple[int, ...] = (),
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.num_features = check_integer("num_features", num_features, low=1)
        self.floor = float(check_positive("floor", floor))
        if not self.floor < float(check_positive("initial", initial)):
            raise ValueError(f"initial must be above floor={floor}, got {initial}")
        rise = initial - self.floor
        start = rise + math.log(-math.expm1(-rise))  # the inverse of softplus
        self.weight = nn.Parameter(torch.zeros(*batch_shape, self.num_features, dtype=dtype, device=device))
        self.bias = nn.Parameter(torch.full(batch_shape, start, dtype=dtype, device=device))

    is_vectorized = True

    def parameter_records(self) -> tuple[ParameterRecord, ...]:
        """The coefficients inside the softplus."""
        weight = ParameterRecord("weight", "temperature_weight", (Axis.COVARIATE,), place=Place.GATE)
        return weight, ParameterRecord("bias", "temperature_bias", place=Place.GATE)

    def forward(self, x: Tensor) -> Tensor:
        """Temperatures ``(*batch, n, 1)``."""
        check_last_dim("x", x, self.num_features, "covariates")
        linear = x @ self.weight.unsqueeze(-1) + self.bias[..., None, None]
        return self.floor + nn.functional.softplus(linear)

    def extra_repr(self) -> str:
        """The settings shown by ``repr``."""
        return f"num_features={self.num_features}, floor={self.floor:g}"
