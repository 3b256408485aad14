"""Schedules to measure first: optima of the error table, spread along its front."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schedsearch.planning.cells import Floats, visited_excess
from schedsearch.planning.dynamic_programming import PlannedSchedule, optimal_front
from schedsearch.planning.error_table import ErrorTable
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace

HIGHEST_SHARE = 0.9
"""Largest block count of a seed: 0 is the shallowest schedule, 1 the deepest.

Above it a schedule saves almost nothing. Our choice; no paper gives one.
"""

WORST_SHARE = 0.3
"""Largest excess loss of a seed, as a share of the shallowest schedule's.

Above it, sums of losses rank schedules badly.
"""


def seed_schedules(
    table: ErrorTable, space: SearchSpace, weights: Sequence[int], count: int
) -> list[ExitSchedule]:
    """Choose optima of the table, evenly spread along its front, slowest first.

    Optima minimise the plain sum of losses, which ranks schedules better than relative or
    logarithmic losses.

    Args:
        table: The error table.
        space: The space of schedules.
        weights: Network calls per interval, from data to noise.
        count: Number of schedules; the result has fewer only if there are fewer useful optima.

    Raises:
        ValueError: If the table does not cover the space.
    """
    left = useful_front(table, space, weights)
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
    """Return the position of every optimum: share of latency minus root of the loss share.

    Latency alone would place most seeds on the flat part of the front. The root reduces the
    effect of very large losses, as in the surrogate's prior.
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
    """Return the optima worth measuring, by increasing block count.

    :data:`HIGHEST_SHARE` and :data:`WORST_SHARE` limit them. If no optimum is left, as in a
    space with few levels, return all optima but full depth.
    """
    excess = visited_excess(table, space, weights)
    optima = optimal_front(excess, space, weights)
    shallow, deep = (sum(weights) * depth for depth in (space.min_depth, space.max_depth))
    high = shallow + HIGHEST_SHARE * (deep - shallow)
    worst = WORST_SHARE * float(excess[:, 0].sum())
    optima = [p for p in optima if p.blocks < deep]
    return [p for p in optima if p.blocks <= high and p.cost <= worst] or optima
