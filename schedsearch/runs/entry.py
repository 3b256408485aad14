"""One finished schedule with all that a run knows of it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from schedsearch.formatting import fid_title
from schedsearch.records import ConfirmRecord, Evaluation, TrialRecord
from schedsearch.runs.latency_file import LatencyReport
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.statistics.intervals import Estimate, estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryLatency:
    """What a schedule costs, in milliseconds per batch."""

    ms: float
    source: str
    """``measured`` after the last trial; ``predicted`` by the latency table; ``in place`` by the
    trial's own worker, where others were measured later."""
    half_width_ms: float | None
    """Half of the 95 % interval; None unless measured after the last trial."""
    predicted_ms: float
    acceleration: float
    """Share of full depth's time that is saved."""


class JudgedImages(Protocol):
    """A record of the images of one evaluation seed."""

    @property
    def sample_std(self) -> float:
        """Pixel standard deviation."""
        ...

    @property
    def nn_distance(self) -> float | None:
        """Mean distance to the nearest training image."""
        ...

    @property
    def near_copies(self) -> float | None:
        """Share of near copies of training images."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Judges:
    """Means over the held-out evaluation seeds, or of the search's where there are none."""

    sample_std: float
    reference_std: float | None
    nn_distance: float | None
    near_copies: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEntry:
    """A complete trial with its latency and its held-out measurements."""

    record: TrialRecord
    latency: EntryLatency
    confirmed: tuple[ConfirmRecord, ...] = ()
    """The trial's own weights at the held-out evaluation seeds."""

    @property
    def evaluation(self) -> Evaluation:
        """What the search saw."""
        assert self.record.evaluation is not None  # complete records only
        return self.record.evaluation

    @property
    def trial(self) -> int:
        """Trial number."""
        return self.record.number

    @property
    def name(self) -> str | None:
        """Name of a warm start; None for a schedule that the search proposed."""
        return self.record.label

    @property
    def title(self) -> str:
        """Name for people."""
        return self.name or f"trial {self.trial}"

    @property
    def depths(self) -> tuple[int, ...]:
        """Blocks per interval, data -> noise."""
        return self.record.depths

    @property
    def schedule(self) -> ExitSchedule:
        """The schedule that ran."""
        return self.record.schedule

    @property
    def fid(self) -> float:
        """FID at the search's evaluation seed."""
        return self.evaluation.fid

    @property
    def fid_title(self) -> str:
        """What this FID is called."""
        return fid_title(self.evaluation.features, self.evaluation.num_samples)

    @property
    def latency_ms(self) -> float:
        """Latency in milliseconds per batch."""
        return self.latency.ms

    @property
    def point(self) -> tuple[float, float]:
        """(FID, latency)."""
        return self.fid, self.latency.ms

    @property
    def fids_by_seed(self) -> dict[int, float]:
        """FID by held-out seed."""
        return {record.seed: record.fid for record in self.confirmed}

    @property
    def audits_by_seed(self) -> dict[int, float]:
        """FID by the auditor, by held-out seed."""
        return {r.seed: r.audit_fid for r in self.confirmed if r.audit_fid is not None}

    @property
    def judges(self) -> Judges:
        """What other judges say of its images."""
        return judges_of(self.confirmed or [self.evaluation], self.evaluation.reference_std)

    @property
    def held_out_fid(self) -> Estimate | None:
        """Mean FID over the held-out seeds; None with fewer than two."""
        return estimate([record.fid for record in self.confirmed])

    @property
    def audit_fid(self) -> Estimate | None:
        """The same by the auditor, where it judged every seed."""
        fids = [r.audit_fid for r in self.confirmed if r.audit_fid is not None]
        return estimate(fids) if len(fids) == len(self.confirmed) else None


def judges_of(records: Sequence[JudgedImages], reference_std: float | None) -> Judges:
    """Mean over records; None where one has no value.

    Args:
        records: One per evaluation and training seed.
        reference_std: Pixel standard deviation of the reference images.
    """
    return Judges(
        sample_std=statistics.fmean(record.sample_std for record in records),
        reference_std=reference_std,
        nn_distance=_mean_of_all([record.nn_distance for record in records]),
        near_copies=_mean_of_all([record.near_copies for record in records]),
    )


def _mean_of_all(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if len(there) == len(values) else None


def build_entry(
    record: TrialRecord, report: LatencyReport | None, confirmed: Sequence[ConfirmRecord]
) -> FrontEntry:
    """What is known of a complete trial.

    Args:
        record: The trial.
        report: Latencies, when there are any.
        confirmed: Its FIDs at the held-out seeds.
    """
    assert record.evaluation is not None  # complete records only
    latency = _latency(record, record.evaluation, report)
    return FrontEntry(record=record, latency=latency, confirmed=tuple(confirmed))


def _latency(
    record: TrialRecord, evaluation: Evaluation, report: LatencyReport | None
) -> EntryLatency:
    ms, source = evaluation.latency_ms, str(evaluation.latency_source)
    if report is None:
        return EntryLatency(
            ms=ms, source=source, half_width_ms=None, predicted_ms=ms, acceleration=0.0
        )
    # NOTE: not the record's own value, which another table made if resources have changed since.
    predicted = report.predicted_ms(record.depths) or ms
    if (measured := report.measured.get(record.number)) is not None:
        return EntryLatency(
            ms=measured.latency_ms,
            source="measured",
            half_width_ms=measured.half_width_ms,
            predicted_ms=predicted,
            acceleration=measured.acceleration,
        )
    if source == "predicted":
        ms = predicted
    elif report.measured:
        source = "in place"
    return EntryLatency(
        ms=ms,
        source=source,
        half_width_ms=None,
        predicted_ms=predicted,
        acceleration=1.0 - ms / report.full_ms,
    )
