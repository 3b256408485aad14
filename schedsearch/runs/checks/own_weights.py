"""Weights of a run: their header names the run, and the schedule that they were tuned for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedsearch.exceptions import StorageError
from schedsearch.runs.checks.identity import run_id_of

if TYPE_CHECKING:
    from pathlib import Path

    from schedsearch.runs.folder import RunFolder
    from schedsearch.schedules.exit_schedule import ExitSchedule

RUN, SCHEDULE = "run", "schedule"
"""Keys in the header of a file of weights."""


def mark_of(folder: RunFolder, schedule: ExitSchedule | None = None) -> dict[str, str]:
    """What the header of weights of a run says; weights of many schedules name none."""
    run = run_id_of(folder)
    mark = {} if run is None else {RUN: run}
    return mark if schedule is None else {**mark, SCHEDULE: str(schedule)}


def check_own_weights(folder: RunFolder, path: Path, schedule: ExitSchedule | None = None) -> None:
    """Refuse weights that another run made, or that were tuned for another schedule.

    Raises:
        CheckpointError: If the header cannot be read.
        StorageError: If they are not those of the run.
    """
    from schedsearch.backbones.weights.checkpoint import metadata_of

    wanted, found = mark_of(folder, schedule), metadata_of(path)
    if wanted.get(RUN) not in (None, found.get(RUN)):
        reason = f"made by {found.get(RUN, 'no run')}, not by {wanted[RUN]}"
    elif found.get(SCHEDULE) not in (None, wanted.get(SCHEDULE)) and schedule is not None:
        reason = f"fine-tuned for another schedule ({found[SCHEDULE]}, not {schedule})"
    else:
        return
    raise StorageError(f"{path} was {reason}. Restore the file from a backup.")
