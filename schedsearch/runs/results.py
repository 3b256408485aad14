"""Reads a run: its trials, latencies, confirmation and front. Light and read-only."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import replace

from schedsearch.exceptions import NoResultError
from schedsearch.schedules.hand_made import FULL
from schedsearch.pareto import non_dominated
from schedsearch.records import ConfirmRecord, TrialRecord
from schedsearch.runs.entry import FrontEntry, build_entry
from schedsearch.runs.journal import Journal
from schedsearch.runs.latency_file import LatencyReport, MeasuredLatency
from schedsearch.search.raised_rung import RaisedRung
from schedsearch.runs.folder import RunFolder
from schedsearch.search.volumes import (
    REFERENCE_FID,
    REFERENCE_LATENCY,
    hypervolume_in_box,
    hypervolume_of,
)
from schedsearch.settings import StudySettings
from schedsearch.statistics import rivals
from schedsearch.statistics.comparison import Comparison, compare_over_seeds
from schedsearch.statistics.over_training import compare_over_training

__all__ = [
    "REFERENCE_FID",
    "REFERENCE_LATENCY",
    "FrontEntry",
    "LatencyReport",
    "MeasuredLatency",
    "RunResults",
    "hypervolume_in_box",
    "hypervolume_of",
]


class RunResults:
    """Everything that was measured in a run.

    Args:
        settings: The resolved search space.
        records: Finished trials.
        latency: Table and measurements, when there are any; measurements that further trials
            have made old are left out.
        confirmations: FIDs at fresh seeds, of the runoffs and of the verdicts.
        raised: That the search's FIDs are not to be trusted. Then ``fid`` and ``kid`` of an
            entry are means over the fresh seeds, and only schedules measured there count.
    """

    def __init__(
        self,
        settings: StudySettings,
        records: Sequence[TrialRecord],
        latency: LatencyReport | None,
        confirmations: Iterable[ConfirmRecord],
        raised: RaisedRung | None = None,
    ) -> None:
        self.settings = settings
        self.records = list(records)
        num_complete = sum(record.complete for record in self.records)
        self.latency = None if latency is None else latency.up_to_date(num_complete)
        self.raised = raised
        every = list(confirmations)
        own = [record for record in every if record.training_seed is None]
        seeds = settings.evaluation.confirm_seeds_used
        self.confirmations = [record for record in own if record.seed in seeds]
        """FIDs of the trials' own weights at the seeds of the verdicts."""
        training_seeds = settings.confirm_training_seeds_used
        self.retrained = [r for r in every if r.training_seed in training_seeds]
        """The same of fine-tunes anew."""
        self._runoff = _runoff_fids(settings, every)
        self.entries = [
            build_entry(record, self.latency, self._of(record.number), raised=raised is not None)
            for record in self.records
            if record.complete
        ]

    @classmethod
    def load(cls, folder: RunFolder) -> RunResults:
        """Read a run folder, also while its driver works."""
        from schedsearch.config import settings_from_text

        settings = settings_from_text(folder.space_file.read_text(encoding="utf-8"))
        return cls(
            settings,
            Journal(folder.results_file, TrialRecord.from_json).read(),
            LatencyReport.load(folder),
            Journal(folder.confirmation_file, ConfirmRecord.from_json).read(),
            RaisedRung.load(folder),
        )

    # ---- views ----------------------------------------------------------------------------

    def front(self) -> list[FrontEntry]:
        """The Pareto front by latency.

        Once latencies are measured it holds measured schedules only, since a predicted and a
        measured latency do not compare to the last percent. With a raised rung it holds those
        that were measured there.
        """
        entries = self.comparable()
        return [entries[i] for i in non_dominated([entry.point for entry in entries])]

    def comparable(self) -> list[FrontEntry]:
        """The schedules whose FIDs and latencies compare."""
        entries = self.at_one_rung()
        measured = [entry for entry in entries if entry.latency_source == "measured"]
        return measured or entries

    def at_one_rung(self) -> list[FrontEntry]:
        """The schedules whose ``fid`` compares: all, or those that a raised rung has reached."""
        if self.raised is None:
            return self.entries
        seeds = len(self.settings.evaluation.confirm_seeds_used)
        return [entry for entry in self.entries if entry.confirm_seeds == seeds]

    @property
    def drift(self) -> float:
        """Measured over predicted latency, the median over schedules; 1 before any is measured.

        The machine may have become faster or slower since the table was measured.
        """
        ratios = [
            entry.latency_ms / entry.predicted_latency_ms
            for entry in self.entries
            if entry.latency_source == "measured"
        ]
        return statistics.median(ratios) if ratios else 1.0

    def full(self) -> FrontEntry | None:
        """The baseline that runs every block, when it was measured."""
        return next((entry for entry in self.entries if entry.name == FULL), None)

    def hand_made(self) -> list[FrontEntry]:
        """Presets that were measured, in the order of their trials."""
        chosen = [e for e in self.entries if e.name is not None and e.name != FULL]
        return sorted(chosen, key=lambda entry: entry.trial)

    def searched(self) -> list[FrontEntry]:
        """Schedules that the search proposed."""
        return [entry for entry in self.entries if entry.name is None]

    def candidates(self) -> list[FrontEntry]:
        """Searched schedules with the search's own FIDs, which choose the presets' rivals."""
        return [replace(entry, fid=entry.fid_search) for entry in self.searched()]

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
        """Hypervolume of schedules that compare, None for all; see :func:`hypervolume_in_box`."""
        chosen = self.comparable() if entries is None else entries
        full = self.full()
        return hypervolume_in_box([e.point for e in chosen], None if full is None else full.point)

    def contenders_for(self, preset: FrontEntry) -> list[FrontEntry]:
        """The searched schedules that may become a preset's rival, by the search's FID."""
        return rivals.contenders_for(
            preset, self.candidates(), self.settings.evaluation.runoff_size
        )

    def likely_contenders_for(self, preset: FrontEntry) -> list[FrontEntry]:
        """Those that may become contenders once their latency is measured.

        Some more than take part in a runoff, since measured latencies turn some away.
        """
        evaluation = self.settings.evaluation
        size = evaluation.runoff_size + (rivals.SPARES if evaluation.runoff_seeds else 0)
        return rivals.likely_contenders_for(preset, self.candidates(), size)

    def rival_of(self, preset: FrontEntry) -> FrontEntry | None:
        """The best searched schedule that is no slower than a preset, by the runoff."""
        return rivals.winner_of(self.contenders_for(preset), self._runoff)

    def comparisons(self) -> list[Comparison]:
        """Each preset against its rival, paired by seed.

        Over training and evaluation seeds where both were fine-tuned anew with every training
        seed, over evaluation seeds alone elsewhere.
        """
        return self._compared(self.confirmations, self.retrained)

    def fids_by_seed(self, trial: int, *, audited: bool = False) -> dict[int, float]:
        """Confirmed FIDs of a trial by fresh seed, for paired comparisons.

        Args:
            trial: Trial number.
            audited: Those of the auditor.
        """
        found = {r.seed: r.audit_fid if audited else r.fid for r in self._of(trial)}
        return {seed: fid for seed, fid in found.items() if fid is not None}

    def audit(self) -> list[Comparison]:
        """The same comparisons by the auditor's FID; it chose none of the pairs."""
        return self._compared(_by_auditor(self.confirmations), _by_auditor(self.retrained))

    def _compared(
        self, own: Sequence[ConfirmRecord], retrained: Sequence[ConfirmRecord]
    ) -> list[Comparison]:
        met = [(preset, self.rival_of(preset)) for preset in self.hand_made()]
        pairs = [(preset.trial, rival.trial) for preset, rival in met if rival is not None]
        by_seed = {found.preset: found for found in compare_over_seeds(pairs, own)}
        anew = compare_over_training(
            pairs,
            retrained,
            training_seeds=self.settings.confirm_training_seeds_used,
            seeds=self.settings.evaluation.confirm_seeds_used,
        )
        by_seed |= {found.preset: found for found in anew}
        return [by_seed[preset] for preset, _ in pairs if preset in by_seed]

    def _of(self, trial: int) -> list[ConfirmRecord]:
        return [record for record in self.confirmations if record.number == trial]


def _by_auditor(records: Sequence[ConfirmRecord]) -> list[ConfirmRecord]:
    return [replace(r, fid=r.audit_fid) for r in records if r.audit_fid is not None]


def _runoff_fids(settings: StudySettings, records: Sequence[ConfirmRecord]) -> dict[int, float]:
    """Mean FID by trial, of the trials that were measured at all seeds and so compare."""
    seeds = settings.evaluation.runoff_seeds_used
    training_seeds: Sequence[int | None] = settings.runoff_training_seeds_used or [None]
    fids: dict[int, dict[tuple[int | None, int], float]] = {}
    for record in records:
        if record.seed in seeds and record.training_seed in training_seeds:
            fids.setdefault(record.number, {})[record.training_seed, record.seed] = record.fid
    cells = len(seeds) * len(training_seeds)
    return {n: sum(f.values()) / cells for n, f in fids.items() if len(f) == cells}
