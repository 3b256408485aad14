"""Rules for ``warm_start``: the schedules that a search measures first."""

from __future__ import annotations

import itertools
import re
from typing import Any

from schedsearch.config.paths import FROM_FOLDER, Paths, why_not_a_file
from schedsearch.files.problems import Findings, KeyPath, nearest, shown
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.hand_made import FULL, HAND_MADE, preset_for
from schedsearch.settings import SpaceSettings

WARM_START = "warm_start"


def looks_like_file(entry: str) -> bool:
    """Whether a text means a schedule file rather than a preset."""
    return re.search(r"[/\\]|\.(yaml|yml)$|^~", entry) is not None


def check_entries(value: Any, findings: Findings) -> bool:
    """Check the types of ``warm_start`` by hand: a union's errors would name no index.

    Args:
        value: The section as plain data.
        findings: Receives the mistakes.

    Returns:
        Whether the section can be used.
    """
    before = len(findings.problems)
    if not isinstance(value, list):
        findings.add(
            (WARM_START,),
            f"must be a list of schedules, got {shown(value)}",
            f"write [{value}]" if isinstance(value, str) else None,
        )
        return False
    for i, entry in enumerate(value):
        if isinstance(entry, list):
            for j, depth in enumerate(entry):
                if isinstance(depth, bool) or not isinstance(depth, int) or depth < 0:
                    findings.add(
                        (WARM_START, i, j), f"a depth is an integer >= 0, got {shown(depth)}"
                    )
        elif not isinstance(entry, str):
            findings.add(
                (WARM_START, i),
                f"must be full, a preset, a list of depths or a schedule file, got {shown(entry)}",
            )
    return len(findings.problems) == before


def check_warm_starts(
    entries: tuple[str | tuple[int, ...], ...],
    space: SpaceSettings | None,
    num_exit_blocks: int | None,
    findings: Findings,
    paths: Paths,
) -> set[ExitSchedule]:
    """Check that every warm start exists and belongs to the space.

    The content of schedule files is checked where they are read, by
    :func:`schedsearch.search.study.warm_starts.read_warm_starts`.

    Args:
        entries: The section.
        space: The space; None when it is not valid, then only names and files are checked.
        num_exit_blocks: Exit blocks of the backbone; None where only its class can tell.
        findings: Receives the mistakes.
        paths: Where relative paths start.

    Returns:
        The different schedules, those in files left out.
    """
    found = set()
    for i, entry in enumerate(entries):
        at: KeyPath = (WARM_START, i)
        schedule: ExitSchedule | None = None
        if isinstance(entry, tuple):
            if space is not None:
                schedule = _from_list(entry, at, space, findings)
        elif entry != FULL and entry not in HAND_MADE:
            _check_file(entry, at, findings, paths)
        elif space is not None:
            schedule = _from_name(entry, at, space, num_exit_blocks, findings)
        if schedule is not None:
            found.add(schedule)
    return found


def _from_list(
    depths: tuple[int, ...], at: KeyPath, space: SpaceSettings, findings: Findings
) -> ExitSchedule | None:
    if len(depths) != space.num_intervals:
        findings.add(
            at,
            f"has {len(depths)} depths, but space.num_intervals is {space.num_intervals}",
            "give one depth per interval, data to noise",
        )
        return None
    outside = [(i, d) for i, d in enumerate(depths) if not space.min_depth <= d <= space.max_depth]
    for i, depth in outside:
        findings.add(
            (*at, i),
            f"depth {depth} at index {i} is outside [{space.min_depth}, {space.max_depth}]",
            "change it, or space.min_depth and space.max_depth",
        )
    if outside:
        return None
    if space.monotone == "nonincreasing":
        for i, (before, after) in enumerate(itertools.pairwise(depths)):
            if after > before:
                findings.add(
                    (*at, i + 1),
                    f"depth grows from {before} to {after} at index {i + 1}, "
                    "but space.monotone is nonincreasing",
                    "depths run from the data to the noise; or set space.monotone to free",
                )
                return None
    return ExitSchedule(depths)


def _from_name(
    name: str, at: KeyPath, space: SpaceSettings, num_exit_blocks: int | None, findings: Findings
) -> ExitSchedule | None:
    if name == FULL:
        if num_exit_blocks is not None and space.max_depth != num_exit_blocks:
            findings.add(
                at,
                f"full depth runs {num_exit_blocks} blocks, "
                f"but space.max_depth is {space.max_depth}",
                f"set space.max_depth to {num_exit_blocks}, or remove full",
            )
            return None
        return ExitSchedule.flat(num_exit_blocks or space.max_depth, space.num_intervals)
    preset = preset_for(
        name,
        num_exit_blocks or space.max_depth,
        min_depth=space.min_depth,
        max_depth=space.max_depth,
    )
    if preset.num_intervals != space.num_intervals:
        findings.add(
            at,
            f"the preset {name} has {preset.num_intervals} intervals, "
            f"but space.num_intervals is {space.num_intervals}",
            f"set space.num_intervals to {preset.num_intervals}, or remove the preset",
        )
        return None
    if (reason := space.build().why_not(preset)) is not None:
        findings.add(at, f"the preset {name}, scaled to ({preset}), is not in the space: {reason}")
        return None
    return preset


def _check_file(entry: str, at: KeyPath, findings: Findings, paths: Paths) -> None:
    if not looks_like_file(entry):
        names = [FULL, *HAND_MADE]
        remedy = nearest(entry, names) or (
            f"known are {', '.join(names)}; a schedule file ends in .yaml"
        )
        findings.add(at, f"unknown schedule {entry!r}", remedy)
    elif paths.check_disk and (reason := why_not_a_file(paths.absolute(at, entry))) is not None:
        findings.add(at, reason, FROM_FOLDER)


def absolute_entries(
    entries: tuple[str | tuple[int, ...], ...], paths: Paths
) -> tuple[str | tuple[int, ...], ...]:
    """The entries of ``warm_start`` with the paths of files made absolute."""
    return tuple(
        str(paths.absolute((WARM_START, i), entry))
        if isinstance(entry, str) and looks_like_file(entry)
        else entry
        for i, entry in enumerate(entries)
    )
