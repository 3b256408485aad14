"""Levels: the exit depths that a table holds, and schedules moved to them."""

from __future__ import annotations

from collections.abc import Sequence

from schedsearch.schedules.exit_schedule import ExitSchedule


def snapped(schedule: ExitSchedule, levels: Sequence[int]) -> tuple[int, ...]:
    """Each depth moved to the nearest level, the deeper of two.

    Args:
        schedule: Depths of the network.
        levels: Those that the table holds.
    """
    return tuple(min(levels, key=lambda v: (abs(v - depth), -v)) for depth in schedule.depths)
