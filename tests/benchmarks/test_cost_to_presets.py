"""What a search costs until it is worth the presets: which costs count, and when it got there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from driving import entry_of

from benchmarks.cost_to_presets import Valued, cost_table
from schedsearch.runs.costs import Costs, StageCost

FULL, PRESET = entry_of(0, 1.0, 100.0, "full"), entry_of(1, 2.0, 80.0, "D2-DiT")
COSTS = Costs(
    stages={
        "checks and latency table": StageCost(device_seconds=3.0),
        "profile": StageCost(device_seconds=2.0),
        "trials": StageCost(device_seconds=40.0),
        "failed trials": StageCost(device_seconds=7.0),
        "confirmation": StageCost(device_seconds=20.0),
    }
)
GIVEN = Valued((1.0, 100.0), False, 10.0)
LONG = [Valued((1.5, 80.0), True, 60.0), Valued((1.8, 70.0), True, 40.0)]


def rows_of(*fids: float, first=(FULL, PRESET), fresh=True, confirmed=None):
    """Of a run with trials of 10 s each; ``confirmed`` are fresh means of the searched ones."""
    found = [entry_of(2 + n, fid, 60.0) for n, fid in enumerate(fids)]
    if confirmed is not None:
        pairs = zip(found, confirmed, strict=True)
        found = [replace(entry, fid_confirmed=fid) for entry, fid in pairs]
    entries = [*first, *found]
    seconds = [10.0] * len(entries)
    return cost_table(entries, seconds, COSTS, LONG, GIVEN, "protocol", fresh=fresh).rows


def volume(*points: tuple[float, float]) -> float:
    """By hand: boxes up to (3, 101) of falling FID, as a share of that box."""
    total, limit = 0.0, 3.0
    for fid, ms in sorted(points, key=lambda p: p[1]):
        total += (limit - fid) * (101.0 - ms)
        limit = fid
    return total / (3.0 * 101.0)


GOAL = volume((1.0, 100.0), (1.5, 80.0), (1.8, 70.0))


def test_the_presets_set_the_goal_and_pay_for_their_fine_tunes() -> None:
    presets, *_ = rows_of(1.1)
    assert presets["hypervolume"] == pytest.approx(GOAL)
    assert (presets["seconds"], presets["ratio"]) == (100.0, 1.0)
    assert presets["confirmed"] == "2 of 3"  # full depth was not, here


def test_a_milestone_counts_all_that_was_spent_up_to_it() -> None:
    _, reached, alone, *_ = rows_of(2.9, 1.1)
    assert reached["what"].endswith("after trial 4")
    assert reached["seconds"] == 3 + 2 + 7 + 4 * 10
    assert reached["ratio"] == pytest.approx(52 / 100)
    assert reached["hypervolume"] >= GOAL
    assert alone["what"].endswith("after trial 4")


def test_full_depth_as_it_was_pretrained_is_on_both_fronts() -> None:
    """A shared fine-tune may have made full depth worse than it came."""
    spoilt = replace(FULL, fid_search=5.0)
    _, reached, *_ = rows_of(first=(entry_of(3, 1.1, 60.0), PRESET, spoilt))
    assert reached["what"].endswith("after trial 1")
    assert reached["seconds"] == 3 + 2 + 7 + 10
    assert reached["hypervolume"] == pytest.approx(volume((1.0, 100.0), (1.1, 60.0)))


def test_a_confirmed_fid_replaces_the_one_that_the_search_chose_by() -> None:
    _, flattered, *_ = rows_of(1.1, fresh=False, confirmed=[2.9])
    assert flattered["what"].endswith("after trial 3")
    assert flattered["confirmed"] == "0 of 2"
    _, never, *_, after = rows_of(1.1, confirmed=[2.9])
    assert never["what"].endswith("never")
    assert after["hypervolume"] == pytest.approx(volume((1.0, 100.0), (2.0, 80.0), (2.9, 60.0)))
    assert after["confirmed"] == "1 of 3"


def test_a_raised_rung_does_not_pass_for_the_search_s_own_fid() -> None:
    raised = replace(FULL, fid=0.4)
    presets, *_ = rows_of(1.1, first=(raised, PRESET))
    assert presets["hypervolume"] == pytest.approx(GOAL)


def test_the_whole_run_counts_its_confirmation() -> None:
    *_, before, after = rows_of(2.9, 1.1)
    assert after["seconds"] - before["seconds"] == 20.0
    assert after["hypervolume"] == pytest.approx(volume((1.0, 100.0), (1.1, 60.0)))


def test_a_search_that_never_gets_there_says_so() -> None:
    _, reached, alone, *_ = rows_of(2.9)
    assert reached["what"].endswith("never")
    assert reached["hypervolume"] < GOAL
    assert alone["hypervolume"] < reached["hypervolume"]
