"""Exit schedules on the clock [0, 1000]."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from schedsearch.diffusion.solvers.times import flow_times
from schedsearch.schedules.exit_schedule import ExitSchedule

TEN = ExitSchedule((28, 28, 24, 24, 20, 20, 16, 16, 12, 12))


@pytest.mark.parametrize(
    ("t", "interval"),
    [
        (0, 0),
        (-1e-3, 0),
        (-1e-9, 0),
        (99, 0),
        (99.999, 0),
        (100, 1),
        (899.9, 8),
        (900, 9),
        (999, 9),
        (1000, 9),
        (1000.001, 9),
    ],
)
def test_ends_and_edges_of_the_clock(t: float, interval: int) -> None:
    assert TEN.interval_of(t) == interval
    assert TEN.depths_at(torch.tensor([t], dtype=torch.float64)).item() == TEN.depths[interval]


@pytest.mark.parametrize("t", [-0.0011, -1.0, 1000.0011, 1e9, float("nan"), float("inf")])
def test_times_outside_the_clock_are_refused(t: float) -> None:
    with pytest.raises(ValueError, match=r"\[0, 1000\]"):
        TEN.depth_at(t)
    with pytest.raises(ValueError, match=r"\[0, 1000\]"):
        TEN.depths_at(torch.tensor([5.0, t], dtype=torch.float64))


def test_numbers_of_numpy_are_depths_and_edges() -> None:
    edges = (0, np.float32(250), np.int64(1000))
    schedule = ExitSchedule(np.array([4, 2], np.uint8), edges)  # type: ignore[arg-type]
    assert schedule == ExitSchedule((4, 2), (0.0, 250.0, 1000.0))
    assert {type(depth) for depth in schedule.depths} == {int}
    assert schedule.depths_at([5.0, 900.0]).tolist() == [4, 2]  # type: ignore[arg-type]


@pytest.mark.parametrize("depths", [3, None, "33", (3.0,), (np.float64(3),), (np.bool_(True),)])
def test_what_is_no_list_of_depths(depths: object) -> None:
    with pytest.raises(ValueError, match=r"are a sequence|is an integer >= 0"):
        ExitSchedule(depths)  # type: ignore[arg-type]


@pytest.mark.parametrize("t", ["5", None, 1j, torch.tensor([5.0, 6.0])])
def test_what_is_no_time(t: object) -> None:
    with pytest.raises(ValueError, match="A time is one number"):
        TEN.depth_at(t)  # type: ignore[arg-type]


def test_batch_equals_single_times_for_every_integer_time() -> None:
    times = torch.arange(1000)
    for schedule in (TEN, ExitSchedule((3, 1, 2)), ExitSchedule((4,)), ExitSchedule.flat(5, 7)):
        depths = schedule.depths_at(times)
        assert depths.dtype == torch.int64
        assert depths.tolist() == [schedule.depth_at(t) for t in range(1000)]


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=40),
    st.lists(st.floats(0, 1000, width=32), min_size=1, max_size=20),
)
def test_batch_equals_single_times(depths: list[int], times: list[float]) -> None:
    schedule = ExitSchedule(tuple(depths))
    batch = torch.tensor(times, dtype=torch.float32)
    assert schedule.depths_at(batch).tolist() == [schedule.depth_at(t) for t in times]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shift", [1.0, 1.5, 3.0])
@pytest.mark.parametrize("num_steps", [3, 6, 28, 50])
def test_rounding_moves_no_step_at_an_edge(
    num_steps: int, shift: float, dtype: torch.dtype
) -> None:
    sigmas = torch.arange(num_steps, 0, -1, dtype=dtype) / num_steps
    times = 1000 * (shift * sigmas / (1 + (shift - 1) * sigmas))
    top = Fraction(str(shift))
    exact = [top * k / (num_steps + (top - 1) * k) for k in range(num_steps, 0, -1)]
    expected = [min(9, math.floor(10 * share)) for share in exact]
    assert [TEN.interval_of(float(t)) for t in times] == expected
    assert TEN.depths_at(times).tolist() == [TEN.depths[i] for i in expected]
    ours = [t for t in flow_times(num_steps, shift) if t > 0]
    assert [TEN.interval_of(t) for t in ours] == expected


def test_intervals_are_equal_tenths() -> None:
    counts = torch.bincount(ExitSchedule(tuple(range(10))).depths_at(torch.arange(1000)))
    assert counts.tolist() == [100] * 10


@pytest.mark.parametrize("num", [3, 10, 30, 60, 999])
def test_a_timestep_on_an_edge_opens_the_next_interval(num: int) -> None:
    schedule = ExitSchedule(tuple(range(num)))
    exact = [t * num // 1000 for t in range(1000)]
    assert [schedule.interval_of(t) for t in range(1000)] == exact
    assert schedule.depths_at(torch.arange(1000)).tolist() == exact


@pytest.mark.parametrize("depths", [(), (1, -1), (1, True), (1.0,), ("1",)])
def test_depths_must_be_integers(depths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="exit"):
        ExitSchedule(depths)


def test_small_properties() -> None:
    assert TEN.num_intervals == 10
    assert TEN.is_nonincreasing
    assert not ExitSchedule((1, 2)).is_nonincreasing
    assert TEN.visited([950.0, 10.0]) == (12, 28)
    assert str(ExitSchedule((3, 2))) == "3 2"
    assert ExitSchedule([3, 2]) == ExitSchedule((3, 2))  # type: ignore[arg-type]
    assert len({TEN, ExitSchedule(TEN.depths)}) == 1
