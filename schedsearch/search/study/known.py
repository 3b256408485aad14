"""Which schedules a solver can tell apart, and which of them are known."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence, Set
from dataclasses import replace
from typing import TYPE_CHECKING

from schedsearch.records import TrialRecord
from schedsearch.schedules.exit_schedule import ExitSchedule

if TYPE_CHECKING:
    import numpy as np

    from schedsearch.schedules.space import SearchSpace

Key = tuple[int, ...]
"""The depths that the solver visits: equal keys give equal samples and latency."""

_DRAWS = 1000


class DistinctSchedules:
    """A space as a solver sees it; schedules that run alike are one.

    Args:
        space: The space of schedules.
        times: Times of the solver's network calls, noise -> data.
    """

    def __init__(self, space: SearchSpace, times: Sequence[float]) -> None:
        self._space = space
        self._times = tuple(times)
        probe = space.schedule(range(space.num_intervals))
        self._intervals = probe.visited(self._times)
        self._visited = sorted(set(self._intervals))
        """Intervals in which the solver calls the network, data -> noise."""
        self._visible = replace(space, num_intervals=len(self._visited), edges=None)

    def key(self, schedule: ExitSchedule) -> Key:
        """What tells a schedule from others."""
        if schedule.edges != self._space.edges:
            return schedule.visited(self._times)
        return tuple(schedule.depths[interval] for interval in self._intervals)

    def size(self) -> int:
        """Number of schedules that the solver can tell apart."""
        return self._visible.size()

    def __iter__(self) -> Iterator[ExitSchedule]:
        """One schedule for each that the solver can tell apart."""
        last = len(self._visited) - 1
        for visible in self._visible.enumerate():
            # An interval between two visited ones takes the depth of the next, so order holds.
            places = (bisect_left(self._visited, i) for i in range(self._space.num_intervals))
            yield self._space.schedule(visible.depths[min(place, last)] for place in places)

    def pick_unknown(self, known: Collection[Key], rng: np.random.Generator) -> ExitSchedule:
        """A schedule that is not known: by chance, then by enumeration.

        Raises:
            StopIteration: If all are known.
        """
        for _ in range(_DRAWS):
            schedule = self._space.sample(rng)
            if self.key(schedule) not in known:
                return schedule
        return next(schedule for schedule in self if self.key(schedule) not in known)


class FinishedTrials:
    """Records in the order they ended, and which schedules they settle.

    A schedule that failed counts as known until a later attempt gives it a result.

    Args:
        distinct: Tells schedules apart.
    """

    def __init__(self, distinct: DistinctSchedules) -> None:
        self._distinct = distinct
        self._records: list[TrialRecord] = []
        self._complete: dict[Key, TrialRecord] = {}
        self._failed: set[Key] = set()
        self._ended: set[Key] = set()

    def add(self, record: TrialRecord) -> None:
        """Note a trial that ended; the first result of a schedule is the one that counts."""
        self._records.append(record)
        key = self._distinct.key(record.schedule)
        self._ended.add(key)
        if record.complete:
            self._complete.setdefault(key, record)
        else:
            self._failed.add(key)

    @property
    def records(self) -> Sequence[TrialRecord]:
        """All of them, failures included."""
        return tuple(self._records)

    @property
    def num_complete(self) -> int:
        """Different schedules with a result."""
        return len(self._complete)

    @property
    def num_failed(self) -> int:
        """Different schedules that ended without a result and got none later."""
        return len(self._failed - self._complete.keys())

    def result_of(self, key: Key) -> TrialRecord | None:
        """The complete record of a schedule."""
        return self._complete.get(key)

    def keys(self) -> Set[Key]:
        """Schedules that are complete or failed."""
        return self._ended
