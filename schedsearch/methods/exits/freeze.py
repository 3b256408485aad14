"""Turns the exits that a dynamic method took into an exit schedule, its static twin."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from schedsearch.schedules.exit_schedule import ExitSchedule

if TYPE_CHECKING:
    from torch import Tensor

    from schedsearch.schedules.edges import Edges


def frozen_schedule(
    blocks: Sequence[Tensor],
    times: Sequence[float],
    num_exit_blocks: int,
    num_always: int,
    num_intervals: int = 10,
    edges: Edges | None = None,
) -> ExitSchedule:
    """Return the schedule with the mean depth of each interval, rounded to the nearest.

    An interval that no call falls into takes the depth of the nearest one, the one closer to the
    data if two are equally near.

    Args:
        blocks: Blocks run by every sample, one tensor (N,) per call.
        times: Clock times of these calls.
        num_exit_blocks: Blocks that a schedule may skip.
        num_always: Blocks that it always runs: encoder and middle block of a U-ViT, 0 in a DiT.
        num_intervals: Intervals of the schedule.
        edges: Their edges; None for equal ones.

    Raises:
        ValueError: If there are no calls, or not one time per call.
    """
    if not blocks or len(blocks) != len(times):
        raise ValueError(
            f"frozen_schedule needs one time per call and a call, got {len(blocks)} and "
            f"{len(times)}."
        )
    clock = ExitSchedule.flat(1, num_intervals, edges)
    runs: dict[int, list[float]] = {}
    for depths, time in zip(blocks, times, strict=True):
        runs.setdefault(clock.interval_of(time), []).extend(depths.flatten().tolist())
    least = 0 if num_always else 1
    depth_of = {
        interval: min(num_exit_blocks, max(least, math.floor(_mean(run) - num_always + 0.5)))
        for interval, run in runs.items()
    }
    return ExitSchedule(
        tuple(depth_of[_nearest(interval, depth_of)] for interval in range(num_intervals)), edges
    )


def share_explained_by_time(blocks: Sequence[Tensor]) -> float:
    """Return the share of the depth's variance that the step explains.

    1 if every call runs all samples equally deep, as a schedule does; 0 if steps do not differ
    in their mean depth.

    Args:
        blocks: Blocks run by every sample, one tensor (N,) per call.

    Raises:
        ValueError: If there are no calls.
    """
    if not blocks:
        raise ValueError("share_explained_by_time needs at least one call, got none.")
    calls: list[list[float]] = [depths.flatten().tolist() for depths in blocks]
    overall = _mean([depth for call in calls for depth in call])
    total = sum((depth - overall) ** 2 for call in calls for depth in call)
    within = sum((depth - _mean(call)) ** 2 for call in calls for depth in call)
    return 1 - within / total if total > 0 else 1.0


def _nearest(interval: int, visited: Iterable[int]) -> int:
    return min(visited, key=lambda other: (abs(other - interval), other))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
