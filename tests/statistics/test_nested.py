"""Differences over training and evaluation seeds."""

import numpy as np
import pytest

from schedsearch.statistics.intervals import mean_interval
from schedsearch.statistics.nested import nested_interval


def test_independent_rows_are_a_t_interval_over_their_means() -> None:
    table = np.array([[1.0, 3.0], [2.0, 4.0], [6.0, 8.0]])
    mean, (low, high) = mean_interval([2.0, 3.0, 7.0])
    found = nested_interval(table, crossed=False)
    assert found.mean == pytest.approx(mean)
    assert found.interval == pytest.approx((low, high))


def test_a_column_effect_is_noise_too() -> None:
    """Equal rows: no fine-tune differs, but the five evaluation seeds do."""
    row = [0.0, 1.0, 2.0, 3.0, 4.0]
    found = nested_interval([row] * 3)
    _, (low, high) = mean_interval(row)
    assert found.interval == pytest.approx((low, high))
    assert nested_interval([row] * 3, crossed=False).half_width == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("train", "shared", "rest"), [(1.0, 0.0, 1.0), (0.3, 1.0, 0.5), (0, 0, 1), (1.0, 1.0, 0.1)]
)
def test_coverage_of_three_by_five(train: float, shared: float, rest: float) -> None:
    """What 95 % promises, and not bought by width: no table of 1,000 gives an endless interval."""
    rng = np.random.default_rng(0)
    repeats, covered, naive, halves = 1000, 0, 0, []
    for _ in range(repeats):
        table = train * rng.normal(size=(3, 1)) + shared * rng.normal(size=(1, 5))
        table = table + rest * rng.normal(size=(3, 5))
        found = nested_interval(table)
        covered += abs(found.mean) <= found.half_width
        halves.append(found.half_width)
        low, high = mean_interval(table.ravel().tolist())[1]
        naive += low <= 0 <= high
    assert 0.93 < covered / repeats < 0.985
    # t of two degrees of freedom times the spread of the mean, and of the largest of 1,000.
    spread = 4.302653 * (train**2 / 3 + shared**2 / 5 + rest**2 / 15) ** 0.5
    assert np.median(halves) < 1.25 * spread
    assert max(halves) < 4 * spread
    if train or shared:
        assert naive / repeats < 0.9  # what it is there to prevent


def test_an_estimate_near_zero_keeps_the_degrees_of_its_smaller_side() -> None:
    """Satterthwaite's formula gives 0.02 degrees of freedom here, and t of 1e33."""
    rng = np.random.default_rng(0)
    halves = [nested_interval(rng.normal(size=(3, 5))).half_width for _ in range(5000)]
    assert max(halves) < 5  # times the spread of one cell


def test_verdicts() -> None:
    assert nested_interval([[-1.0, -1.1], [-1.0, -0.9]]).verdict == "better"
    assert nested_interval([[1.0, 1.1], [1.0, 0.9]]).verdict == "worse"
    assert nested_interval([[1.0, 1.0], [-1.0, -1.0]]).verdict == "no difference"


@pytest.mark.parametrize("table", [[[1.0, 2.0]], [1.0, 2.0], [[1.0], [float("nan")]]])
def test_what_is_refused(table: list[object]) -> None:
    with pytest.raises(ValueError, match="T >= 2"):
        nested_interval(table)
