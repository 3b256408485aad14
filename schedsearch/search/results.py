"""Reads a run: its trials, latencies, confirmation and front. Light and read-only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from schedsearch.atomic import write_text
from schedsearch.exceptions import NoResultError, StorageError
from schedsearch.hand_made import FULL
from schedsearch.pareto import hypervolume, non_dominated
from schedsearch.records import ConfirmRecord, TrialRecord
from schedsearch.search.comparison import (
    Comparison,
    compare_with_presets,
    mean_interval,
    rival_of,
)
from schedsearch.search.journal import Journal
from schedsearch.search.run_folder import RunFolder
from schedsearch.settings import StudySettings

REFERENCE_FID = 3.0
REFERENCE_LATENCY = 1.01
"""The hypervolume's reference point: 3 x full depth's FID and 1.01 x its latency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredLatency:
    """Latency of one trial's schedule, measured after the last trial with workers idle."""

    latency_ms: float
    spread_ms: float
    """Half-width of the 95 % interval of the median."""
    acceleration: float
    """Share of time saved against full depth, median over paired rounds."""
    repeats: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyReport:
    """``latency.json``: the table before the first trial, the measurements after the last."""

    table: Mapping[str, Any]
    full_ms: float
    """Predicted latency of full depth."""
    measured: Mapping[int, MeasuredLatency] = field(default_factory=dict)
    """By trial number."""
    full_measured_ms: float | None = None
    measured_after: int = 0
    """Complete trials when ``measured`` was taken; with more since then it is out of date."""
    weights: str = ""
    """Fingerprint of the pretrained weights that all trials of the run start from."""

    def save(self, folder: RunFolder) -> None:
        """Replace the run's ``latency.json``."""
        try:
            write_text(folder.latency_file, json.dumps(asdict(self), indent=1) + "\n")
        except OSError as error:
            raise StorageError(f"Cannot write {folder.latency_file}: {error}.") from error

    @classmethod
    def load(cls, folder: RunFolder) -> LatencyReport | None:
        """Read it; None when the run has not come that far."""
        try:
            data = json.loads(folder.latency_file.read_text(encoding="utf-8"))
            measured = {int(n): MeasuredLatency(**m) for n, m in data.pop("measured").items()}
            return cls(**data, measured=measured)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise StorageError(
                f"Cannot read {folder.latency_file}: {error}. Delete it; it is measured again."
            ) from error


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
        confirmed = [c for c in self.confirmations if c.number == record.number]
        fids = [c.fid for c in confirmed]
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


def _mean_fids(records: Sequence[ConfirmRecord], num_seeds: int) -> dict[int, float]:
    """Mean FID by trial, of the trials that were measured at all seeds and so compare."""
    fids: dict[int, dict[int, float]] = {}
    for record in records:
        fids.setdefault(record.number, {})[record.seed] = record.fid
    return {n: sum(f.values()) / num_seeds for n, f in fids.items() if len(f) == num_seeds}


def hypervolume_of(records: Iterable[TrialRecord]) -> float | None:
    """Hypervolume of finished trials by their predicted latencies."""
    complete = [(r.label, r.evaluation.values) for r in records if r.evaluation is not None]
    full = next((values for label, values in complete if label == FULL), None)
    return hypervolume_in_box([values for _, values in complete], full)


def hypervolume_in_box(
    points: Sequence[tuple[float, float]], full: tuple[float, float] | None
) -> float | None:
    """Hypervolume as a share of the box up to the reference point, in [0, 1].

    Args:
        points: (FID, latency) of schedules.
        full: The same of full depth, which sets the units; None gives None.
    """
    if full is None or not (full[0] > 0 and full[1] > 0):
        return None
    scaled = [(fid / full[0], latency / full[1]) for fid, latency in points]
    reference = (REFERENCE_FID, REFERENCE_LATENCY)
    return hypervolume(scaled, reference) / (REFERENCE_FID * REFERENCE_LATENCY)
