"""The paired comparison, in closed form."""

import math

import pytest
from driving import confirm_of, entry_of

from schedsearch.statistics.comparison import (
    Comparison,
    compare_with_presets,
    contenders_for,
    mean_interval,
    rival_of,
)

T_4 = 2.7764451052
"""97.5 % of Student's t with four degrees of freedom."""


def test_mean_interval() -> None:
    mean, (low, high) = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    half = T_4 * math.sqrt(2.5 / 5)
    assert (mean, low, high) == pytest.approx((3.0, 3.0 - half, 3.0 + half))
    with pytest.raises(ValueError, match="two values or more, but got 1"):
        mean_interval([1.0])


def test_the_rival_is_the_best_that_is_no_slower() -> None:
    preset = entry_of(0, 5.0, 50.0, "D2-DiT")
    searched = [entry_of(1, 3.0, 51.0), entry_of(2, 4.0, 50.0), entry_of(3, 4.5, 20.0)]
    assert rival_of(preset, searched) == searched[1]
    assert rival_of(preset, searched[:1]) is None
    assert rival_of(preset, []) is None


def test_the_runoff_decides_among_the_best_few() -> None:
    preset = entry_of(0, 5.0, 50.0, "D2-DiT")
    searched = [entry_of(number, 3.0 + number / 10, 40.0) for number in (1, 2, 3, 4)]
    assert contenders_for(preset, searched) == searched[:3]
    assert rival_of(preset, searched, {1: 4.0, 2: 3.0, 3: 3.5, 4: 0.0}) == searched[1]
    assert rival_of(preset, searched, {1: 4.0, 3: 3.5}) == searched[2]
    assert rival_of(preset, searched, {3: 3.5}) == searched[0]  # nothing to compare it with


def test_predicted_and_measured_latencies_are_not_mixed() -> None:
    from dataclasses import replace

    preset = entry_of(0, 5.0, 50.0, "D2-DiT")
    predicted = replace(entry_of(1, 3.0, 20.0), latency_source="predicted")
    assert rival_of(preset, [predicted]) is None


def test_a_lucky_measurement_makes_no_slower_schedule_a_rival() -> None:
    from dataclasses import replace

    preset = entry_of(0, 5.0, 50.0, "D2-DiT")
    lucky = replace(entry_of(1, 3.0, 49.0), predicted_latency_ms=60.0)
    faster = entry_of(2, 4.0, 48.0)
    assert rival_of(preset, [lucky, faster]) == faster


def test_differences_are_paired_by_seed() -> None:
    preset, rival = entry_of(0, 5.0, 50.0, "D2-DiT"), entry_of(1, 4.0, 40.0)
    common = [9.0, 1.0, 5.0, 3.0, 7.0]  # noise of the seeds: it cancels
    steps = [-1.0, -1.1, -0.9, -1.0, -1.0]
    confirmations = [confirm_of(0, seed, value) for seed, value in enumerate(common, 1)]
    confirmations += [
        confirm_of(1, seed, value + step)
        for (seed, value), step in zip(enumerate(common, 1), steps, strict=True)
    ]
    confirmations += [confirm_of(1, 99, 1000.0)]  # a seed without a partner
    (found,) = compare_with_presets([preset], [rival], confirmations)
    assert (found.preset, found.rival, found.num_seeds) == (0, 1, 5)
    assert found.difference == pytest.approx(-1.0)
    assert found.half_width == pytest.approx(T_4 * math.sqrt(0.005 / 5))
    assert (found.verdict, found.num_better) == ("better", 5)
    assert found.sentence == "better, sure (5 of 5 seeds)"


def test_seeds_that_were_not_measured_alike_are_left_out() -> None:
    from dataclasses import replace

    preset, rival = entry_of(0, 5.0, 50.0, "D2-DiT"), entry_of(1, 4.0, 40.0)
    records = [confirm_of(n, seed, 5.0 - n) for n in (0, 1) for seed in (1, 2, 3, 4)]
    for change in ({"num_samples": 9}, {"num_steps": 100}, {"features": "lenet"}):
        records[4] = replace(confirm_of(1, 1, 1000.0), **change)
        (found,) = compare_with_presets([preset], [rival], records)
        assert (found.difference, found.num_seeds) == (-1.0, 3)
    odd = [replace(r, num_samples=9) if r.number else r for r in records]
    assert compare_with_presets([preset], [rival], odd) == []


def test_no_verdict_without_two_pairs_or_a_rival() -> None:
    preset, rival = entry_of(0, 5.0, 50.0, "D2-DiT"), entry_of(1, 4.0, 40.0)
    one = [confirm_of(0, 1, 5.0), confirm_of(1, 1, 4.0), confirm_of(0, 2, 5.0)]
    assert compare_with_presets([preset], [rival], one) == []
    assert compare_with_presets([preset], [], one) == []


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [(-0.6, "better"), (-0.4, "no difference"), (0.4, "no difference"), (0.6, "worse")],
)
def test_verdicts(difference: float, verdict: str) -> None:
    found = Comparison(preset=0, rival=1, difference=difference, half_width=0.5, num_seeds=5)
    assert found.verdict == verdict
