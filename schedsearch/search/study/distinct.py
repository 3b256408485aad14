"""Which schedules of a space a solver can tell apart."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from schedsearch.schedules.exit_schedule import ExitSchedule

if TYPE_CHECKING:
    import numpy as np

    from schedsearch.schedules.space import SearchSpace

Key = tuple[int, ...]
"""The depths that the solver visits: equal keys give equal samples and latency."""

_DRAWS = 1000


class DistinctSchedules:
    """A space as a solver sees it: schedules that differ only between its calls are one.

    Args:
        space: The space of schedules.
        times: Times of the solver's network calls, noise -> data.
    """

    def __init__(self, space: SearchSpace, times: Sequence[float]) -> None:
        self._space = space
        self._times = tuple(times)
        probe = ExitSchedule(tuple(range(space.num_intervals)))
        self._visited = sorted(set(probe.visited(self._times)))
        """Intervals in which the solver calls the network, data -> noise."""
        self._visible = replace(space, num_intervals=len(self._visited))

    def key(self, schedule: ExitSchedule) -> Key:
        """What tells a schedule from others."""
        return schedule.visited(self._times)

    def size(self) -> int:
        """Number of schedules that the solver can tell apart."""
        return self._visible.size()

    def __iter__(self) -> Iterator[ExitSchedule]:
        """One schedule for each that the solver can tell apart."""
        last = len(self._visited) - 1
        for visible in self._visible.enumerate():
            # An interval between two visited ones takes the depth of the next, so order holds.
            places = (bisect_left(self._visited, i) for i in range(self._space.num_intervals))
            yield ExitSchedule(tuple(visible.depths[min(place, last)] for place in places))

    def pick_unknown(self, known: Collection[Key], rng: np.random.Generator) -> ExitSchedule:
        """A schedule that is not known: by chance first, by enumeration if that fails.

        Raises:
            StopIteration: If all are known.
        """
        for _ in range(_DRAWS):
            schedule = self._space.sample(rng)
            if self.key(schedule) not in known:
                return schedule
        return next(schedule for schedule in self if self.key(schedule) not in known)
