"""Records of all methods of a run: ``rivals.jsonl``, and plans in ``plans.jsonl``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedsearch.runs.journal import Journal
from schedsearch.runs.methods.records import RivalRecord
from schedsearch.settings.plan import PLAN

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder


class MethodJournals:
    """The two journals of a run folder, read as one.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._rivals = Journal(folder.rivals_file, RivalRecord.from_json)
        self._plans = Journal(folder.plans_file, RivalRecord.from_json)

    def read(self) -> list[RivalRecord]:
        """All records.

        Raises:
            StorageError: If a file is damaged.
        """
        return [*self._rivals.read(), *self._plans.read()]

    def repair(self) -> None:
        """Cut off a torn last line; only while holding the folder's lock."""
        self._rivals.repair()
        self._plans.repair()

    def append(self, record: RivalRecord) -> None:
        """Add one record, synced to the disk."""
        journal = self._plans if record.entry == PLAN else self._rivals
        journal.append(record)
