"""``latency.json``: the table of a run and its measurements."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schedsearch.exceptions import StorageError
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.latency_file import LatencyReport, MeasuredLatency

MEASURED = MeasuredLatency(latency_ms=3.0, half_width_ms=1.0, acceleration=0.3, repeats=3)
REPORT = LatencyReport(
    table={"c0_ms": 1.0, "a_ms": 2.0, "b_ms": 0.5},
    full_ms=9.0,
    measured={12: MEASURED},
    full_measured_ms=8.5,
    measured_after=4,
    visits=(1, 0, 2),
    weights="abc",
)


def test_it_survives_the_disk(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert LatencyReport.load(folder) is None
    REPORT.save(folder)
    assert LatencyReport.load(folder) == REPORT


@pytest.mark.parametrize(
    "table",
    [
        {},
        {**REPORT.table, "a_ms": 1e308},
        {**REPORT.table, "b_ms": True},
        {**REPORT.table, "protocol": 3},
    ],
)
def test_a_table_that_nobody_measured(tmp_path: Path, table: dict[str, Any]) -> None:
    folder = RunFolder(tmp_path)
    replace(REPORT, table=table).save(folder)
    with pytest.raises(StorageError, match=r"latency\.json: .*Delete it"):
        LatencyReport.load(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"table": {}}', '{"measured": 3}', '{"measured": {"x": {}}}']
)
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    folder = RunFolder(tmp_path)
    folder.latency_file.write_text(text)
    with pytest.raises(StorageError, match="Delete it; it is measured again"):
        LatencyReport.load(folder)


def test_measurements_are_out_of_date_once_a_trial_has_ended() -> None:
    assert REPORT.up_to_date(4).measured == {12: MEASURED}
    assert REPORT.up_to_date(5).measured == {}


def test_predictions_count_the_blocks_that_the_solver_runs() -> None:
    assert REPORT.predicted_ms((10, 99, 4)) == 1.0 + 3 * 2.0 + 18 * 0.5
    assert LatencyReport(table={}, full_ms=9.0, visits=(1, 0, 2)).predicted_ms((1, 1, 1)) is None
    assert LatencyReport(table=REPORT.table, full_ms=9.0).predicted_ms((1, 1, 1)) is None
