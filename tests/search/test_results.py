"""What is read from a run: latencies, confirmations, front and hypervolume."""

from pathlib import Path

import pytest
from driving import confirm_of, record_of, settings_of

from schedsearch.exceptions import StorageError
from schedsearch.hand_made import FULL
from schedsearch.records import TrialRecord
from schedsearch.search.results import (
    LatencyReport,
    MeasuredLatency,
    RunResults,
    hypervolume_in_box,
    hypervolume_of,
)
from schedsearch.search.run_folder import RunFolder

RECORDS = [
    record_of(0, (10,) * 10, 2.0, 100.0, label=FULL),
    record_of(1, (9,) * 10, 4.0, 50.0, label="D2-DiT"),
    record_of(2, (8,) * 10, 3.0, 40.0),
    record_of(3, (7,) * 10, None),
    record_of(4, (6,) * 10, 2.5, 60.0),
]


def measured(latency: float, acceleration: float = 0.3) -> MeasuredLatency:
    return MeasuredLatency(latency_ms=latency, spread_ms=1.0, acceleration=acceleration, repeats=3)


def results_of(
    records: list[TrialRecord] = RECORDS, report: LatencyReport | None = None
) -> RunResults:
    return RunResults(settings_of(), records, report, [])


def test_views() -> None:
    results = results_of()
    assert [e.trial for e in results.entries] == [0, 1, 2, 4]
    assert [e.trial for e in results.front()] == [2, 4, 0]  # by latency
    assert results.full() == results.entries[0]
    assert [e.trial for e in results.hand_made()] == [1]
    assert [e.trial for e in results.searched()] == [2, 4]
    assert [e.title for e in results.entries] == [FULL, "D2-DiT", "trial 2", "trial 4"]
    assert results.num_failed == 1


def test_a_failure_that_was_made_good_is_none() -> None:
    assert results_of([*RECORDS, record_of(5, (7,) * 10)]).num_failed == 0


def test_accelerations_by_prediction_and_by_measurement() -> None:
    report = LatencyReport(table={}, full_ms=100.0)
    assert [e.acceleration for e in results_of(report=report).entries] == [0.0, 0.5, 0.6, 0.4]
    report = LatencyReport(table={}, full_ms=100.0, measured={2: measured(44.0, 0.55)})
    entry = results_of(report=report).entries[2]
    assert (entry.latency_ms, entry.latency_spread_ms, entry.latency_source) == (
        44.0,
        1.0,
        "measured",
    )
    assert (entry.predicted_latency_ms, entry.acceleration) == (40.0, 0.55)


def test_measured_and_predicted_latencies_never_share_a_front() -> None:
    report = LatencyReport(
        table={}, full_ms=100.0, measured={0: measured(90.0), 1: measured(48.0)}
    )
    assert [e.trial for e in results_of(report=report).front()] == [1, 0]


def test_confirmations() -> None:
    seeds = [confirm_of(1, 1, 3.0), confirm_of(1, 2, 5.0), confirm_of(2, 1, 3.0)]
    results = RunResults(settings_of(evaluation={"confirm_seeds": 5}), RECORDS, None, seeds)
    entry = results.entries[1]
    assert entry.fid == 4.0  # the search's own value stays
    assert (entry.fid_confirmed, entry.confirm_seeds) == (4.0, 2)
    assert entry.fid_ci95 == pytest.approx((4.0 - 12.706205, 4.0 + 12.706205))
    assert results.entries[2].fid_confirmed is None  # one value has no interval


def test_hypervolume_is_a_share_of_the_box() -> None:
    full = (2.0, 100.0)
    assert hypervolume_in_box([full], full) == pytest.approx(2.0 * 0.01 / (3.0 * 1.01))
    ideal = [(1e-9, 1e-9)]
    assert hypervolume_in_box(ideal, full) == pytest.approx(1.0)
    assert hypervolume_in_box([(7.0, 50.0)], full) == 0.0  # beyond 3 x FID
    assert hypervolume_in_box(ideal, None) is None
    assert hypervolume_in_box(ideal, (0.0, 1.0)) is None
    assert results_of().hypervolume() == hypervolume_of(RECORDS)
    assert results_of([RECORDS[2]]).hypervolume() is None
    results = results_of()
    assert results.hypervolume(results.entries[:1]) == pytest.approx(0.02 / 3.03)


def test_latency_report_on_disk(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert LatencyReport.load(folder) is None
    report = LatencyReport(
        table={"a_ms": 1.0}, full_ms=9.0, measured={12: measured(3.0)}, full_measured_ms=8.5
    )
    report.save(folder)
    assert LatencyReport.load(folder) == report


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"table": {}}', '{"measured": 3}', '{"measured": {"x": {}}}']
)
def test_a_damaged_latency_report(tmp_path: Path, text: str) -> None:
    folder = RunFolder(tmp_path)
    folder.latency_file.write_text(text)
    with pytest.raises(StorageError, match="Delete it; it is measured again"):
        LatencyReport.load(folder)


def test_load(complete_run: Path) -> None:
    results = RunResults.load(RunFolder(complete_run))
    assert len(results.entries) == 7
    full = results.full()
    assert full is not None
    assert full.latency_source == "measured"
    assert full.acceleration == 0.0
    assert [e.name for e in results.hand_made()] == ["D2-DiT", "D3-DiT", "D4-DiT"]
    assert len(results.searched()) == 3
    for entry in (full, *results.hand_made()):
        assert entry.latency_source == "measured"
        assert entry.confirm_seeds == 2
        assert entry.fid_ci95 is not None
    for comparison in results.comparisons():
        assert comparison.num_seeds == 2
