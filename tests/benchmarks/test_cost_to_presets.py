"""What a search costs until it is worth the presets: which costs count, and when it got there."""

from __future__ import annotations

import pytest
from driving import entry_of

from benchmarks.cost_to_presets import cost_table
from schedsearch.search.costs import Costs, StageCost

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
LONG = [((1.5, 80.0), 60.0), ((1.8, 70.0), 40.0)]


def rows_of(*fids: float):
    found = [entry_of(2 + n, fid, 60.0) for n, fid in enumerate(fids)]
    entries = [FULL, PRESET, *found]
    return cost_table(entries, [10.0] * len(entries), COSTS, LONG, "protocol").rows


def volume(*points: tuple[float, float]) -> float:
    """By hand: boxes up to (3, 101) of falling FID, as a share of that box."""
    total, limit = 0.0, 3.0
    for fid, ms in sorted(points, key=lambda p: p[1]):
        total += (limit - fid) * (101.0 - ms)
        limit = fid
    return total / (3.0 * 101.0)


def test_the_presets_set_goal_and_price():
    presets, *_ = rows_of(1.1)
    assert presets["hypervolume"] == pytest.approx(volume((1.0, 100.0), (1.5, 80.0), (1.8, 70.0)))
    assert (presets["seconds"], presets["ratio"]) == (100.0, 1.0)


def test_a_milestone_counts_all_that_was_spent_up_to_it():
    _, reached, alone, *_ = rows_of(2.9, 1.1)
    assert reached["what"].endswith("after trial 4")
    assert reached["seconds"] == 3 + 2 + 7 + 4 * 10
    assert reached["ratio"] == pytest.approx(0.52)
    assert reached["hypervolume"] >= volume((1.0, 100.0), (1.5, 80.0), (1.8, 70.0))
    assert alone["what"].endswith("after trial 4")


def test_the_whole_run_counts_its_confirmation():
    *_, before, after = rows_of(2.9, 1.1)
    assert after["seconds"] - before["seconds"] == 20.0
    assert after["hypervolume"] == pytest.approx(volume((1.0, 100.0), (1.1, 60.0)))


def test_a_search_that_never_gets_there_says_so():
    _, reached, alone, *_ = rows_of(2.9)
    assert reached["what"].endswith("never")
    assert reached["hypervolume"] < volume((1.0, 100.0), (1.5, 80.0), (1.8, 70.0))
    assert alone["hypervolume"] < reached["hypervolume"]
