"""Exact optima over all schedules, for costs that are additive over intervals.

The cost of a schedule is the sum of its cells in a cost table. Its latency is affine in its
block count ``sum(weights[i] * depths[i])``. Both are sums over intervals, so dynamic programming
over (interval, depth, blocks left) gives the cheapest schedule of every block count.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class PlannedSchedule:
    """A Pareto-optimal schedule of a cost table."""

    schedule: ExitSchedule
    blocks: int
    """Block count of a solver run: ``sum(weights[i] * depths[i])``."""
    cost: float
    """Sum of the schedule's cells in the cost table."""


def optimal_front(
    costs: Floats, space: SearchSpace, weights: Sequence[int]
) -> list[PlannedSchedule]:
    """Find every Pareto-optimal (blocks, cost) over all schedules of a space.

    Args:
        costs: Cost of each depth in each interval, (num_intervals, num_levels); column j is
            depth ``space.min_depth + j``. All rows count, so intervals without network calls
            usually have rows of zeros.
        space: The space, nonincreasing or free.
        weights: Network calls per interval, from data to noise, integers >= 0.

    Returns:
        One schedule per point of the front, by increasing blocks and decreasing cost. Ties go
        to shallower depths.

    Raises:
        ValueError: If the table or the weights do not fit the space.
    """
    return Plan(costs, space, weights).front()


