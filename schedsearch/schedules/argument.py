"""Parses the schedule given as a command line option."""

from __future__ import annotations

import re
from pathlib import Path

from schedsearch.exceptions import ConfigError
from schedsearch.files.content import as_path
from schedsearch.files.problems import ended, nearest, shown
from schedsearch.schedules.clocks import Clock
from schedsearch.schedules.edges import Edges
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.hand_made import FULL, MOVED, PRESET_NAMES, is_preset, preset_for
from schedsearch.schedules.schedule_file import ScheduleFile, lowest_depth, read_schedule_file


def is_file(spec: str) -> bool:
    """Whether a text names a file; a long list of depths is no name."""
    try:
        return Path(spec).expanduser().is_file()
    except (OSError, RuntimeError):
        return False


def read_schedule_for(
    path: str | Path,
    num_exit_blocks: int | None,
    family: str | None,
    clock: Clock | None = None,
) -> ScheduleFile:
    """Read a schedule file that belongs to a model.

    Args:
        path: The file.
        num_exit_blocks: Exit blocks of the model; None if unknown.
        family: ``dit``, ``sit`` or ``uvit``; None for a custom class, which takes any schedule.
        clock: Clock of the model's process; None takes any.

    Raises:
        InvalidFileError: With every mistake of the file.
        ConfigError: If it cannot be read or belongs to another model.
    """
    file = read_schedule_file(path)
    theirs = file.backbone
    if num_exit_blocks is not None and theirs.num_exit_blocks != num_exit_blocks:
        reason = f"{theirs.num_exit_blocks} exit blocks, but the backbone has {num_exit_blocks}"
    elif family is not None and theirs.family != family:
        reason = f"the family {theirs.family}, but the backbone is a {family}"
    elif clock is not None and file.clock != clock:
        reason = f"the clock {file.clock}, but the model's process has the clock {clock}"
    else:
        return file
    raise ConfigError(
        f"{path}: the schedule is for {reason}; use a schedule found for this backbone, or a "
        "preset."
    )


def check_clock(schedule: ExitSchedule, clock: Clock, what: str) -> None:
    """Refuse a schedule that is written for another clock.

    Args:
        schedule: The schedule; one that names no clock fits any.
        clock: Clock of the model's process.
        what: Name of the schedule, for the message.

    Raises:
        ConfigError: If the clocks differ.
    """
    if schedule.clock in (None, clock):
        return
    remedy = "use a schedule found for this process, or move it with ExitSchedule.moved"
    if clock == "flow" and what + MOVED in PRESET_NAMES:
        remedy = f"use {what}{MOVED}"
    raise ConfigError(
        f"{what} is written for the clock {schedule.clock}, but the model's process has the clock "
        f"{clock}; {remedy}."
    )


def resolve_schedule(
    spec: str,
    *,
    num_exit_blocks: int,
    num_intervals: int = 10,
    edges: Edges | None = None,
    clock: Clock | None = None,
    family: str | None = None,
) -> ExitSchedule:
    """Parse the schedule given as a command line option.

    Args:
        spec: A schedule file, a preset (scaled to the model), ``full``, or depths separated
            by commas or spaces, from data to noise. A single depth applies to every interval.
        num_exit_blocks: Exit blocks of the model.
        num_intervals: Intervals of ``full`` and of moved presets, and number of depths in a list.
        edges: Edges of these intervals; None for equal ones.
        clock: Clock of the model's process; None takes schedules of any.
        family: ``dit``, ``sit``, ``uvit``, or None for a custom class. It decides whether the
            model may run no block at all; presets keep one block, as in the paper (ASE, Table 5).

    Raises:
        ConfigError: If the schedule does not exist or does not fit the model.
    """
    if is_preset(spec):
        preset = preset_for(spec, num_exit_blocks, num_intervals=num_intervals, edges=edges)
        if clock is not None:
            check_clock(preset, clock, spec)
        return preset
    if re.fullmatch(r"[-\d\s,\[\]]+", spec):
        depths = _from_list(spec, num_exit_blocks, num_intervals, lowest_depth(family))
        return ExitSchedule(depths, edges)
    if not is_file(spec):
        advice = nearest(spec, [FULL, *PRESET_NAMES]) or (
            f"presets are {', '.join([FULL, *PRESET_NAMES])}"
        )
        raise ConfigError(f"There is no schedule file or preset {shown(spec)}; {ended(advice)}")
    path = as_path(spec)
    return read_schedule_for(path, num_exit_blocks, family, clock).schedule


def _from_list(
    spec: str, num_exit_blocks: int, num_intervals: int, min_depth: int
) -> tuple[int, ...]:
    words = re.findall(r"[^\s,\[\]]+", spec)
    try:
        depths = tuple(map(int, words))
    except ValueError:
        raise ConfigError(f"A schedule is a list of integers, got {spec!r}.") from None
    if len(depths) == 1:
        depths *= num_intervals
    if len(depths) != num_intervals:
        raise ConfigError(
            f"A schedule needs {num_intervals} depths, data to noise, got {len(depths)} in "
            f"{shown(spec)}."
        )
    for i, depth in enumerate(depths):
        if not min_depth <= depth <= num_exit_blocks:
            raise ConfigError(
                f"The depth at index {i} of {spec!r} must be in [{min_depth}, {num_exit_blocks}], "
                f"the exit blocks of the backbone, got {depth}."
            )
    return depths
