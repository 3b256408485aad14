"""Rules that choose one schedule off the front."""

import pytest
from driving import confirm_of, record_of, settings_of

from schedsearch.exceptions import NoResultError
from schedsearch.runs.pick import pick
from schedsearch.runs.results import RunResults
from schedsearch.schedules.hand_made import FULL


def results_of(*points: tuple[float, float], full: bool = True) -> RunResults:
    """Trial i at the i-th point (FID, latency); the first is full depth."""
    records = [
        record_of(i, (10 - i,) * 10, fid, latency, label=FULL if full and i == 0 else None)
        for i, (fid, latency) in enumerate(points)
    ]
    return RunResults(settings_of(), records, None, [confirm_of(0, 1, 2.0)])


RESULTS = results_of((2.0, 100.0), (2.1, 50.0), (5.0, 40.0), (9.0, 30.0), (9.5, 60.0))


@pytest.mark.parametrize(
    ("rule", "trial", "why"),
    [
        ({"knee": True}, 1, "the knee of 4 points"),
        ({"max_latency_ms": 45.0}, 2, "the best FID of 2 points with at most 45 ms"),
        ({"max_latency_ms": 40.0}, 2, "the best FID of 2"),
        ({"max_fid": 5.0}, 2, "the fastest of 3 points with a FID of at most 5"),
        ({"max_fid": 1000.0}, 3, "the fastest of 4"),
        ({"max_fid_increase": 5.0001}, 1, "above full depth's 2.0000"),
        ({"max_fid_increase": 0.0}, 0, "the fastest of 1"),
    ],
)
def test_rules(rule: dict[str, float], trial: int, why: str) -> None:
    entry, reason = pick(RESULTS.require_front(), RESULTS.full(), **rule)  # type: ignore[arg-type]
    assert entry.trial == trial
    assert why in reason


def test_held_out_seeds_decide_where_the_whole_front_has_them() -> None:
    """At the search's seed trial 1 is 5 % above full depth; at the held-out seeds it is 50 %."""
    points = [(2.0, 100.0), (2.1, 50.0)]
    records = [
        record_of(i, (10 - i,) * 10, *point, label=None if i else FULL)
        for i, point in enumerate(points)
    ]
    held_out = [confirm_of(0, 1, 2.0), confirm_of(1, 1, 3.0)]
    results = RunResults(settings_of(), records, None, held_out)
    front, full = results.require_front(), results.full()
    entry, reason = pick(front, full, max_fid_increase=10.0)
    assert entry.trial == 0
    assert "a FID (mean of 1 held-out seed) of at most 2.2000" in reason
    entry, reason = pick(front, full, max_fid_increase=50.1)
    assert entry.trial == 1
    unconfirmed = RunResults(settings_of(), records, None, held_out[:1])
    entry, reason = pick(unconfirmed.require_front(), unconfirmed.full(), max_fid_increase=10.0)
    assert (entry.trial, "a FID of at most" in reason) == (1, True)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"max_latency_ms": 29.0}, r"the fastest is trial 3 with 30\.00 ms"),
        ({"max_fid": 1.9}, r"the best is full with 2\.0000"),
    ],
)
def test_what_no_schedule_meets(rule: dict[str, float], message: str) -> None:
    with pytest.raises(NoResultError, match=message):
        pick(RESULTS.require_front(), RESULTS.full(), **rule)  # type: ignore[arg-type]


def test_an_increase_needs_full_depth() -> None:
    with pytest.raises(NoResultError, match="Add full to warm_start, or use --max-fid"):
        pick(results_of((2.0, 10.0), full=False).require_front(), None, max_fid_increase=5.0)


def test_one_rule_is_needed() -> None:
    with pytest.raises(ValueError, match="exactly one rule"):
        pick(RESULTS.require_front(), RESULTS.full())
