"""Reads a comparison: every row with its latency, beside the schedules of the search."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from schedsearch.exceptions import ConfigError, NoResultError, StorageError
from schedsearch.pareto import non_dominated
from schedsearch.runs.front_files import rows_as
from schedsearch.runs.journal import Journal
from schedsearch.runs.results import RunResults
from schedsearch.runs.rival_records import RivalRecord
from schedsearch.settings.rows import FULL, TWIN
from schedsearch.statistics.intervals import Estimate, estimate
from schedsearch.statistics.paired import PairedDifference, paired_difference

if TYPE_CHECKING:
    from schedsearch.runs.entry import FrontEntry
    from schedsearch.runs.folder import RunFolder

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
    share: float = 1.0
    """Blocks run / all blocks."""

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
        for record in self.records:
            for quality in record.qualities[1:] or record.qualities:
                fid = quality.audit_fid if audit else quality.fid
                if fid is not None:
                    by_seed.setdefault(quality.seed, []).append(fid)
        return {seed: statistics.fmean(fids) for seed, fids in by_seed.items()}

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
    def audit_fid(self) -> float | None:
        """Mean FID by the auditor."""
        fids = self.fids(audit=True)
        return statistics.fmean(fids.values()) if fids else None

    def against(self, other: MethodEntry) -> PairedDifference | None:
        """FID(self) - FID(other), paired by training seed where there are two, else by seed."""
        seeds = [record.training_seed for record in self.records]
        if len(self.records) > 1 and None not in seeds:
            ours = {int(seed or 0): _mean(r) for seed, r in zip(seeds, self.records, strict=True)}
            by_seed = {r.training_seed: _mean(r) for r in other.records}
            theirs = {seed: by_seed.get(seed, other.shown_fid) for seed in ours}
            return paired_difference(ours, theirs)
        return paired_difference(self.fids(), other.fids())


class MethodResults:
    """All methods of a run folder.

    Args:
        run: The search in the same folder; it may hold no trial.
        records: Rows; of equal rows the last.
        latency: Content of ``methods/latency.json``.
    """

    def __init__(
        self, run: RunResults, records: Sequence[RivalRecord], latency: Mapping[str, Any]
    ) -> None:
        self.run = run
        self._latency = latency
        newest = {(r.name, r.training_seed): r for r in records}
        self.failed = [r for r in newest.values() if r.failed is not None]
        by_name: dict[str, list[RivalRecord]] = {}
        for record in newest.values():
            if record.failed is None:
                by_name.setdefault(record.name, []).append(record)
        self.entries = [self._entry(name, found) for name, found in by_name.items()]

    @classmethod
    def load(cls, folder: RunFolder) -> Self:
        """Read a run folder.

        Raises:
            StorageError: If a file is damaged.
        """
        try:
            latency = json.loads(folder.method_latency_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            latency = {}
        except (OSError, ValueError) as error:
            raise StorageError(
                f"Cannot read {folder.method_latency_file}: {error}. Delete it; it is measured "
                "again."
            ) from error
        records = Journal(folder.rivals_file, RivalRecord.from_json).read()
        return cls(RunResults.load(folder), records, latency)

    def latency_data(self, protocol: Mapping[str, Any]) -> dict[str, Any]:
        """The kept latencies of a protocol, to be added to."""
        if self._latency.get("protocol") != protocol:
            return {"protocol": dict(protocol), "rows": {}, "digests": {}}
        return {key: dict(value) for key, value in self._latency.items()}

    # ---- views ----------------------------------------------------------------------------

    @property
    def protocol(self) -> dict[str, Any]:
        """What must agree for methods of two runs to compare."""
        first = next(iter(self.entries), None)
        return {
            "quality": None if first is None else first.first.protocol,
            "num_seeds": None if first is None else len(first.first.qualities),
            "latency": self._latency.get("protocol"),
        }

    def full(self) -> MethodEntry | None:
        """The pretrained network at full depth."""
        return next((entry for entry in self.entries if entry.name == FULL), None)

    def searched(self) -> list[MethodEntry]:
        """Schedules of the search's front that have no row of the same name."""
        names = {entry.name for entry in self.entries}
        report = self.run.latency
        found = []
        for trial in self.run.front():
            if trial.title in names:
                continue
            visits = () if report is None else report.visits
            found.append(
                MethodEntry(
                    name=trial.title,
                    entry=SEARCHED,
                    method="schedule",
                    trial=trial,
                    ms=trial.latency.ms,
                    half_width_ms=trial.latency.half_width_ms,
                    ratio=1.0 - trial.latency.acceleration,
                    share=_share_of(trial.depths, visits, self._full_depth()),
                )
            )
        return found

    def all(self) -> list[MethodEntry]:
        """Rows with a latency, and the schedules of the search, by latency."""
        timed = [entry for entry in self.entries if entry.ms is not None]
        return sorted([*timed, *self.searched()], key=lambda entry: entry.latency_ms)

    def front(self) -> list[MethodEntry]:
        """The Pareto front of all methods by the search's seed, full depth always among them."""
        entries = self.all()
        best = {id(entries[i]) for i in non_dominated([entry.point for entry in entries])}
        return [e for e in entries if id(e) in best or e.name == FULL]

    def require_front(self) -> list[MethodEntry]:
        """The front.

        Raises:
            NoResultError: If nothing is measured.
        """
        if not (front := self.front()):
            raise NoResultError(
                "A front of all methods needs measured rows, but there are none. Run "
                "`schedsearch compare SPACE` in this folder first."
            )
        return front

    def twin_of(self, entry: MethodEntry) -> MethodEntry | None:
        """The schedule with a dynamic method's mean depths."""
        return next((e for e in self.entries if e.name == entry.name + TWIN), None)

    def as_rows(self) -> list[dict[str, Any]]:
        """All methods as plain data, by latency."""
        return [method_row(entry, self.full()) for entry in self.all()]

    def as_csv(self) -> str:
        """All methods as CSV."""
        return rows_as("csv", self.as_rows())

    # ---- reading --------------------------------------------------------------------------

    @cached_property
    def full_ms(self) -> float:
        """Milliseconds of full depth that all ratios are shown with."""
        report = self.run.latency
        if report is not None and report.full_measured_ms is not None:
            return report.full_measured_ms
        return statistics.median(float(row["full_ms"]) for row in self._latency["rows"].values())

    def _full_depth(self) -> int:
        full = self.run.full()
        return max(full.depths) if full is not None else self.run.settings.space.max_depth

    def _entry(self, name: str, records: Sequence[RivalRecord]) -> MethodEntry:
        ordered = sorted(records, key=lambda r: -1 if r.training_seed is None else r.training_seed)
        first = ordered[0]
        timed = dict(self._latency.get("rows", {})).get(name)
        if dict(self._latency.get("digests", {})).get(name) != first.config_sha256:
            timed = None
        entry = MethodEntry(
            name=name,
            entry=first.entry,
            method=first.kind,
            records=tuple(ordered),
            share=first.share,
        )
        if timed is None:
            return entry
        # NOTE: the machine's speed may have changed since the search; ratios have not.
        ratio = 1.0 if name == FULL else timed["ratio"]
        return replace(
            entry,
            ms=ratio * self.full_ms,
            half_width_ms=timed["half_width"] * self.full_ms,
            p95_ms=timed["p95_ms"] / timed["full_ms"] * self.full_ms,
            ratio=ratio,
        )


