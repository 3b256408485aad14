"""Dynamic programming against full enumeration, and best schedules that are not taken."""

import numpy as np
import pytest

from schedsearch.planning.dynamic_programming import Plan, optimal_front
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import Monotone, SearchSpace

WEIGHTS = [(1, 1, 1, 1), (3, 2, 1, 2), (2, 0, 1, 1), (0, 2, 0, 4), (0, 0, 3, 0), (0, 0, 0, 0)]
SHAPES: list[Monotone] = ["nonincreasing", "free"]


def table_of(space: SearchSpace, seed: int) -> np.ndarray:
    """Costs that neither fall nor add up to anything pretty."""
    return np.random.default_rng(seed).normal(size=(space.num_intervals, space.num_levels))


def total(costs: np.ndarray, space: SearchSpace, schedule: ExitSchedule) -> float:
    return float(
        sum(row[d - space.min_depth] for row, d in zip(costs, schedule.depths, strict=True))
    )


def blocks(weights: tuple[int, ...], schedule: ExitSchedule) -> int:
    return sum(w * d for w, d in zip(weights, schedule.depths, strict=True))


def enumerated_front(
    costs: np.ndarray, space: SearchSpace, weights: tuple[int, ...]
) -> list[tuple[int, float]]:
    points = sorted((blocks(weights, s), total(costs, space, s)) for s in space.enumerate())
    front: list[tuple[int, float]] = []
    for point in points:
        if not front or point[1] < front[-1][1] - 1e-12:
            front.append(point)
    return front


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_front_is_that_of_full_enumeration(shape: Monotone, weights: tuple[int, ...]) -> None:
    space = SearchSpace(2, 6, 4, shape)
    for seed in range(3):
        costs = table_of(space, seed)
        front = optimal_front(costs, space, weights)
        found = [(planned.blocks, planned.cost) for planned in front]
        np.testing.assert_allclose(found, enumerated_front(costs, space, weights), atol=1e-12)
        for planned in front:
            assert planned.schedule in space
            assert blocks(weights, planned.schedule) == planned.blocks
            assert total(costs, space, planned.schedule) == pytest.approx(planned.cost)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_best_schedules_come_one_after_the_other(
    shape: Monotone, weights: tuple[int, ...]
) -> None:
    """Taking away the best again and again gives all of a range, by rising cost."""
    space = SearchSpace(1, 4, 4, shape)
    costs = table_of(space, 7)
    low, high = 0.8 * sum(weights) * 2, 1.4 * sum(weights) * 2
    visited = [i for i, weight in enumerate(weights) if weight]
    expected: dict[tuple[int, ...], float] = {}  # visited depths -> cost of the best with them
    for schedule in space.enumerate():
        if low <= blocks(weights, schedule) <= high:
            key = tuple(schedule.depths[i] for i in visited)
            cost = total(costs, space, schedule)
            expected[key] = min(cost, expected.get(key, np.inf))
    plan = Plan(costs, space, weights)
    taken: list[ExitSchedule] = []
    while (best := plan.best_between(low, high, set(map(plan.key, taken)))) is not None:
        assert best in space
        taken.append(best)
        assert len(taken) <= len(expected)
    assert [total(costs, space, s) for s in taken] == pytest.approx(sorted(expected.values()))
    assert {tuple(s.depths[i] for i in visited) for s in taken} == set(expected)


def test_an_unvisited_interval_makes_no_second_schedule() -> None:
    space = SearchSpace(1, 3, 2)
    costs = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    plan = Plan(costs, space, (1, 0))
    one = plan.best_between(3, 3, ())
    assert one is not None
    assert one.depths[0] == 3
    assert {plan.key(ExitSchedule((3, depth))) for depth in (1, 2, 3)} == {(3,)}
    assert plan.best_between(3, 3, {(3,)}) is None


def test_many_unvisited_intervals_cost_no_time() -> None:
    """Three calls of the network in a large space: the rest has millions of fillings."""
    space = SearchSpace(1, 28, 10)
    weights = [0, 0, 0, 1, 0, 0, 1, 0, 0, 1]
    costs = table_of(space, 0) * np.array(weights)[:, None]
    plan = Plan(costs, space, weights)
    taken: set[tuple[int, ...]] = set()
    for _ in range(60):
        best = plan.best_between(40, 44, taken)
        assert best is not None
        taken.add((best.depths[3], best.depths[6], best.depths[9]))
    assert len(taken) == 60


@pytest.mark.parametrize(("low", "high"), [(50, 60), (-9, -1), (7, 6), (0, 3.9)])
def test_an_empty_range_has_no_best(low: float, high: float) -> None:
    space = SearchSpace(1, 6, 4)
    assert Plan(table_of(space, 0), space, (1, 1, 1, 1)).best_between(low, high, ()) is None


def test_hardly_used_block_counts_are_reached() -> None:
    """With weights 3 and 5 not every count exists."""
    space = SearchSpace(1, 3, 2)
    plan = Plan(table_of(space, 0), space, (3, 5))
    exists = {blocks((3, 5), s) for s in space.enumerate()}
    for count in range(8, 25):
        found = plan.best_between(count, count, ())
        assert (found is not None) == (count in exists)


def test_the_large_space_is_solved_exactly_where_the_answer_is_known() -> None:
    """One block more saves less the deeper an interval is: the greedy front is optimal."""
    space = SearchSpace(1, 28, 10, "free")
    gains = np.sort(np.random.default_rng(0).random((10, 27)))[:, ::-1]  # falling along depth
    costs = np.column_stack([np.zeros(10), -np.cumsum(gains, axis=1)])
    front = optimal_front(costs, space, [5] * 10)
    order = np.sort(gains.ravel())[::-1]
    assert [p.blocks for p in front] == [50 + 5 * k for k in range(271)]
    np.testing.assert_allclose([p.cost for p in front], -np.cumsum([0.0, *order]))


@pytest.mark.parametrize(
    ("shape", "weights"), [((4, 3), (1, 1, 1)), ((3, 3), (1, 1)), ((3, 3), (1, -1, 1))]
)
def test_a_table_of_another_space_is_a_mistake(
    shape: tuple[int, int], weights: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"cost table of this space|integers >= 0"):
        optimal_front(np.zeros(shape), SearchSpace(1, 3, 3), weights)


def test_a_table_with_holes_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="finite numbers"):
        optimal_front(np.full((3, 3), np.nan), SearchSpace(1, 3, 3), (1, 1, 1))
