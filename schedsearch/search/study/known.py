"""The finished trials of a run, told apart as the solver sees their schedules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from schedsearch.records import TrialRecord
from schedsearch.search.study.distinct import DistinctSchedules, Key


class FinishedTrials:
    """Records in the order they ended, and which schedules they settle.

    A schedule that failed counts as known until a later attempt gives it a result.

    Args:
        distinct: Tells schedules apart.
    """

    def __init__(self, distinct: DistinctSchedules) -> None:
        self._distinct = distinct
        self._records: list[TrialRecord] = []
        self._complete: dict[Key, TrialRecord] = {}

    def add(self, record: TrialRecord) -> None:
        """Note a trial that ended; the first result of a schedule is the one that counts."""
        self._records.append(record)
        if record.complete:
            self._complete.setdefault(self._distinct.key(record.schedule), record)

    @property
    def records(self) -> Sequence[TrialRecord]:
        """All of them, failures included."""
        return tuple(self._records)

    @property
    def num_complete(self) -> int:
        """Different schedules with a result."""
        return len(self._complete)

    @property
    def num_failed(self) -> int:
        """Different schedules that ended without a result and got none later."""
        return len(self.failed_keys() - self._complete.keys())

    def result_of(self, key: Key) -> TrialRecord | None:
        """The complete record of a schedule."""
        return self._complete.get(key)

    def failed_keys(self) -> set[Key]:
        """Schedules of which an attempt ended without a result."""
        return {self._distinct.key(r.schedule) for r in self._records if not r.complete}

    def keys(self, running: Iterable[Key] = ()) -> set[Key]:
        """Schedules that are not new: complete, failed, and those that run."""
        return self.failed_keys() | self._complete.keys() | set(running)
