"""Kendall's tau and its verdict."""

import math

import numpy as np
import pytest
from scipy.stats import kendalltau

from schedsearch.statistics.rank_agreement import rank_agreement


def test_tau_b_is_that_of_scipy_also_with_ties() -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        x, y = rng.integers(0, 6, 12).astype(float), rng.integers(0, 6, 12).astype(float)
        found = rank_agreement(list(x), list(y))
        assert found is not None
        assert found.tau == pytest.approx(kendalltau(x, y).statistic)


def test_coverage() -> None:
    rng = np.random.default_rng(0)
    for tau in (0.3, 0.9):
        r = math.sin(math.pi * tau / 2)
        covered = 0
        for _ in range(400):
            x = rng.normal(size=12)
            y = r * x + math.sqrt(1 - r * r) * rng.normal(size=12)
            found = rank_agreement(x.tolist(), y.tolist())
            assert found is not None
            covered += found.interval[0] <= tau <= found.interval[1]
        assert covered / 400 > 0.9


@pytest.mark.parametrize(
    ("cheap", "verdict"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8], "agrees"),
        ([3, 4, 1, 2, 7, 8, 5, 6], "agrees roughly"),
        ([8, 7, 6, 5, 4, 3, 2, 1], "disagrees"),
    ],
)
def test_verdicts(cheap: list[float], verdict: str) -> None:
    found = rank_agreement(cheap, [1, 2, 3, 4, 5, 6, 7, 8])
    assert found is not None
    assert found.verdict == verdict
    assert found.lies == (verdict == "disagrees")
    assert f"Kendall tau {found.tau:.2f}" in found.sentence("the search", "the confirmation")


def test_close_values_in_any_order_are_no_lie() -> None:
    """Two groups, each equal within noise: only pairs across them have an order."""
    expensive = [1.00, 1.01, 1.02, 1.03, 5.00, 5.01, 5.02, 5.03]
    cheap = [4.0, 3.0, 2.0, 1.0, 8.0, 7.0, 6.0, 5.0]
    plain = rank_agreement(cheap, expensive)
    aware = rank_agreement(cheap, expensive, noise=0.1)
    assert plain is not None
    assert aware is not None
    assert plain.verdict == "disagrees"
    assert (aware.verdict, aware.num_in_order, aware.num_resolved) == (
        "agrees where it matters",
        16,
        16,
    )


def test_too_few_and_all_equal_say_nothing() -> None:
    assert rank_agreement([1, 2, 3, 4], [1, 2, 3, 4]) is None
    assert rank_agreement([1, 1, 1, 1, 1], [1, 2, 3, 4, 5]) is None


def fieller(tau: float, num: int, centre: float) -> tuple[float, float]:
    """Fieller, Hartley and Pearson (1957), widened by 1 + 1.4 tau^4; z of 95 % typed off."""
    half = 1.959964 * math.sqrt(0.437 * (1 + 1.4 * tau**4) / (num - 4))
    return math.tanh(math.atanh(centre) - half), math.tanh(math.atanh(centre) + half)


def test_the_interval_by_hand() -> None:
    found = rank_agreement([3, 4, 1, 2, 7, 8, 5, 6], [1, 2, 3, 4, 5, 6, 7, 8])
    assert found is not None
    assert found.tau == pytest.approx((20 - 8) / 28)  # 8 of 28 pairs are the wrong way round
    assert found.interval == pytest.approx(fieller(3 / 7, 8, 3 / 7))
    assert (found.num, found.num_in_order, found.num_resolved) == (8, 20, 28)


def test_a_perfect_order_has_a_lower_end() -> None:
    found = rank_agreement([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6])
    assert found is not None
    assert found.tau == found.interval[1] == 1.0
    low, _ = fieller(1.0, 6, 14 / 15)  # half a pair of 15 short of one
    assert found.interval[0] == pytest.approx(low)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="one finite number per schedule"):
        rank_agreement([1.0, math.nan], [1.0, 2.0])
    with pytest.raises(ValueError, match="one finite number per schedule"):
        rank_agreement([1.0], [1.0, 2.0])
