"""Warm starts: the schedules that a search measures first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schedsearch.config.paths import names_a_file
from schedsearch.exceptions import ConfigError
from schedsearch.files.content import why_not_a_file
from schedsearch.files.problems import (
    FROM_FOLDER,
    Findings,
    InvalidFileError,
    Mistake,
    nearest,
    nearest_or_list,
    shown,
)
from schedsearch.schedules.argument import read_schedule_for
from schedsearch.schedules.clocks import Clock
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.hand_made import FULL, MOVED, PRESET_NAMES, is_preset, preset_for
from schedsearch.settings import SearchSettings, SpaceSettings
from schedsearch.settings.rivals import RivalSettings
from schedsearch.settings.rows import rows_of

WARM_START = "warm_start"

TWIN_OF = "twin:"
"""Begins an entry that names a dynamic row of ``rivals``: ``twin:deediff-0.75``."""


@dataclass(frozen=True, slots=True)
class WarmStart:
    """A schedule to measure before the search proposes its own."""

    label: str
    """``full``, the preset's name, the name in the schedule file, ``twin:deediff-0.75``, or
    ``warm-start-3``."""
    schedule: ExitSchedule


def check_entries(value: Any, findings: Findings) -> bool:
    """Check types and names in the plain section; return whether it can be used."""
    # NOTE: Done by hand, because pydantic's errors in a union name no index.
    before = len(findings.problems)
    if not isinstance(value, list):
        remedy = f"write [{value}]" if isinstance(value, str) else None
        reason = f"must be a list of schedules, got {shown(value)}"
        findings.add((WARM_START,), reason, remedy)
        return False
    for i, entry in enumerate(value):
        if isinstance(entry, list) and entry:
            for j, depth in enumerate(entry):
                if isinstance(depth, bool) or not isinstance(depth, int) or depth < 0:
                    reason = f"a depth is an integer >= 0, got {shown(depth)}"
                    findings.add((WARM_START, i, j), reason)
        elif not isinstance(entry, str):
            reason = "must be full, a preset, a list of depths, a schedule file or twin:ROW"
            findings.add((WARM_START, i), f"{reason}, got {shown(entry)}")
        elif twin_row(entry) is not None:
            continue  # the row is looked up where rivals are known
        elif not is_preset(entry) and not names_a_file(entry):
            names = [FULL, *PRESET_NAMES]
            known = (
                f"known are {', '.join(names)}; a schedule file ends in .yaml, twin:ROW names a "
                "row of rivals"
            )
            remedy = nearest(entry, names) or known
            findings.add((WARM_START, i), f"unknown schedule {entry!r}", remedy)
    return len(findings.problems) == before


def resolve_warm_starts(
    entries: tuple[str | tuple[int, ...], ...],
    space: SpaceSettings,
    findings: Findings,
    *,
    num_exit_blocks: int | None,
    family: str | None,
    clock: Clock | None = None,
    read_files: bool = True,
    twins: Mapping[str, ExitSchedule] | None = None,
) -> list[WarmStart]:
    """The different warm starts in the order of the file; of equal schedules the first.

    Args:
        entries: The section.
        space: The space that every schedule must belong to.
        findings: Receives the mistakes.
        num_exit_blocks: Exit blocks of the backbone; None if only its class can tell.
        family: Family of the backbone; None for a custom class.
        clock: Clock of the process; None takes schedules of any.
        read_files: Whether to read schedule files, or to leave them out.
        twins: Static twins by row; None leaves them out.
    """
    found: dict[ExitSchedule, WarmStart] = {}
    blocks, whole = num_exit_blocks or space.max_depth, space.build()
    limits: dict[str, Any] = {
        "min_depth": space.min_depth,
        "max_depth": space.max_depth,
        "num_intervals": space.num_intervals,
        "edges": whole.edges,
    }
    for i, entry in enumerate(entries):
        if isinstance(entry, tuple):
            fits = len(entry) == space.num_intervals
            schedule = whole.schedule(entry) if fits else ExitSchedule(entry)
            start = WarmStart(f"warm-start-{i}", schedule)
        elif is_preset(entry):
            start = WarmStart(entry, preset_for(entry, blocks, **limits))
        elif (row := twin_row(entry)) is not None:
            if twins is None:
                continue
            start = WarmStart(entry, twins[row])
        elif not read_files:
            continue
        elif (missing := why_not_a_file(Path(entry))) is not None:
            findings.add((WARM_START, i), missing, FROM_FOLDER)
            continue
        else:
            try:
                file = read_schedule_for(entry, num_exit_blocks, family, clock)
            except InvalidFileError as error:
                findings.problems += error.problems
                continue
            except ConfigError as error:
                findings.add((WARM_START, i), str(error).removesuffix("."))
                continue
            start = WarmStart(file.name, file.schedule)
        if clock is not None and start.schedule.clock not in (None, clock):
            other = f"{start.label} is for the clock {start.schedule.clock}, not {clock}"
            moved = f"{start.label}{MOVED}"
            remedy = "set diffusion.process, or remove the entry"
            findings.add(
                (WARM_START, i), other, f"write {moved}" if moved in PRESET_NAMES else remedy
            )
        elif (reason := whole.why_not(start.schedule)) is not None:
            reason = f"{start.label} ({start.schedule}) is not in the space: {reason}"
            findings.add((WARM_START, i), reason, "change the space, or remove the entry")
        else:
            found.setdefault(start.schedule, start)
    return list(found.values())


def twin_row(entry: str | tuple[int, ...]) -> str | None:
    """The row whose static twin an entry means; None for any other entry."""
    if not isinstance(entry, str) or not entry.startswith(TWIN_OF):
        return None
    return entry.removeprefix(TWIN_OF)


def twins_exist(
    warm_start: tuple[str | tuple[int, ...], ...], rivals: Mapping[str, RivalSettings]
) -> Iterator[Mistake]:
    """Every twin among the warm starts is that of a dynamic row."""
    rows = {row.name: row for row in rows_of(rivals, {})}
    dynamic = [f"{TWIN_OF}{name}" for name, row in rows.items() if row.has_twin]
    for index, entry in enumerate(warm_start):
        name = twin_row(entry)
        if name is None or (name in rows and rows[name].has_twin):
            continue
        reason = f"there is no row {name!r} in rivals"
        if name in rows:
            why = "exits in the encoder" if rows[name].dynamic else "is not dynamic"
            reason = f"the row {name!r} of rivals {why}, so it has no static twin"
        remedy = "add an entry of kind uncertainty or similarity to rivals"
        yield (
            f"{WARM_START}.{index}",
            reason,
            nearest_or_list(entry, dynamic) if dynamic else remedy,
        )


def number_of_trials(search: SearchSettings, warm_starts: int) -> Iterator[Mistake]:
    """Warm starts are always measured, so there must be a trial for each."""
    if search.n_trials < warm_starts:
        reason = f"must be at least the {warm_starts} different warm starts, got {search.n_trials}"
        remedy = f"set it to {warm_starts} or more, or remove entries of warm_start"
        yield "search.n_trials", reason, remedy
