"""Schedules to measure first: optima of the error table, spread along its useful front."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from schedsearch.planning.cells import Floats, visited_excess
from schedsearch.planning.dynamic_programming import PlannedSchedule, optimal_front
from schedsearch.planning.error_table import ErrorTable
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace

HIGHEST_SHARE = 0.9
"""Dearest seed, as a share of the way from the shallowest schedule to the deepest.

Above, hardly any latency is saved. Our choice; no paper gives one.
"""

WORST_SHARE = 0.3
"""Largest excess loss of a seed, as a share of the shallowest schedule's.

Beyond, sums of losses rank schedules worse than chance.
"""


def seed_schedules(
    table: ErrorTable,
    space: SearchSpace,
    weights: Sequence[int],
    count: int,
    known: Collection[ExitSchedule] = (),
) -> list[ExitSchedule]:
    """Optimal schedules of the table, evenly spread along its front, dearest first.

    Plain sums of losses are minimised; relative or logarithmic ones rank schedules worse.

    Args:
        table: The error table.
        space: The space of schedules.
        weights: Network calls per interval, data -> noise; with them as weights the blocks of
            a schedule are what its latency is affine in.
        count: Schedules wanted. Fewer come back only if the useful range holds fewer optima.
        known: Schedules that are measured anyway, such as warm starts; none of them is a seed.

    Raises:
        ValueError: If the table does not cover the space.
    """
    visited = [i for i, weight in enumerate(weights) if weight]
    taken = {tuple(schedule.depths[i] for i in visited) for schedule in known}
    left = [
        planned
        for planned in useful_front(table, space, weights)
        if tuple(planned.schedule.depths[i] for i in visited) not in taken
    ]
    if count >= len(left):
        return [planned.schedule for planned in reversed(left)]
    places = _along_the_front(left, table, space, weights)
    targets = np.linspace(places[-1], places[0], count) if count > 1 else [np.median(places)]
    free = list(range(len(left)))
    chosen: list[PlannedSchedule] = []
    for target in targets[:count]:
        nearest = min(free, key=lambda i: abs(places[i] - target))
        free.remove(nearest)
        chosen.append(left[nearest])
    return [p.schedule for p in sorted(chosen, key=lambda p: p.blocks, reverse=True)]


def _along_the_front(
    front: Sequence[PlannedSchedule], table: ErrorTable, space: SearchSpace, weights: Sequence[int]
) -> Floats:
    """Place of every optimum: share of latency less the root of the share of loss.

    A front is steep where it is cheap, so latency alone would leave that end without seeds. The
    root tames losses that explode there, as in the surrogate's prior.
    """
    excess = visited_excess(table, space, weights)
    total = float(excess[:, 0].sum())
    shallow, deep = (sum(weights) * depth for depth in (space.min_depth, space.max_depth))
    latency = np.array([(planned.blocks - shallow) / (deep - shallow) for planned in front])
    shares = np.array([max(0.0, planned.cost) / total if total > 0 else 0.0 for planned in front])
    return np.asarray(latency - np.sqrt(shares))


def useful_front(
    table: ErrorTable, space: SearchSpace, weights: Sequence[int]
) -> list[PlannedSchedule]:
    """Optima of the table that are worth measuring, by rising blocks.

    They end at :data:`HIGHEST_SHARE` and lose at most :data:`WORST_SHARE`. Where a space with
    few levels has none of these, all optima but full depth remain.
    """
    excess = visited_excess(table, space, weights)
    optima = optimal_front(excess, space, weights)
    shallow, deep = (sum(weights) * depth for depth in (space.min_depth, space.max_depth))
    high = shallow + HIGHEST_SHARE * (deep - shallow)
    worst = WORST_SHARE * float(excess[:, 0].sum())
    optima = [p for p in optima if p.blocks < deep]
    return [p for p in optima if p.blocks <= high and p.cost <= worst] or optima
