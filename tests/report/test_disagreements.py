"""The sentence on schedules that FID may flatter."""

from dataclasses import replace
from typing import Any

import pytest
from driving import confirm_of, entry_of

from schedsearch.report.disagreements import disagreements
from schedsearch.runs.entry import FrontEntry

SEEDS = (1, 2, 3)


def judged(
    trial: int, fid: float, audit: float | None = 8.0, name: str | None = None, **changes: Any
) -> FrontEntry:
    """A schedule at three held-out seeds with common noise."""
    records = [
        replace(
            confirm_of(trial, seed, fid + seed),
            audit_fid=None if audit is None else audit + seed + 0.01 * seed * trial,
            **changes,
        )
        for seed in SEEDS
    ]
    return replace(entry_of(trial, fid, 10.0, name), confirmed=tuple(records))


FULL = judged(0, 2.0, name="full")


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (judged(1, 2.0, audit=9.0), "auditor: worse than full depth"),
        (judged(1, 1.0, audit=9.0), "auditor: worse than full depth"),
        (judged(1, 2.0, near_copies=0.08), "near copies 8.0%, full depth 5.0%"),
        (judged(1, 9.0, near_copies=0.08), "near copies 8.0%, full depth 5.0%"),
        (judged(1, 2.0, sample_std=0.48), "pixel std 0.480, reference 0.500"),
        (judged(1, 2.0, sample_std=0.52), "pixel std 0.520, reference 0.500"),
    ],
)
def test_a_flattered_schedule_is_named_with_the_reason(other: FrontEntry, reason: str) -> None:
    assert disagreements(FULL, [other]) == [f"FID may flatter trial 1 ({reason})."]


@pytest.mark.parametrize(
    "other",
    [
        judged(1, 2.0),
        judged(1, 3.0, audit=9.0),  # both call it worse
        judged(1, 2.0, audit=7.0),
        judged(1, 2.0, audit=None),
        judged(1, 2.0, near_copies=0.069),
        judged(1, 2.0, near_copies=0.0),
        judged(1, 2.0, near_copies=None, nn_distance=None),
        judged(1, 2.0, sample_std=0.491),
        entry_of(1, 2.0, 10.0),  # no held-out seed
    ],
)
def test_nothing_is_said_where_the_judges_agree(other: FrontEntry) -> None:
    assert disagreements(FULL, [other]) == []
    assert disagreements(None, [other]) == []


def test_a_spread_that_is_full_depths_own_is_no_reason() -> None:
    narrow = judged(0, 2.0, name="full", sample_std=0.45)
    assert disagreements(narrow, [judged(1, 2.0, sample_std=0.45)]) == []
    assert disagreements(narrow, [judged(1, 2.0, sample_std=0.43)]) != []


def test_many_are_named_in_one_short_sentence() -> None:
    others = [judged(n, 2.0, near_copies=0.1) for n in range(1, 6)]
    (line,) = disagreements(FULL, others)
    assert line == (
        "FID may flatter trial 1 (near copies 10.0%, full depth 5.0%), "
        "trial 2 (near copies 10.0%, full depth 5.0%) and 3 more."
    )
    assert len(line.split()) <= 25
    (two,) = disagreements(FULL, others[:2])
    assert ") and trial 2 (" in two
