"""Differences of two schedules at common seeds."""

import pytest

from schedsearch.statistics.paired import PairedDifference, paired_difference


def test_common_noise_cancels() -> None:
    theirs = {1: 4.0, 2: 9.0, 3: 2.0}
    found = paired_difference({seed: fid - 0.5 for seed, fid in theirs.items()}, theirs)
    assert found is not None
    assert (found.mean, found.half_width) == (pytest.approx(-0.5), pytest.approx(0.0, abs=1e-9))
    assert (found.num_seeds, found.verdict) == (3, "better")


def test_seeds_that_one_side_lacks_are_left_out() -> None:
    found = paired_difference({1: 1.0, 2: 2.0, 7: 99.0}, {2: 1.0, 1: 2.0, 8: 0.0})
    assert found is not None
    assert (found.mean, found.num_seeds) == (0.0, 2)
    assert found.half_width == pytest.approx(12.706205, rel=1e-6)  # of -1 and 1
    assert paired_difference({1: 1.0, 2: 2.0}, {1: 2.0}) is None
    assert paired_difference({}, {}) is None


@pytest.mark.parametrize(
    ("mean", "half_width", "verdict"),
    [
        (-1.0, 0.9, "better"),
        (-1.0, 1.0, "no difference"),
        (1.0, 1.0, "no difference"),
        (1.0, 0.9, "worse"),
    ],
)
def test_a_verdict_needs_the_whole_interval_on_one_side(
    mean: float, half_width: float, verdict: str
) -> None:
    found = PairedDifference(mean=mean, half_width=half_width, num_seeds=3)
    assert found.verdict == verdict
