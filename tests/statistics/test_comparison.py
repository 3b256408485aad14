"""The paired comparison, in closed form."""

import math
from dataclasses import replace

import pytest
from driving import confirm_of

from schedsearch.statistics.comparison import Comparison, compare_over_seeds

T_4 = 2.7764451052
"""97.5 % of Student's t with four degrees of freedom."""


def test_differences_are_paired_by_seed() -> None:
    common = [9.0, 1.0, 5.0, 3.0, 7.0]  # noise of the seeds: it cancels
    steps = [-1.0, -1.1, -0.9, -1.0, -1.0]
    confirmations = [confirm_of(0, seed, value) for seed, value in enumerate(common, 1)]
    confirmations += [
        confirm_of(1, seed, value + step)
        for (seed, value), step in zip(enumerate(common, 1), steps, strict=True)
    ]
    confirmations += [confirm_of(1, 99, 1000.0)]  # a seed without a partner
    (found,) = compare_over_seeds([(0, 1)], confirmations)
    assert (found.preset, found.rival, found.num_seeds) == (0, 1, 5)
    assert found.difference == pytest.approx(-1.0)
    assert found.half_width == pytest.approx(T_4 * math.sqrt(0.005 / 5))
    assert (found.verdict, found.num_better) == ("better", 5)
    assert found.sentence == "better, sure (5 of 5 seeds)"


def test_seeds_that_were_not_measured_alike_are_left_out() -> None:
    records = [confirm_of(n, seed, 5.0 - n) for n in (0, 1) for seed in (1, 2, 3, 4)]
    for change in ({"num_samples": 9}, {"num_steps": 100}, {"features": "lenet"}):
        records[4] = replace(confirm_of(1, 1, 1000.0), **change)
        (found,) = compare_over_seeds([(0, 1)], records)
        assert (found.difference, found.num_seeds) == (-1.0, 3)
    odd = [replace(r, num_samples=9) if r.number else r for r in records]
    assert compare_over_seeds([(0, 1)], odd) == []


def test_no_verdict_without_two_pairs_or_a_rival() -> None:
    one = [confirm_of(0, 1, 5.0), confirm_of(1, 1, 4.0), confirm_of(0, 2, 5.0)]
    assert compare_over_seeds([(0, 1)], one) == []
    assert compare_over_seeds([], one) == []


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [(-0.6, "better"), (-0.4, "no difference"), (0.4, "no difference"), (0.6, "worse")],
)
def test_verdicts(difference: float, verdict: str) -> None:
    found = Comparison(preset=0, rival=1, difference=difference, half_width=0.5, num_seeds=5)
    assert found.verdict == verdict
