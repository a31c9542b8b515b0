"""Contracts of every temperature, and the value of each."""

import copy
import pickle

import pytest
import torch

from mixkit.gates.temperatures import FixedTemperature, InputTemperature, LearnableTemperature, ScheduledTemperature
from mixkit.schedules import LinearSchedule
from tests.mixkit.gate_table import TEMPERATURES, D, as_function, build, check_derivatives, normal, one_of_batch

every_temperature = pytest.mark.parametrize("make", TEMPERATURES.values(), ids=TEMPERATURES.keys())


@every_temperature
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_positive_in_the_dtype_of_x_and_broadcasting_to_scores(make, dtype):
    value = build(make, dtype=dtype)(normal(5, D, dtype=dtype))
    assert value.dtype == dtype
    assert (value > 0).all()
    assert torch.broadcast_shapes(value.shape, (5, 1)) == (5, 1)


@every_temperature
def test_a_batch_equals_a_loop(make):
    batched, x = build(make, batch_shape=(2,)), normal(2, 5, D)
    values = batched(x).expand(2, 5, 1)
    for i in range(2):
        torch.testing.assert_close(values[i], one_of_batch(make, batched, (i,))(x[i]).expand(5, 1))


@pytest.mark.parametrize("name", ["learnable", "input"])
def test_first_and_second_derivatives(name):
    check_derivatives(*as_function(build(TEMPERATURES[name]), normal(3, D)))


@every_temperature
def test_state_dict_pickle_and_copy_keep_the_value(make):
    temperature, x = build(make), normal(5, D)
    other = build(make, seed=9)
    other.load_state_dict(temperature.state_dict())
    for twin in (other, pickle.loads(pickle.dumps(temperature)), copy.deepcopy(temperature)):
        assert torch.equal(twin(x), temperature(x))
        assert repr(twin) == repr(temperature)


def test_values_at_the_start():
    x = normal(5, D)
    assert FixedTemperature(0.3)(x).item() == 0.3
    torch.testing.assert_close(LearnableTemperature(0.3, dtype=torch.float64)(x).item(), 0.3, rtol=1e-15, atol=0.0)
    start = InputTemperature(D, floor=0.1, initial=0.3, dtype=torch.float64)(x)
    torch.testing.assert_close(start, torch.full((5, 1), 0.3, dtype=torch.float64), rtol=1e-14, atol=0.0)


def test_an_input_temperature_stays_above_its_floor():
    temperature = InputTemperature(1, floor=0.25, dtype=torch.float64)
    with torch.no_grad():
        temperature.weight.fill_(1.0)
    assert temperature(torch.tensor([[-1e4]], dtype=torch.float64)).item() == 0.25
    assert temperature(torch.tensor([[1e4]], dtype=torch.float64)).item() > 9e3


def test_a_scheduled_temperature_resumes_from_its_state():
    schedule, x = LinearSchedule(2.0, 1.0, 10), normal(5, D)
    first, second = (ScheduledTemperature(schedule, dtype=torch.float64) for _ in range(2))
    for step in range(4):
        assert first(x).item() == schedule(step)
        first.step()
    second.load_state_dict(first.state_dict())
    assert second(x).item() == schedule(4)
    first.step(), second.step()
    assert first(x).item() == second(x).item() == schedule(5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FixedTemperature(0.0), "value must be positive and finite, got 0.0"),
        (lambda: FixedTemperature(-1.0), "value must be positive and finite, got -1.0"),
        (lambda: LearnableTemperature(float("nan")), "initial must be positive and finite, got nan"),
        (lambda: InputTemperature(2, floor=0.0), "floor must be positive and finite, got 0.0"),
        (lambda: InputTemperature(2, floor=1.0, initial=0.5), "initial must be above floor=1.0, got 0.5"),
        (lambda: InputTemperature(0), "num_features must be at least 1, got 0"),
    ],
)
def test_bad_settings_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_what_is_not_a_schedule_is_named():
    with pytest.raises(TypeError, match=r"schedule must be a mixkit\.schedules\.Schedule, got float"):
        ScheduledTemperature(0.5)
