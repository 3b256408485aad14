"""Edges of the intervals: formula, bisection, and the places that follow them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from schedsearch.schedules.edges import equal_edges, shifted_edges, why_no_edges
from schedsearch.schedules.exit_rules import RandomScheduleExits, ScheduleExits
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace

SHIFT_3 = shifted_edges(10, 3.0)
TEN = tuple(range(10, 0, -1))


def test_shift_three_has_the_edges_of_sd3() -> None:
    assert [round(edge) for edge in SHIFT_3] == [
        0, 250, 429, 562, 667, 750, 818, 875, 923, 964, 1000,
    ]  # fmt: skip


def test_shift_one_is_equal() -> None:
    assert shifted_edges(10, 1.0) == equal_edges(10)
    assert ExitSchedule(TEN, equal_edges(10)) == ExitSchedule(TEN)
    assert ExitSchedule(TEN, equal_edges(10)).edges is None
    assert SearchSpace(1, 10, edges=equal_edges(10)) == SearchSpace(1, 10)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.floats(0.2, 12.0), st.lists(st.floats(0, 1000, width=32), min_size=1, max_size=20))
def test_bisection_agrees_with_the_formula(shift: float, times: list[float]) -> None:
    schedule = ExitSchedule(TEN, shifted_edges(10, shift))
    depths = schedule.depths_at(torch.tensor(times, dtype=torch.float32)).tolist()
    assert depths == [schedule.depth_at(t) for t in times]
    for t in times:
        if min(abs(t - edge) for edge in shifted_edges(10, shift)) > 1e-3:
            u = t / 1000 / (shift - (shift - 1) * t / 1000)  # the time before the shift
            assert schedule.interval_of(t) == min(9, math.floor(10 * u))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num_steps", [10, 20, 30])
def test_a_sampler_of_the_same_shift_visits_every_interval_alike(
    num_steps: int, dtype: torch.dtype
) -> None:
    u = torch.arange(1, num_steps + 1, dtype=dtype) / num_steps
    times = 1000 * (3 * u / (1 + 2 * u))  # the times of SD3's sampler
    schedule = ExitSchedule(TEN, SHIFT_3)
    calls = [schedule.interval_of(float(t)) for t in times[:-1]]
    expected = [i * 10 // num_steps for i in range(1, num_steps)]
    assert calls == expected
    assert schedule.depths_at(times[:-1]).tolist() == [TEN[i] for i in expected]


def test_an_edge_belongs_to_the_interval_above_it() -> None:
    schedule = ExitSchedule((3, 2, 1), (0.0, 250.0, 600.0, 1000.0))
    times = [-1e-3, 0, 249.999, 250, 599.9, 600, 1000, 1000.001]
    assert [schedule.depth_at(t) for t in times] == [3, 3, 3, 2, 2, 1, 1, 1]
    assert schedule.depths_at(torch.tensor(times, dtype=torch.float64)).tolist() == [
        schedule.depth_at(t) for t in times
    ]
    with pytest.raises(ValueError, match=r"\[0, 1000\]"):
        schedule.depths_at(torch.tensor([1001.0]))


@pytest.mark.parametrize(
    ("edges", "reason"),
    [
        ((0.0, 500.0, 1000.0), "3 intervals have 4 edges, got 3"),
        ((1.0, 250.0, 500.0, 1000.0), "from 0 to 1000, got 1 to 1000"),
        ((0.0, 250.0, 500.0, 999.0), "from 0 to 1000"),
        ((0.0, 500.0, 250.0, 1000.0), "rise by at least 1, got 250 after 500"),
        ((0.0, 0.5, 250.0, 1000.0), "rise by at least 1"),
        ((0.0, float("nan"), 250.0, 1000.0), "from 0 to 1000"),
    ],
)
def test_wrong_edges_are_refused(edges: tuple[float, ...], reason: str) -> None:
    assert reason in str(why_no_edges(edges, 3))
    with pytest.raises(ValueError, match=reason):
        ExitSchedule((3, 2, 1), edges)


@pytest.mark.parametrize("edge", ["250", None, True, [250.0]])
def test_edges_are_numbers(edge: object) -> None:
    with pytest.raises(ValueError, match="are numbers"):
        ExitSchedule((2, 1), (0.0, edge, 1000.0))  # type: ignore[arg-type]


def test_every_schedule_of_a_space_has_its_edges() -> None:
    space = SearchSpace(1, 3, 10, edges=SHIFT_3)
    rng = np.random.default_rng(0)
    drawn = space.sample_with_blocks(rng, 15, 25, (1,) * 10)
    decoded = space.decode(space.to_params(space.schedule((2,) * 10)))
    for schedule in (space.sample(rng), drawn, decoded, next(space.enumerate())):
        assert schedule is not None
        assert schedule.edges == SHIFT_3
        assert schedule in space
    reason = space.why_not(ExitSchedule((2,) * 10))
    assert reason is not None
    assert "has the edges equal, the space 0 250" in reason


def test_exit_rules_follow_the_edges() -> None:
    schedule = ExitSchedule(TEN, SHIFT_3)
    t = torch.tensor([100.0, 249.0, 251.0, 963.0, 999.0])
    generator = torch.Generator().manual_seed(0)
    rule = ScheduleExits(schedule)
    assert rule.edges == SHIFT_3
    assert rule(t, generator).tolist() == [10, 10, 9, 2, 1]
    # In a space of one schedule, the random rule has only that one to draw.
    only = RandomScheduleExits(SearchSpace(4, 4, 10, edges=SHIFT_3))
    assert only.edges == SHIFT_3
    assert only(t, generator).tolist() == [4] * 5
    drawn = RandomScheduleExits(SearchSpace(1, 9, 10, edges=SHIFT_3))
    draws = torch.stack([drawn(torch.tensor([10.0, 240.0, 990.0]), generator) for _ in range(400)])
    near, also_near, far = draws.float().mean(0).tolist()
    assert near == pytest.approx(also_near, abs=0.4), "both times lie in interval 0"
    assert near > far + 2
