"""One method of a comparison: a row with its latency, or a schedule of the search."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any

from schedsearch.runs.entry import FrontEntry, Judges, judges_of
from schedsearch.runs.front_files import edges_row
from schedsearch.runs.methods.records import RivalRecord, SeedQuality
from schedsearch.statistics.intervals import Estimate, estimate
from schedsearch.statistics.paired import PairedDifference, paired_difference

SEARCHED = "searched"
"""Entry of the schedules that the search found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodEntry:
    """One method of a comparison: a row, or a schedule of the search."""

    name: str
    entry: str
    """Its key in ``rivals``, or ``full``, ``presets`` or ``searched``."""
    method: str
    """Its kind: ``schedule``, ``steps``, ``uncertainty``, ..."""
    run: str = ""
    """Its run folder, where several are shown together."""
    records: tuple[RivalRecord, ...] = ()
    """One per training seed; empty for a schedule of the search."""
    trial: FrontEntry | None = None
    """The trial of a schedule of the search."""
    ms: float | None = None
    """Milliseconds per batch; None before latencies are measured."""
    half_width_ms: float | None = None
    p95_ms: float | None = None
    ratio: float | None = None
    """Time as a share of full depth's."""
    share: float | None = 1.0
    """Blocks run / all blocks; None for a schedule of a custom network without a row."""

    @property
    def first(self) -> RivalRecord:
        """The row with the first training seed."""
        return self.records[0]

    @property
    def fid(self) -> float:
        """FID at the search's evaluation seed."""
        return self.first.fid if self.records else _trial(self).fid

    @property
    def latency_ms(self) -> float:
        """Milliseconds per batch, for what picks by latency."""
        assert self.ms is not None
        return self.ms

    @property
    def point(self) -> tuple[float, float]:
        """(FID, latency)."""
        return self.fid, self.latency_ms

    @property
    def title(self) -> str:
        """Name for people."""
        return self.name

    @property
    def depths(self) -> tuple[int, ...] | None:
        """Blocks per interval; None where a method has none."""
        return None if self.trial is None else self.trial.depths

    def fids(self, *, audit: bool = False) -> dict[int, float]:
        """FID by held-out seed, mean over training seeds; by the auditor if asked."""
        if not self.records:
            found = _trial(self).confirmed
            pairs = [(r.seed, r.audit_fid if audit else r.fid) for r in found]
            return {seed: fid for seed, fid in pairs if fid is not None}
        by_seed: dict[int, list[float]] = {}
        for quality in self._held_out():
            fid = quality.audit_fid if audit else quality.fid
            if fid is not None:
                by_seed.setdefault(quality.seed, []).append(fid)
        return {seed: statistics.fmean(fids) for seed, fids in by_seed.items()}

    @property
    def fids_by_seed(self) -> dict[int, float]:
        """FID by held-out seed."""
        return self.fids()

    @property
    def audits_by_seed(self) -> dict[int, float]:
        """FID by the auditor, by held-out seed."""
        return self.fids(audit=True)

    @property
    def judges(self) -> Judges:
        """What other judges say of its images."""
        if not self.records:
            return _trial(self).judges
        return judges_of(self._held_out(), self.first.reference_std)

    @property
    def estimate(self) -> Estimate | None:
        """Mean FID over held-out seeds; None with fewer than two."""
        return estimate(list(self.fids().values()))

    @property
    def shown_fid(self) -> float:
        """Mean FID over held-out seeds, or the search's where there is none."""
        fids = self.fids()
        return statistics.fmean(fids.values()) if fids else self.fid

    @property
    def features(self) -> str:
        """Extractor behind its FIDs."""
        return self.first.features if self.records else _trial(self).evaluation.features

    @property
    def num_samples(self) -> int:
        """Images at the search's evaluation seed."""
        return self.first.num_samples if self.records else _trial(self).evaluation.num_samples

    @property
    def shown_samples(self) -> int:
        """Images of each seed behind ``shown_fid``; only equal numbers compare."""
        if not self.records:
            confirmed = _trial(self).confirmed
            return confirmed[0].num_samples if confirmed else self.num_samples
        return (self.num_held_out and self.first.confirm_samples) or self.num_samples

    @property
    def audit_fid(self) -> float | None:
        """Mean FID by the auditor."""
        fids = self.fids(audit=True)
        return statistics.fmean(fids.values()) if fids else None

    @property
    def num_held_out(self) -> int:
        """Held-out seeds; 0 where only the search's seed was measured."""
        if not self.records:
            return len(_trial(self).confirmed)
        return len(self.first.qualities) - 1

    def _held_out(self) -> list[SeedQuality]:
        """Qualities of the held-out seeds, or the search's where there are none."""
        return [q for record in self.records for q in record.qualities[1:] or record.qualities]

    def against(self, other: MethodEntry) -> PairedDifference | None:
        """FID(self) - FID(other), paired by training seed where there are two, else by seed.

        None where there are no pairs, or the two were measured with unequal numbers of images.
        """
        if self.shown_samples != other.shown_samples:
            return None
        seeds = [record.training_seed for record in self.records]
        if len(self.records) > 1 and None not in seeds:
            ours = {int(seed or 0): _mean(r) for seed, r in zip(seeds, self.records, strict=True)}
            by_seed = {r.training_seed: _mean(r) for r in other.records}
            theirs = {seed: by_seed.get(seed, other.shown_fid) for seed in ours}
            return paired_difference(ours, theirs)
        return paired_difference(self.fids(), other.fids())


def method_row(entry: MethodEntry, full: MethodEntry | None) -> dict[str, Any]:
    """One method as plain data."""
    record = entry.first if entry.records else None
    found, difference = entry.estimate, None if full is None else entry.against(full)
    trial = entry.trial
    return {
        "method": entry.method,
        "name": entry.name,
        "trial": None if trial is None else trial.trial,
        "depths": None if trial is None else list(trial.depths),
        **({} if trial is None else edges_row(trial)),
        "fid": entry.fid,
        "fid_held_out": entry.shown_fid if entry.num_held_out else None,
        "fid_ci95": None if found is None else list(found.ci95),
        "fid_over_full": None if difference is None else difference.mean,
        "fid_over_full_half_width": None if difference is None else difference.half_width,
        "fid_audit": entry.audit_fid,
        **asdict(entry.judges),
        "num_samples": entry.num_samples,
        "confirm_seeds": entry.num_held_out,
        "confirm_samples": entry.shown_samples if entry.num_held_out else None,
        "features": entry.features,
        "decision_batch": None if record is None else record.decision_batch,
        "latency_ms": entry.ms,
        "latency_half_width_ms": entry.half_width_ms,
        "latency_p95_ms": entry.p95_ms,
        "acceleration": None if entry.ratio is None else 1.0 - entry.ratio,
        "share": entry.share,
        "macs": None if record is None else record.macs,
        "extra_parameters": None if record is None else record.extra_parameters,
        "held_bytes": None if record is None else record.held_bytes,
        "training_samples": None if record is None else record.training_samples,
        "training_seconds": None if record is None else record.training_seconds,
        "calibration_samples": None if record is None else record.calibration_samples,
        "calibration_seconds": None if record is None else record.calibration_seconds,
        "time_share": None if record is None else record.time_share,
        "note": "" if record is None else record.note,
    }


def _trial(entry: MethodEntry) -> FrontEntry:
    assert entry.trial is not None
    return entry.trial


def _mean(record: RivalRecord) -> float:
    return statistics.fmean(q.fid for q in record.qualities[1:] or record.qualities)
