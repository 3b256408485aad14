"""Verdicts over training and evaluation seeds."""

from dataclasses import replace

import numpy as np
import pytest
from driving import confirm_of

from schedsearch.records import ConfirmRecord
from schedsearch.statistics.comparison import Comparison
from schedsearch.statistics.nested import nested_intervals
from schedsearch.statistics.over_training import compare_over_training

TRAINING, SEEDS = (11, 12, 13), (1, 2)
DIFFERENCES = np.array([[-1.0, -1.2], [-0.9, -1.1], [0.3, -0.1]])
OTHERS = np.array([[0.2, 0.3], [0.4, 0.1], [0.1, 0.5]])
NOISE = np.array([[5.0, 9.0], [7.0, 6.0], [8.0, 4.0]])
"""Common to all schedules at a training and an evaluation seed: it cancels."""


def rows(number: int, fids: np.ndarray) -> list[ConfirmRecord]:
    return [
        confirm_of(number, seed, float(fid), training)
        for training, row in zip(TRAINING, fids, strict=True)
        for seed, fid in zip(SEEDS, row, strict=True)
    ]


RECORDS = [
    *rows(0, NOISE),
    *rows(1, NOISE + DIFFERENCES),
    *rows(2, NOISE),
    *rows(3, NOISE + OTHERS),
]


def compared(
    records: list[ConfirmRecord], pairs: tuple[tuple[int, int], ...] = ((0, 1), (2, 3))
) -> list[Comparison]:
    return compare_over_training(pairs, records, training_seeds=TRAINING, seeds=SEEDS)


def test_differences_are_paired_within_both_kinds_of_seeds() -> None:
    first, second = compared(RECORDS[::-1])  # whatever the order of the journal
    expected = nested_intervals([DIFFERENCES, OTHERS])
    for found, interval, pair in zip((first, second), expected, ((0, 1), (2, 3)), strict=True):
        assert (found.preset, found.rival) == pair
        assert found.difference == pytest.approx(interval.mean)
        assert found.half_width == pytest.approx(interval.half_width)
        assert (found.num_seeds, found.num_training_seeds) == (2, 3)
    assert (first.num_better, second.num_better) == (2, 0)
    assert first.sentence == "no difference seen (better at 2 of 3 training seeds)"


def test_the_order_of_the_two_matters() -> None:
    ((found),) = compared(RECORDS, ((1, 0),))
    assert found.difference == pytest.approx(-DIFFERENCES.mean())


def test_a_training_seed_that_lacks_a_cell_is_left_out() -> None:
    first, second = compared(RECORDS[:11] + RECORDS[12:])
    (alone,) = nested_intervals([DIFFERENCES[:2]])  # with other seeds it is a table of its own
    assert (first.num_training_seeds, second.num_training_seeds) == (2, 3)
    assert (first.difference, first.half_width) == pytest.approx((alone.mean, alone.half_width))
    assert (first.verdict, first.num_better) == ("better", 2)
    (other,) = nested_intervals([OTHERS])
    assert second.half_width == pytest.approx(other.half_width)
    lone = [r for r in RECORDS if r.training_seed == 11 or r.number > 1]
    assert [found.preset for found in compared(lone)] == [2]


def test_a_pair_that_was_not_measured_alike_is_left_out() -> None:
    for change in ({"num_samples": 9}, {"num_steps": 1}, {"features": "lenet"}):
        odd = [replace(RECORDS[0], **change), *RECORDS[1:]]  # type: ignore[arg-type]
        assert [found.preset for found in compared(odd)] == [2]
    assert compared([]) == []
    own = [replace(record, training_seed=None) for record in RECORDS]
    assert compared(own) == []


def test_one_training_seed_has_no_interval() -> None:
    assert compare_over_training([(0, 1)], RECORDS, training_seeds=(11,), seeds=SEEDS) == []
