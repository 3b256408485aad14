"""Latency in a run: when a table serves, what is measured at the end, how far off it was."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from driving import record_of, settings_of

from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.runs.checks.identity import write_own
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.latency_file import LatencyReport, MeasuredLatency
from schedsearch.runs.results import RunResults
from schedsearch.schedules.hand_made import FULL
from schedsearch.search.stages.latency import (
    accuracy_line,
    measure_finally,
    open_table,
    trials_to_measure,
)
from schedsearch.workers.workbench import Workbench, open_workbench


def measured_at(ms: float) -> MeasuredLatency:
    return MeasuredLatency(latency_ms=ms, half_width_ms=0.1, acceleration=0.0, repeats=3)


@pytest.fixture
def bench(complete_run: Path) -> Workbench:
    return open_workbench(
        (complete_run / "space.yaml").read_text(), str(complete_run / "reference")
    )


def test_a_table_is_kept_for_the_run(bench: Workbench, run_copy: Path) -> None:
    folder = RunFolder(run_copy)
    kept = LatencyReport.load(folder)
    table, report, is_new = open_table(bench, folder)
    assert not is_new
    assert report == kept
    assert table.predict(record_of(0, (10,) * 10).schedule, bench.solver.times) == pytest.approx(
        report.full_ms
    )


def test_another_protocol_makes_a_new_table(bench: Workbench, run_copy: Path) -> None:
    folder = RunFolder(run_copy)
    data = json.loads(folder.latency_file.read_text())
    data["table"]["protocol"]["batch"] = 9
    del data["checksum"]
    write_own(folder, folder.latency_file, data)
    table, report, is_new = open_table(bench, folder)
    assert is_new
    assert table.protocol.batch == 8
    assert LatencyReport.load(folder) == report
    assert not report.measured


def test_a_dry_run_keeps_nothing(bench: Workbench) -> None:
    table, report, is_new = open_table(bench, None)
    assert is_new
    assert report.table == table.to_dict()
    full = record_of(0, (10,) * 10).schedule
    assert report.full_ms == pytest.approx(table.predict(full, bench.solver.times))


@pytest.mark.parametrize("table", [{}, {"protocol": 3}, []])
def test_a_damaged_table_is_said(bench: Workbench, run_copy: Path, table: object) -> None:
    folder = RunFolder(run_copy)
    data = json.loads(folder.latency_file.read_text())
    folder.latency_file.write_text(json.dumps(data | {"table": table}))
    with pytest.raises(StorageError, match=r"latency\.json.*Delete it"):
        open_table(bench, folder)


def test_presets_their_best_candidates_and_the_front_are_measured() -> None:
    records = [
        record_of(0, (10,) * 10, 2.0, 100.0, label=FULL),
        record_of(1, (9,) * 10, 9.0, 95.0, label="D2-DiT"),  # dominated, but a preset
        record_of(2, (8,) * 10, 1.0, 50.0, label="D3-DiT"),
        record_of(3, (7,) * 10, 3.0, 60.0),  # a candidate for D2-DiT
        record_of(4, (6,) * 10, 4.0, 70.0),  # the second one
        record_of(5, (5,) * 10, 8.0, 20.0),  # on the front
        record_of(6, (4,) * 10, None),
        record_of(7, (10, 9, 9, 9, 9, 9, 9, 9, 9, 2), 8.5, 90.0),  # three others are better
    ]
    assert trials_to_measure(RunResults(settings_of(), records, None, [])) == [0, 1, 2, 3, 4, 5]


def test_a_search_that_went_on_measures_its_new_schedules_too() -> None:
    """What was measured at its first end, on a slower machine, must not keep them out."""
    records = [
        record_of(0, (10,) * 10, 2.0, 100.0, label=FULL),
        record_of(1, (8,) * 10, 5.0, 80.0, label="D2-DiT"),
        record_of(2, (7,) * 10, 4.0, 70.0),
        record_of(3, (7, 7, 7, 7, 7, 7, 7, 7, 7, 6), 3.0, 69.0),  # new, and better
    ]
    measured = {n: measured_at(ms / 2) for n, ms in enumerate((100.0, 80.0, 70.0))}
    report = LatencyReport(table={}, full_ms=100.0, measured=measured, measured_after=3)
    results = RunResults(settings_of(), records, report, [])
    assert {entry.latency.source for entry in results.entries} == {"predicted"}
    assert [entry.trial for entry in results.front()] == [3, 0]
    assert trials_to_measure(results) == [0, 1, 2, 3]


def test_measurements_are_kept_beside_the_predictions(bench: Workbench, run_copy: Path) -> None:
    folder = RunFolder(run_copy)
    results = RunResults.load(folder)
    assert results.latency is not None
    plain = RunResults(results.settings, results.records, None, [])
    report = measure_finally(bench, replace(results.latency, measured={}), plain, folder)
    assert LatencyReport.load(folder) == report
    assert sorted(report.measured) == trials_to_measure(plain)
    full = results.full()
    assert full is not None
    assert report.measured[full.trial].latency_ms == report.full_measured_ms
    assert all(m.latency_ms > 0 and m.repeats == 3 for m in report.measured.values())
    assert report.full_ms == results.latency.full_ms


def test_the_accuracy_of_predictions_leaves_out_a_common_change_of_speed() -> None:
    records = [record_of(n, (10 - n,) * 10, 2.0, 100.0) for n in range(4)]
    measured = {n: measured_at(ms) for n, ms in enumerate([80.0, 100.0, 90.0])}
    report = LatencyReport(table={}, full_ms=100.0, measured=measured)
    line = accuracy_line(RunResults(settings_of(), records, report, []))
    # Relative to the median of 0.9 the predictions are off by 12.5 %, 10 % and 0 %.
    assert "predicted latencies: 7.5% off on average over 3 schedules" in line
    assert "speed has changed by -10.0% since the table" in line


def test_other_pretrained_weights_are_refused_on_resume(bench: Workbench, run_copy: Path) -> None:
    folder = RunFolder(run_copy)
    other = replace(bench, pretrained=bench.fresh_backbone())
    assert open_table(other, folder)[2] is False
    with torch.no_grad():
        next(other.pretrained.parameters()).add_(1)
    with pytest.raises(ConfigError, match="has changed since"):
        open_table(other, folder)
