"""95 % intervals of a mean."""

import pytest

from schedsearch.statistics.intervals import mean_interval, mean_over_seeds, pooled_half_width


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