def check_comparable(results: Mapping[str, MethodResults]) -> None:
    """Refuse runs whose values mean different things.

    Args:
        results: Comparisons by the name of their folder.

    Raises:
        ConfigError: With what differs.
    """
    (first, ours), *others = results.items()
    for name, theirs in others:
        for key, value in ours.protocol.items():
            if theirs.protocol[key] != value:
                raise ConfigError(
                    f"Methods compare by one protocol, but {first} and {name} differ in their "
                    f"{key} protocol: {value} and {theirs.protocol[key]}. Measure both alike."
                )


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
        "fid": entry.fid,
        "fid_held_out": entry.shown_fid,
        "fid_ci95": None if found is None else list(found.ci95),
        "fid_over_full": None if difference is None else difference.mean,
        "fid_over_full_half_width": None if difference is None else difference.half_width,
        "fid_audit": entry.audit_fid,
        "num_samples": record.num_samples if record else _trial(entry).evaluation.num_samples,
        "features": record.features if record else _trial(entry).evaluation.features,
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
        "calibration_seconds": None if record is None else record.calibration_seconds,
        "time_share": None if record is None else record.time_share,
        "note": "" if record is None else record.note,
    }


def _trial(entry: MethodEntry) -> FrontEntry:
    assert entry.trial is not None
    return entry.trial


def _mean(record: RivalRecord) -> float:
    return statistics.fmean(q.fid for q in record.qualities[1:] or record.qualities)


def _share_of(depths: Sequence[int], visits: Sequence[int], full_depth: int) -> float:
    """Exit blocks run / all exit blocks."""
    counts = visits or [1] * len(depths)
    run = sum(count * depth for count, depth in zip(counts, depths, strict=True))
    return run / (full_depth * sum(counts))
