"""Rebuilds the study of a run from its record, and sets damaged lines aside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna

from schedsearch.exceptions import StorageError
from schedsearch.runs.checks.identity import RunIdentity
from schedsearch.runs.checks.journals import (
    confirmation_journal,
    line_counts,
    method_journal,
    trial_journal,
)
from schedsearch.runs.checks.space_file import read_space
from schedsearch.search.runners.logs import logging_to
from schedsearch.search.study.owner import open_own_study
from schedsearch.search.study.reconcile import rebuild, unrecorded
from schedsearch.search.study.storage import close_storage, explaining_failures

if TYPE_CHECKING:
    from schedsearch.records import TrialRecord
    from schedsearch.runs.folder import RunFolder
    from schedsearch.runs.journal import Journal
    from schedsearch.settings import StudySettings

ASIDE = ".damaged"
"""Ending of the file that damaged lines, or a damaged study, are moved to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """What a recovery did."""

    num_trials: int
    """Lines of ``results.jsonl``."""
    set_aside: dict[str, list[int]]
    """Numbers of damaged lines, by file."""
    restored: list[int]
    """Trials whose lost line was found again in their folder."""
    num_lost: int
    """Lines of ``results.jsonl`` that are gone for good."""


def recover_run(folder: RunFolder, tell: Callable[[str], None]) -> Recovered:
    """Rebuild the study of a run from ``results.jsonl``.

    Damaged lines are moved aside; a trial's own folder gives its line back where it can. The old
    ``study.db`` is kept beside the new one.

    Args:
        folder: The run folder.
        tell: Is told how far it is.

    Raises:
        StorageError: If another driver is at work, a file cannot be read, or the study in
            ``search.storage`` belongs to another run.
    """
    settings = read_space(folder)
    with folder.locked(), logging_to(folder.log_file), explaining_failures(settings.name):
        folder.remove_leftovers()
        journal = trial_journal(folder, settings)
        known = line_counts(folder).of(journal.path.name)
        set_aside = _set_aside(folder, settings, journal)
        journal.repair()
        restored = _restore_lines(folder, settings, journal)
        by_number = {record.number: record for record in journal.read()}
        if RunIdentity.read(folder) is None and settings.search.storage is not None:
            raise StorageError(
                f"{folder.identity_file} says which study of search.storage is this run's, but it "
                "is gone. Restore it from a backup, or resume the run once."
            )
        own_file = settings.search.storage is None
        study = _new_study(folder, settings) if own_file else open_own_study(folder, settings)
        space = settings.space.build()
        rebuild(study, by_number, folder, space, tell, replacing=not own_file)
        if own_file:
            _put_in_place(study, folder)
    return Recovered(
        num_trials=len(by_number),
        set_aside=set_aside,
        restored=restored,
        num_lost=max(0, known - len(by_number)),
    )


def _set_aside(
    folder: RunFolder, settings: StudySettings, results: Journal[TrialRecord]
) -> dict[str, list[int]]:
    """Move damaged lines of all journals aside.

    What other commands measure again stays known as lost until they have.
    """
    journals: list[Journal[Any]] = [
        results,
        confirmation_journal(folder, settings),
        method_journal(folder, folder.rivals_file, settings),
        method_journal(folder, folder.plans_file, settings),
    ]
    found = {}
    for journal in journals:
        if numbers := journal.set_aside(journal.path.with_name(journal.path.name + ASIDE)):
            found[journal.path.name] = numbers
    return found


def _restore_lines(
    folder: RunFolder, settings: StudySettings, journal: Journal[TrialRecord]
) -> list[int]:
    """Add complete results that lie in the folders of trials and lost their lines."""
    restored = unrecorded(folder, journal.read(), settings)
    for record in restored:
        journal.append(record)
    return [record.number for record in restored]


def _building(folder: RunFolder) -> Path:
    """Where a new study is built, which a crash leaves without effect."""
    return folder.study_file.with_name(f".{folder.study_file.name}.tmp")


def _new_study(folder: RunFolder, settings: StudySettings) -> optuna.Study:
    """An empty study in a file of its own."""
    building = _building(folder)
    for path in folder.root.glob(f"{building.name}*"):
        path.unlink()
    return open_own_study(folder, settings, file=building)


def _put_in_place(study: optuna.Study, folder: RunFolder) -> None:
    """Let the new file take the place of the old one, which is kept."""
    new, old = _building(folder), folder.study_file
    close_storage(study._storage)
    try:
        for ending in ("", "-wal", "-shm"):
            path = old.with_name(old.name + ending)
            if path.exists():
                path.replace(old.with_name(old.name + ASIDE + ending))
        new.replace(old)
    except OSError as error:
        raise StorageError(f"Cannot put {old} in place: {error}.") from error
