"""Schedules as a solver sees them."""

from typing import Any

import numpy as np
import pytest
from driving import TIMES

from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace
from schedsearch.search.study.known import DistinctSchedules


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