class Plan:
    """The value table of a cost table, which answers many questions about it.

    ``completions[i][level, units]`` is the least cost of the intervals from i on. Their depth is
    at most that of ``level`` (unless free), and they use exactly ``units``. A unit is
    ``gcd(weights)`` blocks above the shallowest schedule, which keeps the table small.
    """

    def __init__(self, costs: Floats, space: SearchSpace, weights: Sequence[int]) -> None:
        costs = np.asarray(costs, dtype=np.float64)
        shape = (space.num_intervals, space.num_levels)
        if costs.shape != shape or not np.isfinite(costs).all():
            raise ValueError(
                f"A cost table of this space holds finite numbers of shape {shape}, "
                f"but got shape {costs.shape}."
            )
        if len(weights) != space.num_intervals or any(
            weight != int(weight) or weight < 0 for weight in weights
        ):
            raise ValueError(
                f"Expected {space.num_intervals} integers >= 0 as weights, got {list(weights)}."
            )
        self.costs, self.space = costs, space
        self.weights = [int(weight) for weight in weights]
        self.unit = math.gcd(*self.weights) or 1
        self.steps = [weight // self.unit for weight in self.weights]
        self.floor = sum(self.weights) * space.min_depth
        self.completions, self.choices = self._solve()
        self._visited = [i for i, weight in enumerate(self.weights) if weight]
        self._streams: dict[tuple[float, float], Iterator[ExitSchedule]] = {}
        self._next: dict[tuple[float, float], ExitSchedule | None] = {}

    def key(self, schedule: ExitSchedule) -> tuple[int, ...]:
        """Return the visited depths; schedules with equal keys give equal samples."""
        return tuple(schedule.depths[i] for i in self._visited)

    def _solve(self) -> tuple[list[Floats], list[NDArray[np.int16]]]:
        num_levels = self.space.num_levels
        ordered = self.space.monotone == "nonincreasing"
        completions: list[Floats] = [np.zeros((num_levels, 1))]
        choices: list[NDArray[np.int16]] = []
        for row, step in zip(self.costs[::-1], self.steps[::-1], strict=True):
            following = completions[0]
            used = following.shape[1]
            values = np.full((num_levels, used + step * (num_levels - 1)), np.inf)
            # Set this interval's level.
            for level in range(num_levels):
                values[level, level * step : level * step + used] = row[level] + following[level]
            # Allow shallower levels.
            # NOTE: Only a strict gain replaces a level, so ties go to the shallower depth.
            choice = np.zeros(values.shape, dtype=np.int16)
            for level in range(1, num_levels):
                better = values[level] < values[level - 1]
                choice[level] = np.where(better, level, choice[level - 1])
                np.minimum(values[level], values[level - 1], out=values[level])
            if not ordered:
                values[:], choice[:] = values[-1].copy(), choice[-1].copy()
            completions.insert(0, values)
            choices.insert(0, choice)
        return completions, choices

    def front(self) -> list[PlannedSchedule]:
        """Find every Pareto-optimal (blocks, cost); see :func:`optimal_front`."""
        best = self.completions[0][-1]
        found = []
        lowest = math.inf
        for units in np.flatnonzero(np.isfinite(best)):
            if best[units] < lowest:
                lowest = float(best[units])
                blocks = self.floor + int(units) * self.unit
                found.append(PlannedSchedule(self._trace(int(units)), blocks, lowest))
        return found

    def _trace(self, units: int) -> ExitSchedule:
        """Reconstruct the schedule of a cell in the first table."""
        depths = []
        level = self.space.num_levels - 1
        for choice, step in zip(self.choices, self.steps, strict=True):
            level = int(choice[level, units])
            units -= level * step
            depths.append(self.space.min_depth + level)
        return self.space.schedule(depths)

    def best_between(
        self, low: float, high: float, taken: Container[tuple[int, ...]]
    ) -> ExitSchedule | None:
        """Find the cheapest new schedule with a block count in [low, high].

        The search is exact: it generates schedules by increasing cost until one is not taken.
        A later call goes on where this one stopped, so what is taken must stay taken.

        Args:
            low: Smallest block count.
            high: Largest block count.
            taken: Keys of the schedules to exclude, see :meth:`key`.

        Returns:
            The schedule, or None if the range holds no new one.
        """
        place = low, high
        if place not in self._streams:
            self._streams[place] = self._between(low, high)
            self._next[place] = next(self._streams[place], None)
        while (found := self._next[place]) is not None and self.key(found) in taken:
            self._next[place] = next(self._streams[place], None)
        return found

    def _between(self, low: float, high: float) -> Iterator[ExitSchedule]:
        """Search prefixes best first, with the value table as exact bound.

        The queue orders prefixes by the cost of their best completion. So complete schedules
        appear by increasing cost.
        """
        # Start at the root.
        units = (
            math.ceil((low - self.floor) / self.unit),
            math.floor((high - self.floor) / self.unit),
        )
        root = self._bound(0, self.space.num_levels - 1, *units)
        queue: list[tuple[float, tuple[int, ...], float, int]] = [(root, (), 0.0, 0)]
        while queue:
            bound, levels, cost, used = heapq.heappop(queue)
            if bound == math.inf:
                return
            # Return a complete schedule.
            interval = len(levels)
            if interval == self.space.num_intervals:
                yield self.space.schedule(self.space.min_depth + level for level in levels)
                continue
            # Extend the prefix.
            ordered = self.space.monotone == "nonincreasing"
            top = levels[-1] if levels and ordered else self.space.num_levels - 1
            cheapest = math.inf
            for level in range(top, -1, -1):
                after = cost + float(self.costs[interval, level])
                if self.steps[interval] == 0:
                    # NOTE: Without network calls, a deeper level allows at least the same
                    # completions. So a shallower level must be strictly cheaper.
                    if after >= cheapest:
                        continue
                    cheapest = after
                spent = used + level * self.steps[interval]
                rest = self._bound(interval + 1, level, units[0] - spent, units[1] - spent)
                if rest < math.inf:
                    heapq.heappush(queue, (after + rest, (*levels, level), after, spent))

    @cached_property
    def _completions(self) -> list[list[list[float]]]:
        return [values.tolist() for values in self.completions]  # lists are faster for few cells

    def _bound(self, interval: int, level: int, low: int, high: int) -> float:
        """Return the least cost from ``interval`` on, with units in [low, high]."""
        reachable = self._completions[interval][level][max(0, low) : max(0, high + 1)]
        return min(reachable, default=math.inf)
