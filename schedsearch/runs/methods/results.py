"""Reads a comparison: every row with its latency, beside the schedules of the search."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

from schedsearch.config.backbone_rules import num_blocks_of, num_exit_blocks_of
from schedsearch.exceptions import ConfigError, NoResultError
from schedsearch.pareto import non_dominated
from schedsearch.runs.front_files import rows_as
from schedsearch.runs.methods.digests import current_records
from schedsearch.runs.methods.entry import SEARCHED, MethodEntry, method_row
from schedsearch.runs.methods.journals import MethodJournals
from schedsearch.runs.methods.latencies import read_latencies
from schedsearch.runs.methods.records import RivalRecord, newest
from schedsearch.runs.results import RunResults
from schedsearch.settings.plan import PLAN
from schedsearch.settings.rows import FULL, TWIN

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder


class MethodResults:
    """All methods of a run folder.

    Args:
        run: The search in the same folder; it may hold no trial.
        records: Rows; of equal rows the last.
        latency: Content of ``methods/latency.json``.
        left_out: Names of rows that do not count.
    """

    def __init__(
        self,
        run: RunResults,
        records: Sequence[RivalRecord],
        latency: Mapping[str, Any],
        left_out: Sequence[str] = (),
    ) -> None:
        self.run = run
        self._records = newest(records)
        self._latency = latency
        self.left_out = list(dict.fromkeys(left_out))
        """Rows whose newest record was measured with other settings than the space has now."""
        self.failed = [r for r in self._records if r.failed is not None]
        by_name: dict[str, list[RivalRecord]] = {}
        for record in self._records:
            if record.failed is None:
                by_name.setdefault(record.name, []).append(record)
        self.entries = [self._entry(name, found) for name, found in by_name.items()]

    @classmethod
    def load(cls, folder: RunFolder) -> Self:
        """Read a run folder; rows count that were measured with their present settings.

        Raises:
            StorageError: If a file is damaged.
        """
        run = RunResults.load(folder)
        records = newest(MethodJournals(folder, run.settings).read())
        current = current_records(records, run.settings)
        left_out = [record.name for record in records if record not in current]
        return cls(run, current, read_latencies(folder), left_out)

    def only(self, names: Sequence[str]) -> Self:
        """The same with some entries or rows, and full depth; all where no name is given.

        Raises:
            ConfigError: If there is no entry or row of a name.
        """
        known = {*(r.entry for r in self._records), *(r.name for r in self._records)}
        if unknown := [name for name in names if name not in known]:
            raise ConfigError(
                f"--only names an entry or a row of the comparison, got {unknown[0]!r}; there are "
                f"{', '.join(sorted({r.entry for r in self._records})) or 'none'}."
            )
        wanted = {FULL, *names}
        kept = [r for r in self._records if not names or {r.entry, r.name} & wanted]
        return type(self)(self.run, kept, self._latency, self.left_out)

    def latency_data(self, protocol: Mapping[str, Any]) -> dict[str, Any]:
        """The kept latencies of a protocol, to be added to."""
        if self._latency.get("protocol") != protocol:
            return {"protocol": dict(protocol), "rows": {}, "digests": {}}
        return {key: dict(value) for key, value in self._latency.items()}

    # ---- views ----------------------------------------------------------------------------

    @property
    def title(self) -> str:
        """Name for people."""
        return self.run.settings.name

    @property
    def parts(self) -> dict[str, MethodResults]:
        """Itself, by the run that its entries name."""
        return {"": self}

    @property
    def protocol(self) -> dict[str, Any]:
        """What must agree for methods of two runs to compare."""
        evaluation, report = self.run.settings.evaluation, self.run.latency
        qualities = [entry.first.protocol for entry in self.entries]
        qualities += [entry.evaluation.protocol for entry in self.run.entries]
        latencies = [self._latency, {} if report is None else report.table]
        latency = next((found for data in latencies if (found := data.get("protocol"))), None)
        return {
            "quality": qualities[0] if qualities else None,
            "num_seeds": 1 + evaluation.confirm_seeds,
            "confirm_samples": evaluation.confirm_samples_used,
            "latency": latency and {k: v for k, v in latency.items() if v != ""},
        }

    def full(self) -> MethodEntry | None:
        """The pretrained network at full depth."""
        return next((entry for entry in self.entries if entry.name == FULL), None)

    def searched(self) -> list[MethodEntry]:
        """Schedules of the search's front that have no row of the same name."""
        names = {entry.name for entry in self.entries}
        found = []
        for trial in self.run.front():
            if trial.title in names:
                continue
            found.append(
                MethodEntry(
                    name=trial.title,
                    entry=SEARCHED,
                    method="schedule",
                    trial=trial,
                    ms=trial.latency.ms,
                    half_width_ms=trial.latency.half_width_ms,
                    ratio=1.0 - trial.latency.acceleration,
                    share=self._share_of(trial.depths),
                )
            )
        return found

    def all(self) -> list[MethodEntry]:
        """Rows with a latency, and the schedules of the search, by latency."""
        timed = [entry for entry in self.entries if entry.ms is not None]
        return sorted([*timed, *self.searched()], key=lambda entry: entry.latency_ms)

    def plans(self) -> list[MethodEntry]:
        """Plans and fewer solver steps, which need no training, by latency."""
        return [entry for entry in self.all() if entry.method in (PLAN, "steps")]

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

    def _share_of(self, depths: Sequence[int]) -> float | None:
        """Blocks run / all blocks; None for a custom network, whose blocks are not known here."""
        backbone, report = self.run.settings.backbone, self.run.latency
        total, skippable = num_blocks_of(backbone), num_exit_blocks_of(backbone)
        if total is None or skippable is None:
            return None
        visits = (() if report is None else report.visits) or [1] * len(depths)
        skipped = sum(n * (skippable - d) for n, d in zip(visits, depths, strict=True))
        return 1.0 - skipped / (total * sum(visits))

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
