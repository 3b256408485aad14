"""Reads a run: its trials, latencies, confirmation and front. Light and read-only."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence

from schedsearch.exceptions import NoResultError, StorageError
from schedsearch.pareto import hypervolume_in_box, non_dominated
from schedsearch.records import ConfirmRecord, TrialRecord
from schedsearch.runs.checks.journals import confirmation_journal, trial_journal
from schedsearch.runs.comparison import Comparison, compare, opponent_of
from schedsearch.runs.entry import FrontEntry, build_entry
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.latency_file import LatencyReport
from schedsearch.runs.starts.files import StartFiles
from schedsearch.runs.starts.records import StartCheck
from schedsearch.schedules.hand_made import FULL
from schedsearch.settings import StudySettings


class RunResults:
    """Everything that was measured in a run.

    Args:
        settings: The resolved search space.
        records: Finished trials.
        latency: Table and measurements, when there are any; measurements that further trials
            have made old are left out.
        confirmations: FIDs at held-out seeds.
        start: Whether fine-tunes started from exit adapters, where that was checked.
    """

    def __init__(
        self,
        settings: StudySettings,
        records: Sequence[TrialRecord],
        latency: LatencyReport | None,
        confirmations: Iterable[ConfirmRecord],
        start: StartCheck | None = None,
    ) -> None:
        self.settings, self.start = settings, start
        self.records = list(records)
        num_complete = sum(record.complete for record in self.records)
        self.latency = None if latency is None else latency.up_to_date(num_complete)
        every = list(confirmations)
        self.confirmations = [record for record in every if record.training_seed is None]
        """FIDs of the trials' own weights at held-out seeds."""
        self.retrained = [record for record in every if record.training_seed is not None]
        """FIDs of retrained weights."""
        self.entries = [
            build_entry(record, self.latency, self._confirmations_of(record.number))
            for record in self.records
            if record.complete
        ]

    @classmethod
    def load(cls, folder: RunFolder) -> RunResults:
        """Read a run folder, also while its driver works.

        Raises:
            StorageError: If a file is damaged or gone.
        """
        from schedsearch.runs.checks.space_file import read_space

        settings = read_space(folder)
        records, latency = trial_journal(folder, settings).read(), LatencyReport.load(folder)
        if latency is None and any(record.complete for record in records):
            raise StorageError(
                f"{folder.latency_file} is gone, and the times of the schedules with it. Restore "
                "it from a backup, or run the command that made it again: it is measured again."
            )
        return cls(
            settings,
            records,
            latency,
            confirmation_journal(folder, settings).read(),
            StartFiles(folder, settings).check(),
        )

    # ---- views ----------------------------------------------------------------------------

    def front(self) -> list[FrontEntry]:
        """The Pareto front by latency.

        Once latencies are measured it holds measured schedules only, since a predicted and a
        measured latency do not compare to the last percent.
        """
        entries = self.comparable()
        return [entries[i] for i in non_dominated([entry.point for entry in entries])]

    def comparable(self) -> list[FrontEntry]:
        """The schedules whose latencies compare."""
        measured = [entry for entry in self.entries if entry.latency.source == "measured"]
        return measured or self.entries

    @property
    def drift(self) -> float:
        """Measured over predicted latency, the median over schedules; 1 before any is measured.

        The machine may have become faster or slower since the table was measured.
        """
        ratios = [
            entry.latency.ms / entry.latency.predicted_ms
            for entry in self.entries
            if entry.latency.source == "measured"
        ]
        return statistics.median(ratios) if ratios else 1.0

    def full(self) -> FrontEntry | None:
        """The baseline that runs every block, when it was measured."""
        return next((entry for entry in self.entries if entry.name == FULL), None)

    def require_entry(self, trial: int) -> FrontEntry:
        """One complete trial.

        Raises:
            NoResultError: If the trial has no complete result.
        """
        for entry in self.entries:
            if entry.trial == trial:
                return entry
        known = ", ".join(str(entry.trial) for entry in self.entries) or "none"
        raise NoResultError(f"Trial {trial} has no complete result; trials that have: {known}.")

    def hand_made(self) -> list[FrontEntry]:
        """Presets that were measured, in the order of their trials."""
        chosen = [e for e in self.entries if e.name is not None and e.name != FULL]
        return sorted(chosen, key=lambda entry: entry.trial)

    def searched(self) -> list[FrontEntry]:
        """Schedules that the search proposed."""
        return [entry for entry in self.entries if entry.name is None]

    def require_front(self) -> list[FrontEntry]:
        """The front.

        Raises:
            NoResultError: If no trial is complete.
        """
        if not (front := self.front()):
            failed = sum(not record.complete for record in self.records)
            raise NoResultError(
                f"A front needs a complete trial, but there is none ({failed} failed). See "
                "log.txt in the folders under trials/."
            )
        return front

    @property
    def num_failed(self) -> int:
        """Schedules that ended without a result and got none later."""
        done = {record.depths for record in self.records if record.complete}
        return len({record.depths for record in self.records} - done)

    def hypervolume(self, entries: Sequence[FrontEntry] | None = None) -> float | None:
        """Hypervolume of schedules that compare, None for all, as a share of the box."""
        chosen = self.comparable() if entries is None else entries
        full = self.full()
        return hypervolume_in_box([e.point for e in chosen], None if full is None else full.point)

    def hand_made_hypervolume(self) -> float | None:
        """Hypervolume of full depth and the presets alone."""
        return self.hypervolume([e for e in self.comparable() if e.name is not None])

    def opponent_of(self, preset: FrontEntry) -> FrontEntry | None:
        """The searched schedule that a preset is compared with."""
        return opponent_of(preset, self.searched())

    def comparisons(self) -> list[Comparison]:
        """Each preset against its opponent."""
        num_seeds = self.settings.evaluation.confirm_seeds
        return [
            compare(preset, self.opponent_of(preset), self.retrained, num_seeds)
            for preset in self.hand_made()
        ]

    def seeds_on_front(self) -> dict[int, tuple[int, int]]:
        """By confirmed trial: at how many held-out seeds no other confirmed one dominates it."""
        confirmed = [entry for entry in self.comparable() if entry.confirmed]
        counts = {entry.trial: 0 for entry in confirmed}
        seeds = sorted({seed for entry in confirmed for seed in entry.fids_by_seed})
        for seed in seeds:
            there = [entry for entry in confirmed if seed in entry.fids_by_seed]
            points = [(entry.fids_by_seed[seed], entry.latency.ms) for entry in there]
            for i in non_dominated(points):
                counts[there[i].trial] += 1
        return {entry.trial: (counts[entry.trial], len(entry.confirmed)) for entry in confirmed}

    def _confirmations_of(self, trial: int) -> list[ConfirmRecord]:
        return [record for record in self.confirmations if record.number == trial]


def hypervolume_of(records: Iterable[TrialRecord]) -> float | None:
    """Hypervolume of finished trials by their predicted latencies."""
    complete = [(r.label, r.evaluation.values) for r in records if r.evaluation is not None]
    full = next((values for label, values in complete if label == FULL), None)
    return hypervolume_in_box([values for _, values in complete], full)
