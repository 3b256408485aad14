"""Non-dominated points and hypervolume, against closed forms and brute force."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schedsearch.pareto import Point, hypervolume, hypervolume_in_box, knee, non_dominated

SMALL = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12)


def brute_force(points: list[Point]) -> set[Point]:
    def dominates(p: Point, q: Point) -> bool:
        return p[0] <= q[0] and p[1] <= q[1] and p != q

    return {q for q in points if not any(dominates(p, q) for p in points)}


@settings(derandomize=True, max_examples=300, deadline=None)
@given(SMALL)
def test_front_equals_brute_force(points: list[Point]) -> None:
    front = [points[i] for i in non_dominated(points)]
    assert set(front) == brute_force(points)
    assert len(front) == len(set(front)), "of equal points only one is kept"
    assert front == sorted(front, key=lambda p: p[1])


@settings(derandomize=True, max_examples=300, deadline=None)
@given(SMALL)
def test_hypervolume_counts_the_dominated_cells(points: list[Point]) -> None:
    reference = (7, 8)
    cells = sum(
        any(p[0] <= i and p[1] <= j for p in points)
        for i in range(reference[0])
        for j in range(reference[1])
    )
    assert hypervolume(points, reference) == cells


def test_first_of_equal_points_is_kept() -> None:
    assert non_dominated([(2, 2), (1, 3), (2, 2), (3, 1)]) == [3, 0, 1]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_never_belong(bad: float) -> None:
    assert non_dominated([(bad, 0.0), (0.0, bad), (1.0, 1.0)]) == [2]
    assert hypervolume([(bad, 0.0), (1.0, 1.0)], (2.0, 2.0)) == 1.0


def test_closed_forms() -> None:
    assert hypervolume([], (1, 1)) == 0
    assert hypervolume([(0, 0)], (2, 3)) == 6
    assert hypervolume([(2, 0), (0, 3)], (2, 3)) == 0, "on the reference adds nothing"
    staircase = [(i, 9 - i) for i in range(10)]
    assert hypervolume(staircase, (10, 10)) == 55  # 1 + 2 + ... + 10
    assert hypervolume([*staircase, (9, 9)], (10, 10)) == 55


def test_knee() -> None:
    assert knee([(10, 0), (1, 1), (0, 10)]) == 1
    assert knee([(5.0, 2.0), (4.0, 9.0)]) == 0, "of two the cheapest"
    with pytest.raises(ValueError, match="empty"):
        knee([])


def test_hypervolume_is_a_share_of_the_box() -> None:
    full = (2.0, 100.0)
    assert hypervolume_in_box([full], full) == pytest.approx(2.0 * 0.01 / (3.0 * 1.01))
    ideal = [(1e-9, 1e-9)]
    assert hypervolume_in_box(ideal, full) == pytest.approx(1.0)
    assert hypervolume_in_box([(7.0, 50.0)], full) == 0.0  # beyond 3 x FID
    assert hypervolume_in_box([(1.0, 102.0)], full) == 0.0  # beyond 1.01 x latency


@pytest.mark.parametrize("full", [None, (0.0, 1.0), (1.0, 0.0)])
def test_there_are_no_units_without_full_depth(full: Point | None) -> None:
    assert hypervolume_in_box([(1.0, 1.0)], full) is None
