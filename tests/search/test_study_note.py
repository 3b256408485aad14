"""The dashboard's note of a study: the search's front and the methods compared in its folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from driving import record_of, settings_of
from made_up_methods import ROWS, latency_of, write_rows
from optuna_dashboard._note import get_note_from_system_attrs
from tiny_runs import run_cli, write_space

from schedsearch.report.method_tables import methods_note
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.methods.digests import digest_of, rivals_in
from schedsearch.runs.methods.latencies import write_latencies
from schedsearch.runs.results import RunResults
from schedsearch.search.dashboard import TrialPublisher, _note
from schedsearch.search.study.storage import open_artifacts, open_storage, open_study
from schedsearch.settings.rows import rows_of

FRONT, METHODS = "## Pareto front of tiny", "## Methods of tiny"
SPACE: dict[str, Any] = {
    "warm_start": ["full"],
    "rivals": {"steps": {"kind": "steps", "num_steps": [2]}},
    "recipe": {"num_steps": 1, "batch_size": 16},
    "search": {"n_trials": 1},
}


SETTINGS = settings_of(rivals=SPACE["rivals"])
(FEWER,) = (row for row in rows_of(rivals_in(SETTINGS), {}) if row.name == "steps-2")
DIGEST = digest_of(SETTINGS, FEWER, None)
RECORDS = [ROWS[0], replace(ROWS[1], name="steps-2", config_sha256=DIGEST)]
LATENCY = latency_of({"full": 1.0, "steps-2": 0.6})
LATENCY["digests"]["steps-2"] = DIGEST


def compared(run: RunFolder, latency: dict[str, Any] | None) -> RunFolder:
    """What a comparison leaves in a run folder."""
    run.methods.mkdir(parents=True)
    write_rows(run, RECORDS, SETTINGS)
    if latency is not None:
        write_latencies(run, latency)
    run.methods_png.write_bytes(b"a picture")
    return run


def note_of(run: RunFolder) -> str:
    study = open_study(open_storage(run, None), "tiny")
    body: str = get_note_from_system_attrs(study._storage.get_study_system_attrs(1), None)["body"]
    return body


def test_a_search_keeps_the_methods_of_an_earlier_comparison(tmp_path: Path) -> None:
    space = write_space(tmp_path, **SPACE)
    run = compared(RunFolder(tmp_path / "run"), LATENCY)
    done = run_cli("run", space, "--output", run.root)
    assert done.code == 0, done.err
    note = note_of(run)
    assert note.index(FRONT) < note.index(METHODS) < note.index("![front](")
    assert "![methods](" in note
    assert "| steps-2 |" in note


def publish(run: RunFolder, records: list[Any]) -> str:
    run.create()
    study = open_study(open_storage(run, None), "tiny")
    publisher = TrialPublisher(study, open_artifacts(run), run)
    results = RunResults(settings_of(), records, None, [])
    run.space_file.write_text(write_space(run.root.parent, warm_start=[]).read_text())
    publisher.publish_study(results, {}, methods_note)
    return note_of(run)


def test_a_search_alone_has_its_front_alone(tmp_path: Path) -> None:
    note = publish(RunFolder(tmp_path / "run"), [record_of(0, (10,) * 10)])
    assert FRONT in note
    assert METHODS not in note


def test_a_comparison_alone_has_its_methods_alone(tmp_path: Path) -> None:
    note = publish(compared(RunFolder(tmp_path / "run"), LATENCY), [])
    assert note.startswith(METHODS)
    assert "No trial is complete" not in note


def test_a_comparison_broken_off_before_its_latencies(tmp_path: Path) -> None:
    run = compared(RunFolder(tmp_path / "run"), None)
    note = publish(run, [record_of(0, (10,) * 10)])
    assert FRONT in note
    assert METHODS in note


def test_a_trial_says_where_its_intervals_end() -> None:
    record = replace(record_of(0, (3, 2, 1)), edges=(0.0, 250.0, 600.0, 1000.0))
    assert "| 0 (0 to 250) | 1 (250 to 600) | 2 (600 to 1000) |" in _note(record)
    assert "| 0 | 1 | 2 |" in _note(record_of(0, (3, 2, 1)))


def test_a_damaged_comparison_costs_the_note_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = compared(RunFolder(tmp_path / "run"), None)
    run.method_latency_file.write_text("{")
    publish(run, [record_of(0, (10,) * 10)])
    assert "study note not saved" in caplog.text
