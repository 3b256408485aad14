"""Latency in a run: when a table serves, what is measured at the end, how far off it was."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from driving import record_of, settings_of
from schedsearch.statistics.rivals import SPARES

from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.results import LatencyReport, MeasuredLatency, RunResults
from schedsearch.schedules.hand_made import FULL
from schedsearch.search.stages.latency import (
    accuracy_lines,
    deviations,
    measure_finally,
    open_table,
    trials_to_measure,
)
from schedsearch.workers.workbench import open_workbench


@pytest.fixture
def bench(complete_run: Path):
    return open_workbench(
        (complete_run / "space.yaml").read_text(), str(complete_run / "reference")
    )


def test_a_table_is_kept_for_the_run(bench, run_copy: Path) -> None:
    folder = RunFolder(run_copy)
    kept = LatencyReport.load(folder)
    table, report, is_new = open_table(bench, folder)
    assert not is_new
    assert report == kept
    assert table.predict(record_of(0, (10,) * 10).schedule, bench.solver.times) == pytest.approx(
        report.full_ms
    )


def test_another_protocol_makes_a_new_table(bench, run_copy: Path) -> None:
    folder = RunFolder(run_copy)
    data = json.loads(folder.latency_file.read_text())
    data["table"]["protocol"]["batch"] = 9
    folder.latency_file.write_text(json.dumps(data))
    table, report, is_new = open_table(bench, folder)
    assert is_new
    assert table.protocol.batch == 8
    assert LatencyReport.load(folder) == report
    assert not report.measured


def test_a_dry_run_keeps_nothing(bench) -> None:
    _, report, is_new = open_table(bench, None)
    assert is_new
    assert report.full_ms > 0


@pytest.mark.parametrize("table", [{}, {"protocol": 3}, []])
def test_a_damaged_table_is_said(bench, run_copy: Path, table: object) -> None:
    folder = RunFolder(run_copy)
    data = json.loads(folder.latency_file.read_text())
    folder.latency_file.write_text(json.dumps(data | {"table": table}))
    with pytest.raises(StorageError, match=r"latency\.json.*Delete it"):
        open_table(bench, folder)


def test_the_front_the_baselines_and_all_possible_rivals_are_measured() -> None:
    records = [
        record_of(0, (10,) * 10, 2.0, 100.0, label=FULL),
        record_of(1, (9,) * 10, 9.0, 95.0, label="D2-DiT"),  # dominated, but a preset
        record_of(2, (8,) * 10, 1.0, 50.0, label="D3-DiT"),
        record_of(3, (7,) * 10, 3.0, 60.0),  # dominated by a preset only
        record_of(4, (6,) * 10, 4.0, 70.0),  # dominated by a searched one
        record_of(5, (5,) * 10, 8.0, 20.0),
        record_of(6, (4,) * 10, None),
        record_of(7, (10, 9, 9, 9, 9, 9, 9, 9, 9, 2), 9.5, 90.0),  # three others are better
    ]
    settings = settings_of(evaluation={"runoff_seeds": 0})
    assert trials_to_measure(RunResults(settings, records, None, [])) == [0, 1, 2, 3, 4, 5]


def test_a_search_that_went_on_measures_its_new_schedules_too() -> None:
    """What was measured at its first end, at another pace, must not keep them out."""
    records = [
        record_of(0, (10,) * 10, 2.0, 100.0, label=FULL),
        record_of(1, (8,) * 10, 5.0, 80.0, label="D2-DiT"),
        record_of(2, (7,) * 10, 4.0, 70.0),
        record_of(3, (7, 7, 7, 7, 7, 7, 7, 7, 7, 6), 3.0, 69.0),  # new, and better
        record_of(4, (7, 7, 7, 7, 7, 7, 7, 7, 6, 6), 3.5, 68.5),  # new, a contender only
    ]
    measured = {
        n: MeasuredLatency(latency_ms=ms / 2, spread_ms=0.1, acceleration=0.0, repeats=3)
        for n, ms in enumerate((100.0, 80.0, 70.0))
    }
    report = LatencyReport(table={}, full_ms=100.0, measured=measured, measured_after=3)
    settings = settings_of(evaluation={"runoff_size": 2, "runoff_seeds": 0})
    ended = RunResults(settings, records[:3], report, [])
    assert [e.trial for e in ended.contenders_for(ended.hand_made()[0])] == [2]
    results = RunResults(settings, records, report, [])
    (preset,) = results.hand_made()
    assert {e.latency_source for e in results.entries} == {"predicted"}
    assert [e.trial for e in results.contenders_for(preset)] == [3, 4]
    assert [e.trial for e in results.likely_contenders_for(preset)] == [3, 4]
    assert [e.trial for e in results.front()] == [4, 3, 0]
    assert trials_to_measure(results) == [0, 1, 3, 4]


@pytest.mark.parametrize(("runoff_seeds", "measured"), [(0, 2), (1, 2 + SPARES)])
def test_more_are_measured_than_a_runoff_takes(runoff_seeds: int, measured: int) -> None:
    """Some turn out to be slower than the preset."""
    preset = record_of(1, (8,) * 10, 1.0, 80.0, label="D2-DiT")
    searched = [record_of(n, (7,) * (12 - n) + (2,) * (n - 2), n, 70.0) for n in range(3, 10)]
    settings = settings_of(evaluation={"runoff_size": 2, "runoff_seeds": runoff_seeds})
    results = RunResults(settings, [preset, *searched], None, [])
    (entry,) = results.hand_made()
    likely = [e.trial for e in results.likely_contenders_for(entry)]
    assert likely == list(range(3, 3 + measured))
    assert trials_to_measure(results) == [1, *likely]


def test_measurements_are_kept_beside_the_predictions(bench, run_copy: Path) -> None:
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
    assert all(m.latency_ms > 0 and 3 <= m.repeats <= 15 for m in report.measured.values())
    assert report.full_ms == results.latency.full_ms


def test_deviations_are_those_left_without_a_common_change_of_pace() -> None:
    records = [record_of(n, (10 - n,) * 10, 2.0, 100.0) for n in range(4)]
    measured = {
        n: MeasuredLatency(latency_ms=ms, spread_ms=spread, acceleration=0.0, repeats=3)
        for n, (ms, spread) in enumerate([(80.0, 1.0), (100.0, 5.0), (90.0, 30.0)])
    }
    report = LatencyReport(table={}, full_ms=100.0, measured=measured)
    drift, mean, lines = deviations(RunResults(settings_of(), records, report, []))
    assert drift == pytest.approx(0.9)
    assert mean == pytest.approx((0.1 / 0.8 + 0.1 + 0) / 3)
    assert len(lines) == 2
    assert "trial 1: predicted 90.0 ms, measured 100.0 +- 5.0 ms (-10.0 ms)" in lines[1]
    assert deviations(RunResults(settings_of(), records, None, [])) == (1.0, 0.0, [])


@pytest.mark.parametrize(
    ("residual", "ms", "trust"),
    [(0.02, 92.0, "good"), (0.07, 92.0, "rough"), (0.02, 60.0, "not to be trusted")],
)
def test_a_run_says_how_far_its_predictions_can_be_trusted(
    bench, run_copy: Path, residual: float, ms: float, trust: str
) -> None:
    """By the fit of the table and by whole runs of mixed schedules, whichever is worse."""
    records = [record_of(n, (10 - n,) * 10, 2.0, 100.0) for n in range(3)]
    measured = {
        n: MeasuredLatency(latency_ms=value, spread_ms=2.0, acceleration=0.0, repeats=3)
        for n, value in enumerate((90.0, 90.0, ms))
    }
    report = LatencyReport(table={}, full_ms=100.0, measured=measured)
    table, _, _ = open_table(bench, RunFolder(run_copy))
    table = replace(table, mean_residual=residual, max_residual=0.3)
    results = RunResults(settings_of(), records, report, [])
    verdict, *beyond = accuracy_lines(results, table)
    assert verdict.endswith(f"{residual:.1%} on average, 30.0% at most: {trust}")
    assert len(beyond) == (ms == 60.0)


def test_other_pretrained_weights_are_refused_on_resume(bench, run_copy: Path) -> None:
    folder = RunFolder(run_copy)
    other = replace(bench, pretrained=bench.fresh_backbone())
    assert open_table(other, folder)[2] is False
    with torch.no_grad():
        next(other.pretrained.parameters()).add_(1)
    with pytest.raises(ConfigError, match="has changed since"):
        open_table(other, folder)
