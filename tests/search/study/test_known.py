"""Schedules as a solver sees them, and which of them are settled."""

from typing import Any

import numpy as np
import pytest
from driving import TIMES, record_of

from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace
from schedsearch.search.study.known import DistinctSchedules, FinishedTrials

DEEP, SHALLOW = (3,) * 10, (1,) * 10
NOT_IN_9 = [850.0 - 100 * call for call in range(9)]
"""Times of a solver that never calls the network in interval 9."""


@pytest.mark.parametrize("monotone", ["nonincreasing", "free"])
def test_distinct_schedules_are_enumerated_once_each(monotone: Any) -> None:
    space = SearchSpace(8, 10, 10, monotone)
    distinct = DistinctSchedules(space, TIMES)
    found = list(distinct)
    assert all(schedule in space for schedule in found)
    assert len({distinct.key(s) for s in found}) == len(found) == distinct.size()


def test_only_visited_intervals_tell_schedules_apart() -> None:
    distinct = DistinctSchedules(SearchSpace(2, 10, 10, "nonincreasing"), TIMES)
    flat, other = ExitSchedule((8,) * 10), ExitSchedule((10, 10, 10, *(8,) * 7))
    assert distinct.key(flat) == distinct.key(other) == (8, 8, 8)
    assert distinct.key(ExitSchedule((8,) * 9 + (7,))) != distinct.key(flat)


def test_the_last_unknown_schedule_is_found() -> None:
    distinct = DistinctSchedules(SearchSpace(1, 10, 10, "nonincreasing"), (999.0,))
    known = {distinct.key(s) for s in distinct if s.depths[9] != 10}
    picked = distinct.pick_unknown(known, np.random.default_rng(0))
    assert picked.depths == (10,) * 10  # one of 92,378, which chance hardly ever draws
    with pytest.raises(StopIteration):
        distinct.pick_unknown({*known, (10,)}, np.random.default_rng(0))


def test_schedules_with_edges_are_enumerated_with_them() -> None:
    edges = (0.0, 300.0, 900.0, 990.0, 1000.0)
    distinct = DistinctSchedules(SearchSpace(1, 3, 4, edges=edges), (950.0, 995.0, 100.0))
    found = list(distinct)
    assert {schedule.edges for schedule in found} == {edges}
    assert len({distinct.key(s) for s in found}) == len(found) == distinct.size() == 10
    assert distinct.key(ExitSchedule((3, 3, 2, 1), edges)) == (2, 1, 3)
    picked = distinct.pick_unknown(set(), np.random.default_rng(0))
    assert picked.edges == edges


# ---- finished trials --------------------------------------------------------------------------


def finished() -> FinishedTrials:
    return FinishedTrials(DistinctSchedules(SearchSpace(1, 4, 10), NOT_IN_9))


def test_a_failure_counts_until_a_later_attempt_has_a_result() -> None:
    trials = finished()
    trials.add(record_of(0, DEEP, None))
    trials.add(record_of(1, SHALLOW, None))
    assert (trials.num_complete, trials.num_failed) == (0, 2)
    trials.add(record_of(2, DEEP))
    assert (trials.num_complete, trials.num_failed) == (1, 1)
    assert trials.keys() == {DEEP[:9], SHALLOW[:9]}
    assert [record.number for record in trials.records] == [0, 1, 2]


def test_the_first_result_of_what_the_solver_cannot_tell_apart_counts() -> None:
    trials = finished()
    trials.add(record_of(0, DEEP, fid=2.0))
    trials.add(record_of(1, (*DEEP[:9], 1), fid=1.0))
    assert trials.num_complete == 1
    result = trials.result_of(DEEP[:9])
    assert result is not None
    assert result.number == 0
    assert trials.result_of(SHALLOW[:9]) is None
