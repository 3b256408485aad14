"""Records of all methods of a run: ``rivals.jsonl``, and plans in ``plans.jsonl``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedsearch.runs.checks.journals import method_journal
from schedsearch.runs.methods.latencies import accept_lost_latencies
from schedsearch.runs.methods.records import RivalRecord
from schedsearch.settings.plan import PLAN

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.settings import StudySettings


class MethodJournals:
    """The two journals of a run folder, read as one.

    Args:
        folder: The run folder.
        settings: Its search space.
    """

    def __init__(self, folder: RunFolder, settings: StudySettings) -> None:
        self._folder = folder
        self._rivals = method_journal(folder, folder.rivals_file, settings)
        self._plans = method_journal(folder, folder.plans_file, settings)

    def read(self) -> list[RivalRecord]:
        """All records.

        Raises:
            StorageError: If a file is damaged.
        """
        return [*self._rivals.read(), *self._plans.read()]

    def repair(self) -> None:
        """Cut off a torn last line, accept what is lost; only while holding the folder's lock."""
        accept_lost_latencies(self._folder)
        self._rivals.repair()
        self._plans.repair()

    def append(self, record: RivalRecord) -> None:
        """Add one record, synced to the disk."""
        journal = self._plans if record.entry == PLAN else self._rivals
        journal.append(record)
