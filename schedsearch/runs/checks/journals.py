"""The journals of a run with their rules and line counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedsearch.records import ConfirmRecord, TrialRecord
from schedsearch.runs.checks.identity import place_in
from schedsearch.runs.checks.line_counts import LineCounts
from schedsearch.runs.checks.rules import confirmation_rules, method_rules, trial_rules
from schedsearch.runs.journal import Journal
from schedsearch.runs.methods.records import RivalRecord

if TYPE_CHECKING:
    from pathlib import Path

    from schedsearch.runs.folder import RunFolder
    from schedsearch.settings import StudySettings


def trial_journal(folder: RunFolder, settings: StudySettings) -> Journal[TrialRecord]:
    """``results.jsonl``."""
    return Journal(
        folder.results_file,
        TrialRecord.from_json,
        rules=lambda: trial_rules(settings),
        counts=line_counts(folder),
        place=place_in(folder, folder.results_file),
    )


def confirmation_journal(folder: RunFolder, settings: StudySettings) -> Journal[ConfirmRecord]:
    """``confirmation.jsonl``."""
    return Journal(
        folder.confirmation_file,
        ConfirmRecord.from_json,
        rules=lambda: confirmation_rules(settings),
        counts=line_counts(folder),
        place=place_in(folder, folder.confirmation_file),
    )


def method_journal(folder: RunFolder, path: Path, settings: StudySettings) -> Journal[RivalRecord]:
    """``rivals.jsonl`` or ``plans.jsonl``."""
    return Journal(
        path,
        RivalRecord.from_json,
        rules=lambda: method_rules(settings),
        counts=line_counts(folder),
        place=place_in(folder, path),
    )


def line_counts(folder: RunFolder) -> LineCounts:
    """How much the files of a run hold."""
    return LineCounts(folder.lines_file, place_in(folder, folder.lines_file))
