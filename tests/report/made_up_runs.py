"""Runs made by hand, for the report."""

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from driving import confirm_of, record_of, settings_of
from rich.console import Console, RenderableType

from schedsearch.records import ConfirmRecord, TrialRecord
from schedsearch.runs.latency_file import LatencyReport, MeasuredLatency
from schedsearch.runs.results import RunResults
from schedsearch.schedules.hand_made import FULL

RECORDS = [
    record_of(0, (10,) * 10, 2.0, 100.0, label=FULL),
    record_of(1, (9,) * 10, 4.0, 50.0, label="D2-DiT"),
    record_of(2, (8,) * 10, 3.0, 40.0),
    record_of(3, (7,) * 10, 2.5, 30.0, label="D3-DiT"),
    record_of(4, (6,) * 10, 9.0, 60.0),
]
"""Trial 2 is D2's opponent, and none is as fast as D3."""

SEEDS = (1, 2, 3)
NOISE = {1: 0.0, 2: 1.0, 3: -1.0}
"""What the held-out seeds have in common, however large."""


def latencies_of(records: list[TrialRecord]) -> LatencyReport:
    """Every trial measured as predicted."""
    milliseconds = {r.number: r.evaluation.latency_ms for r in records if r.evaluation is not None}
    full = max(milliseconds.values())
    measured = {
        number: MeasuredLatency(
            latency_ms=ms, half_width_ms=0.4, acceleration=1 - ms / full, repeats=9
        )
        for number, ms in milliseconds.items()
    }
    return LatencyReport(
        table={}, full_ms=full, measured=measured, measured_after=len(milliseconds)
    )


def confirmed(
    fids: Mapping[int, float], audits: Mapping[int, float] | None = None
) -> list[ConfirmRecord]:
    """Trials at the held-out seeds: their own FID, common noise, and a little for themselves."""
    return [
        replace(
            confirm_of(n, seed, fid + NOISE[seed] + 0.01 * seed * (n == 2)),
            audit_fid=None if audits is None else audits[n] + NOISE[seed],
            audit_features=None if audits is None else "digits MLP",
        )
        for n, fid in fids.items()
        for seed in SEEDS
    ]


def retrained(fids: Mapping[int, float]) -> list[ConfirmRecord]:
    """Trials retrained with the training seeds 5 and 6, each with three evaluation seeds."""
    return [
        confirm_of(n, 100 * training + seed, fid + NOISE[seed] + step * (n == 2), training)
        for n, fid in fids.items()
        for training, step in ((5, 0.05), (6, 0.06))
        for seed in SEEDS
    ]


def results_of(
    confirmations: list[ConfirmRecord] | None = None,
    records: list[TrialRecord] = RECORDS,
    *,
    measured: bool = True,
    **changes: Any,
) -> RunResults:
    """A run of the tiny space with three held-out seeds."""
    evaluation = {"confirm_seeds": 3, **changes.pop("evaluation", {})}
    settings = settings_of(evaluation=evaluation, **changes)
    report = latencies_of(records) if measured else None
    return RunResults(settings, records, report, confirmations or [])


def large_run(depth: int, *, fid_scale: float = 1.0, full_ms: float = 80.0) -> RunResults:
    """A run with four presets, 14 searched schedules, everything confirmed and audited."""
    records = [record_of(0, (depth,) * 10, 2.0 * fid_scale, full_ms, label=FULL)]
    for i, label in enumerate(("D2-DiT", "D3-DiT", "D4-DiT", "D7-DiT")):
        depths = (depth,) * 4 + (depth - 2 - i,) * 6
        fid, ms = (2.5 + i / 3) * fid_scale, (0.9 - 0.08 * i) * full_ms
        records.append(record_of(1 + i, depths, fid, ms, label=label))
    for i in range(14):
        depths = (depth,) * 3 + (depth - 1,) * 3 + (max(depth - i, 1),) * 4
        fid, ms = (2.1 + i / 4) * fid_scale, (0.95 - 0.05 * i) * full_ms
        records.append(record_of(100 + i, depths, fid, ms))
    confirmations = [
        replace(
            confirm_of(record.number, seed, (4 + seed + record.number % 5 / 9) * fid_scale),
            audit_fid=30.0 * fid_scale + seed,
        )
        for record in records
        for seed in SEEDS
    ]
    return results_of(confirmations, records, evaluation={"auditor": "digits_mlp"})


def printed(table: RenderableType, width: int = 200) -> str:
    """A table as text."""
    text = io.StringIO()
    Console(file=text, width=width).print(table)
    return text.getvalue()


def row_of(table: str, word: str) -> list[str]:
    """Cells of the one row that begins with a word, blanks between them two or more."""
    (row,) = (line for line in table.splitlines() if line.strip().startswith(word))
    return [cell for cell in row.strip().split("  ") if cell.strip()]
