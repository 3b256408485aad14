"""95 % intervals of a mean."""

import math

import pytest

from schedsearch.statistics.intervals import mean_interval, mean_over_seeds, pooled_half_width

T_4 = 2.7764451052
"""97.5 % of Student's t with four degrees of freedom."""


def test_mean_interval() -> None:
    mean, (low, high) = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    half = T_4 * math.sqrt(2.5 / 5)
    assert (mean, low, high) == pytest.approx((3.0, 3.0 - half, 3.0 + half))
    with pytest.raises(ValueError, match="two values or more, but got 1"):
        mean_interval([1.0])


def test_pooled_half_widths() -> None:
    assert pooled_half_width([(1.0, 1.6), (2.0, 2.8)]) == pytest.approx(0.25)
    assert pooled_half_width([(0.0, 0.5)]) == 0.5  # cut off at zero: counts in full
    with pytest.raises(ValueError, match="one seed or more"):
        pooled_half_width([])


def test_a_mean_over_seeds_pools_the_intervals_that_all_seeds_have() -> None:
    found = mean_over_seeds([1.0, 2.0], [(0.7, 1.3), (1.6, 2.4)])
    assert found is not None
    assert (found.mean, found.over) == (1.5, "images")
    assert found.half_width == pytest.approx(0.25)
    assert found.ci95 == pytest.approx((1.25, 1.75))


@pytest.mark.parametrize("intervals", [[None, None], [(0.7, 1.3), None], []])
def test_else_it_has_students_interval(intervals: list[tuple[float, float] | None]) -> None:
    found = mean_over_seeds([1.0, 2.0], intervals)
    assert found is not None
    assert found.over == "seeds"
    assert (found.mean, found.ci95) == mean_interval([1.0, 2.0])


def test_one_seed_has_no_interval() -> None:
    assert mean_over_seeds([1.0], [(0.7, 1.3)]) is None
    assert mean_over_seeds([], []) is None
