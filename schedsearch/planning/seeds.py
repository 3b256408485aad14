"""Schedules to measure first: optima of the error table, spread over the useful latencies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schedsearch.planning.cells import visited_excess
from schedsearch.planning.dynamic_programming import PlannedSchedule, optimal_front
from schedsearch.planning.error_table import ErrorTable
from schedsearch.schedule import ExitSchedule
from schedsearch.space import SearchSpace

USEFUL_RANGE = (0.2, 0.9)
"""Where the trade-off is decided, as shares of the way from the shallowest schedule to the
deepest: above, hardly anything is saved; below, images break. Our choice; no paper gives one.
"""

WORST_SHARE = 0.5
"""Excess loss, as a share of the shallowest schedule's, beyond which a schedule is no seed.

Sums of losses are too greedy at the cheap end: there they rank schedules worse than chance.
"""


def seed_schedules(
    table: ErrorTable, space: SearchSpace, weights: Sequence[int], count: int
) -> list[ExitSchedule]:
    """Optimal schedules of the table, evenly spread in latency, dearest first.

    Plain sums of losses are minimised; relative or logarithmic ones rank schedules worse.

    Args:
        table: The error table.
        space: The space of schedules.
        weights: Network calls per interval, data -> noise; with them as weights the blocks of
            a schedule are what its latency is affine in.
        count: Schedules wanted. Fewer come back only if the useful range holds fewer optima.

    Raises:
        ValueError: If the table does not cover the space.
    """
    left = useful_front(table, space, weights)
    if count >= len(left):
        return [planned.schedule for planned in reversed(left)]
    low, high = left[0].blocks, left[-1].blocks
    targets = np.linspace(high, low, count) if count > 1 else [(low + high) / 2] * count
    chosen: list[PlannedSchedule] = []
    for target in targets:
        chosen.append(min(left, key=lambda planned: abs(planned.blocks - target)))
        left.remove(chosen[-1])
    return [planned.schedule for planned in chosen]


def useful_front(
    table: ErrorTable, space: SearchSpace, weights: Sequence[int]
) -> list[PlannedSchedule]:
    """Optima of the table that are worth measuring, by rising blocks.

    They lie in :data:`USEFUL_RANGE` and lose at most :data:`WORST_SHARE`; where that leaves
    nothing, in a space with few levels, all optima but full depth remain.
    """
    excess = visited_excess(table, space, weights)
    optima = optimal_front(excess, space, weights)
    shallow, deep = (sum(weights) * depth for depth in (space.min_depth, space.max_depth))
    low, high = (shallow + share * (deep - shallow) for share in USEFUL_RANGE)
    worst = WORST_SHARE * float(excess[:, 0].sum())
    optima = [p for p in optima if p.blocks < deep]
    return [p for p in optima if low <= p.blocks <= high and p.cost <= worst] or optima
