"""Reads a run: its trials, latencies, confirmation and front. Light and read-only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from schedsearch.exceptions import NoResultError
from schedsearch.hand_made import FULL
from schedsearch.pareto import non_dominated
from schedsearch.records import ConfirmRecord, TrialRecord
from schedsearch.search.journal import Journal
from schedsearch.search.latency_report import LatencyReport, MeasuredLatency
from schedsearch.search.run_folder import RunFolder
from schedsearch.search.volumes import (
    REFERENCE_FID,
    REFERENCE_LATENCY,
    hypervolume_in_box,
    hypervolume_of,
)
from schedsearch.settings import StudySettings
from schedsearch.statistics.comparison import (
    Comparison,
    compare_with_presets,
    mean_interval,
    rival_of,
)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEntry:
    """One finished schedule, as ``front`` shows it."""

    trial: int
    name: str | None
    depths: tuple[int, ...]
    fid: float
    kid: float
    latency_ms: float
    latency_source: str
    latency_spread_ms: float | None
    predicted_latency_ms: float
    acceleration: float
    num_samples: int
    features: str
    fid_confirmed: float | None = None
    """Mean over the fresh seeds."""
    fid_ci95: tuple[float, float] | None = None
    """95 % interval of that mean, over evaluation seeds."""
    confirm_seeds: int = 0
    confirm_samples: int = 0
    """Images per fresh seed; with another number than ``num_samples`` the two FIDs do not
    compare.
    """
    confirm_steps: int = 0
    """Steps by which the fine-tune was continued before those seeds."""
    fid_audited: float | None = None
    """Mean over the fresh seeds by ``evaluation.auditor``."""
    origin: str | None = None
    """``dp`` for a schedule that the error table proposed, None for the sampler's."""

    @property
    def title(self) -> str:
        """Name for people."""
        return self.name or f"trial {self.trial}"

    @property
    def point(self) -> tuple[float, float]:
        """(FID, latency)."""
        return self.fid, self.latency_ms


class RunResults:
    """Everything that was measured in a run.

    Args:
        settings: The resolved search space.
        records: Finished trials.
        latency: Table and measurements, when there are any.
        confirmations: FIDs at fresh seeds, of the runoffs and of the verdicts.
    """

    def __init__(
        self,
        settings: StudySettings,
        records: Sequence[TrialRecord],
        latency: LatencyReport | None,
        confirmations: Iterable[ConfirmRecord],
    ) -> None:
        self.settings = settings
        self.records = list(records)
        self.latency = latency
        every = list(confirmations)
        seeds = settings.evaluation.confirm_seeds_used
        self.confirmations = [record for record in every if record.seed in seeds]
        """FIDs at the seeds of the verdicts."""
        self._runoff = _mean_fids(
            [r for r in every if r.seed in settings.evaluation.runoff_seeds_used],
            num_seeds=settings.evaluation.runoff_seeds,
        )
        self.entries = [self._entry(record) for record in self.records if record.complete]

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
        )

    def _entry(self, record: TrialRecord) -> FrontEntry:
        evaluation = record.evaluation
        assert evaluation is not None  # complete records only
        latency, source, spread = evaluation.latency_ms, evaluation.latency_source, None
        acceleration = 0.0
        if self.latency is not None:
            acceleration = 1.0 - latency / self.latency.full_ms
            if (measured := self.latency.measured.get(record.number)) is not None:
                latency, spread = measured.latency_ms, measured.spread_ms
                source, acceleration = "measured", measured.acceleration
        confirmed = self._of(record.number)
        fids = [c.fid for c in confirmed]
        audited = [c.audit_fid for c in confirmed if c.audit_fid is not None]
        mean, interval = mean_interval(fids) if len(fids) > 1 else (None, None)
        return FrontEntry(
            trial=record.number,
            name=record.label,
            depths=record.depths,
            fid=evaluation.fid,
            kid=evaluation.kid,
            latency_ms=latency,
            latency_source=source,
            latency_spread_ms=spread,
            predicted_latency_ms=evaluation.latency_ms,
            acceleration=acceleration,
            num_samples=evaluation.num_samples,
            features=evaluation.features,
            fid_confirmed=mean,
            fid_ci95=interval,
            confirm_seeds=len(fids),
            confirm_samples=confirmed[0].num_samples if confirmed else 0,
            confirm_steps=confirmed[0].num_steps if confirmed else 0,
            fid_audited=sum(audited) / len(audited) if len(audited) > 1 else None,
            origin=record.origin,
        )

    # ---- views ----------------------------------------------------------------------------

    def front(self) -> list[FrontEntry]:
        """The Pareto front by latency.

        Once latencies are measured it holds measured schedules only, since a predicted and a
        measured latency do not compare to the last percent.
        """
        entries = self.entries
        if any(entry.latency_source == "measured" for entry in entries):
            entries = [entry for entry in entries if entry.latency_source == "measured"]
        return [entries[i] for i in non_dominated([entry.point for entry in entries])]

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
        """Hypervolume of schedules, None for all; see :func:`hypervolume_in_box`."""
        chosen = self.entries if entries is None else entries
        full = self.full()
        return hypervolume_in_box([e.point for e in chosen], None if full is None else full.point)

    def rival_of(self, preset: FrontEntry) -> FrontEntry | None:
        """The best searched schedule that is no slower than a preset."""
        return rival_of(preset, self.searched(), self._runoff)

    def comparisons(self) -> list[Comparison]:
        """Each preset against its rival, paired by seed."""
        return compare_with_presets(
            self.hand_made(), self.searched(), self.confirmations, self._runoff
        )

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
        audited = [
            replace(record, fid=record.audit_fid)
            for record in self.confirmations
            if record.audit_fid is not None
        ]
        return compare_with_presets(self.hand_made(), self.searched(), audited, self._runoff)

    def _of(self, trial: int) -> list[ConfirmRecord]:
        return [record for record in self.confirmations if record.number == trial]


def _mean_fids(records: Sequence[ConfirmRecord], num_seeds: int) -> dict[int, float]:
    """Mean FID by trial, of the trials that were measured at all seeds and so compare."""
    fids: dict[int, dict[int, float]] = {}
    for record in records:
        fids.setdefault(record.number, {})[record.seed] = record.fid
    return {n: sum(f.values()) / num_seeds for n, f in fids.items() if len(f) == num_seeds}
