"""Schedules: values at both ends and between, at steps far beyond the end, and what they refuse."""

import itertools
import math
import pickle

import pytest

from mixkit.schedules import ConstantSchedule, CosineSchedule, GeometricSchedule, LinearSchedule

SCHEDULES = {
    "constant": ConstantSchedule(0.7),
    "fall": GeometricSchedule(2.0, 0.1, 0.9),
    "grow": GeometricSchedule(0.1, 2.0, 1.1),
    "still": GeometricSchedule(0.7, 0.7, 0.9),
    "linear": LinearSchedule(2.0, 0.1, 30),
    "cosine": CosineSchedule(0.1, 2.0, 30),
}
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())


@every_schedule
def test_from_start_to_end_without_turning_back(schedule):
    start, end = (getattr(schedule, name, 0.7) for name in ("start", "end"))
    values = [schedule(step) for step in range(200)]
    assert values[0] == start
    assert values[-1] == schedule(10**9) == end
    rising = [b - a for a, b in itertools.pairwise(values)]
    assert all(r * math.copysign(1.0, end - start) >= 0 for r in rising) or start == end
    assert min(values) >= min(start, end)
    assert max(values) <= max(start, end)


def test_formulas_between_the_ends():
    assert GeometricSchedule(2.0, 0.1, 0.9)(7) == 2.0 * 0.9**7
    assert LinearSchedule(2.0, 1.0, 10)(3) == pytest.approx(1.7, rel=1e-15)
    assert CosineSchedule(2.0, 1.0, 10)(3) == pytest.approx(1.5 + 0.5 * math.cos(0.3 * math.pi), rel=1e-15)


@every_schedule
def test_a_schedule_is_a_value(schedule):
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert eval(repr(schedule)) == schedule


@every_schedule
def test_a_bad_step_is_named(schedule):
    with pytest.raises(ValueError, match="step must be at least 0, got -1"):
        schedule(-1)
    with pytest.raises(TypeError, match=r"step must be an integer, got float 0\.5"):
        schedule(0.5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConstantSchedule(0.0), "value must be positive and finite, got 0.0"),
        (lambda: LinearSchedule(-1.0, 1.0, 5), "start must be positive and finite, got -1.0"),
        (lambda: CosineSchedule(1.0, math.inf, 5), "end must be positive and finite, got inf"),
        (lambda: LinearSchedule(2.0, 1.0, 0), "num_steps must be at least 1, got 0"),
        (lambda: GeometricSchedule(2.0, 1.0, 1.1), "rate must lead from start to end .* got rate=1.1 from 2.0 to 1.0"),
        (lambda: GeometricSchedule(1.0, 2.0, 0.9), "rate must lead from start to end"),
        (lambda: GeometricSchedule(1.0, 2.0, 1.0), "rate must lead from start to end"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
