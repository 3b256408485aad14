"""Probability of the front."""

from statistics import NormalDist

import pytest

from schedsearch.statistics.membership import ConfirmedSchedule, front_membership

NOISE = (0.0, 0.5, -0.4, 0.2, -0.3)
"""What the common seeds do to all schedules alike."""


def schedule(
    mean: float, latency: float, own: float = 0.0, half: float = 0.0
) -> ConfirmedSchedule:
    signs = (1, -1, 1, -1, 0)
    fids = {s: mean + NOISE[s] + own * signs[s] for s in range(5)}
    return ConfirmedSchedule(fids, latency, half)


def test_common_noise_cancels() -> None:
    """Differences of 0.01 under common noise of 0.5 are certain when every seed has them."""
    found = front_membership({0: schedule(1.0, 10.0), 1: schedule(1.01, 11.0)})
    assert found[0].probability == 1.0
    assert (found[1].probability, found[1].dominated_by) == (0.0, 0)
    assert found[1].dominated_probability == 1.0
    assert found[0].dominated_by is None


def test_own_noise_makes_it_uncertain_as_the_paired_t_says() -> None:
    from scipy.stats import t

    found = front_membership(
        {0: schedule(1.0, 10.0), 1: schedule(1.02, 11.0, own=0.05)}, num=20_000
    )
    standard_error = 0.05 * (4 / 4) ** 0.5 / 5**0.5
    better = float(t.cdf(-0.02 / standard_error, 4))
    assert found[1].probability == pytest.approx(better, abs=0.02)


def test_latency_counts() -> None:
    """The slower one is worse in FID for certain, so it needs to be faster."""
    found = front_membership(
        {0: schedule(1.0, 10.0), 1: schedule(1.5, 11.0, half=1.0)}, num=20_000
    )
    faster = NormalDist().cdf(-1.0 / (1.0 / 1.959964))
    assert found[1].probability == pytest.approx(faster, abs=0.01)


def test_a_trade_off_is_all_front_and_equal_schedules_do_not_dominate_each_other() -> None:
    found = front_membership(
        {3: schedule(1.0, 12.0), 4: schedule(2.0, 10.0), 5: schedule(2.0, 10.0)}
    )
    assert [found[n].probability for n in (3, 4, 5)] == [1.0, 1.0, 1.0]


def test_only_common_seeds_count_and_two_are_needed() -> None:
    one = ConfirmedSchedule({1: 1.0, 2: 1.1}, 10.0)
    assert front_membership({0: one, 1: ConfirmedSchedule({2: 1.0, 3: 1.0}, 9.0)}) == {}
    assert front_membership({}) == {}
    assert front_membership({0: one})[0].probability == 1.0
