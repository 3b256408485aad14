"""95 % intervals of a mean."""

import math

import pytest

from schedsearch.statistics.intervals import estimate, mean_interval

T_4 = 2.7764451052
"""97.5 % of Student's t with four degrees of freedom."""


def test_mean_interval() -> None:
    mean, (low, high) = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    half = T_4 * math.sqrt(2.5 / 5)
    assert (mean, low, high) == pytest.approx((3.0, 3.0 - half, 3.0 + half))
    with pytest.raises(ValueError, match="two values or more, but got 1"):
        mean_interval([1.0])


def test_an_estimate_is_the_same_interval_with_its_count() -> None:
    found = estimate([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found is not None
    assert (found.mean, found.ci95) == mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (found.half_width, found.num) == (pytest.approx(T_4 * math.sqrt(0.5)), 5)


def test_one_value_has_no_interval() -> None:
    assert estimate([]) is None
    assert estimate([1.0]) is None


def test_equal_values_have_an_interval_of_no_width() -> None:
    found = estimate([2.5, 2.5, 2.5])
    assert found is not None
    assert found.ci95 == (2.5, 2.5)
