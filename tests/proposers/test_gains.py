"""Gains in hypervolume against the hypervolume itself."""

import numpy as np
import pytest

from schedsearch.pareto import hypervolume
from schedsearch.proposers.gains import chances_on_front, hypervolume_gains

REFERENCE = (1.0, 2.0)


@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_gains_are_differences_of_hypervolumes(count: int) -> None:
    rng = np.random.default_rng(count)
    points = rng.uniform(0, 1.2, (count, 2)) * (1.0, 2.0)
    candidates = rng.uniform(0, 1.3, (80, 2)) * (1.0, 2.0)
    gains = hypervolume_gains(points, candidates, REFERENCE)
    known = [(float(q), float(c)) for q, c in points]
    for (quality, cost), gain in zip(candidates, gains, strict=True):
        more = hypervolume([*known, (float(quality), float(cost))], REFERENCE)
        assert gain == pytest.approx(more - hypervolume(known, REFERENCE), abs=1e-12)


def test_a_known_point_gains_nothing() -> None:
    points = np.array([[0.5, 1.0], [0.2, 1.5]])
    assert hypervolume_gains(points, points, REFERENCE).tolist() == [0.0, 0.0]


def test_a_lucky_cheap_point_keeps_dearer_ones_out() -> None:
    front = np.array([[1.0, 5.0], [0.5, 8.0]])
    candidates = np.array([[0.9, 4.0], [1.0, 5.0], [np.exp(0.2), 6.0], [0.9, 9.0], [0.4, 9.0]])
    chances = chances_on_front(front, candidates, noise=0.1)
    assert chances[:2].tolist() == [1.0, 0.5]  # the cheapest always is; an equal one half the time
    assert chances[2] == pytest.approx(0.0228, abs=1e-4)  # two standard deviations
    assert chances[3] < 1e-6
    assert chances[4] == pytest.approx(1.0, abs=0.02)
