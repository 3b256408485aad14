"""``compare RUN...`` and ``pick --methods all`` on run folders that were made by hand."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from driving import settings_of
from made_up_methods import ROWS, latency_of
from tiny_runs import run_cli

from schedsearch.methods.method_file import MethodFile, write_method_file
from schedsearch.runs.checks.space_file import write_space
from schedsearch.runs.folder import METHOD_FILE, RunFolder
from schedsearch.runs.methods.digests import digest_of, rivals_in
from schedsearch.runs.methods.journals import MethodJournals
from schedsearch.runs.methods.latencies import write_latencies
from schedsearch.schedules.schedule_file import ScheduledBackbone
from schedsearch.settings.rows import rows_of

FEW: dict[str, Any] = {"steps": {"kind": "steps", "num_steps": [12, 9]}}
FAST = replace(ROWS[1], name="steps-9", qualities=ROWS[2].qualities)
BACKBONE = ScheduledBackbone(family="dit", num_exit_blocks=10, fingerprint=None)


def make_run(root: Path, *, weights: str | None = None, **changes: Any) -> Path:
    """Full depth, 12 and 9 steps, the last with a method file."""
    settings, folder = settings_of(rivals=FEW, **changes), RunFolder(root)
    folder.create()
    write_space(folder, settings)
    rows = {row.name: row for row in rows_of(rivals_in(settings), {})}
    latency = latency_of({"full": 1.0, "steps-12": 0.6, "steps-9": 0.5})
    for record in (ROWS[0], ROWS[1], FAST):
        digest = digest_of(settings, rows[record.name], None)
        MethodJournals(folder, settings).append(replace(record, config_sha256=digest))
        latency["digests"][record.name] = digest
    folder.methods.mkdir(exist_ok=True)
    write_latencies(folder, latency)
    target = folder.method("steps-9")
    target.mkdir(parents=True)
    file = MethodFile(name="steps-9", kind="steps", backbone=BACKBONE, weights=weights)
    write_method_file(target / METHOD_FILE, file, place="")
    return root


@pytest.fixture
def two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two"):
        make_run(tmp_path / name)
    return "one", "two"


def test_rows_of_several_runs_name_their_run(two_runs: tuple[str, str]) -> None:
    rows = json.loads(run_cli("compare", *two_runs, "--format", "json").out)
    expected = [
        (run, name) for name in ("steps-9", "steps-12", "full") for run in ("one", "two")
    ]  # fmt: skip
    assert [(row["run"], row["name"]) for row in rows] == expected
    table = list(csv.DictReader(io.StringIO(run_cli("compare", *two_runs, "--format", "csv").out)))
    assert [(row["run"], row["name"]) for row in table] == expected


def test_hints_name_the_folder_that_they_mean(two_runs: tuple[str, str]) -> None:
    out = run_cli("compare", *two_runs).out
    assert out.count("Methods of") == 1
    for run in two_runs:
        assert f"picture: {run}/methods/front.png" in out
        assert f"schedsearch export {run} --method NAME" in out


def test_rows_of_another_recipe_are_named_and_not_shown(two_runs: tuple[str, str]) -> None:
    run = Path(two_runs[0])
    settings = settings_of(rivals={"steps": {"kind": "steps", "num_steps": [12]}})
    write_space(RunFolder(run), settings)
    out = run_cli("compare", run).out
    assert "other settings than the space has now: steps-9." in out
    assert "steps-9" not in out.partition("On the front")[0]
    rule = ("--methods", "all", "--max-latency-ms", 1000, "--format", "json")
    assert json.loads(run_cli("pick", run, *rule).out)["name"] == "full"
    assert "steps-9" not in run_cli("front", run, "--methods", "all", "--format", "json").out


@pytest.mark.parametrize("weights", [None, "maps.safetensors"])
def test_pick_prints_an_export_that_works(tmp_path: Path, weights: str | None) -> None:
    run = make_run(tmp_path / "run", weights=weights)
    out = run_cli("pick", run, "--methods", "all", "--max-latency-ms", 55).out
    assert "--method steps-9 -o method.yaml" in out
    assert ("--weights method.safetensors" in out) == (weights is not None)
    rule = ("--methods", "all", "--max-latency-ms", 55, "--format", "json")
    picked = json.loads(run_cli("pick", run, *rule).out)
    assert picked.pop("why")
    assert picked in json.loads(run_cli("front", run, *rule[:2], *rule[4:]).out)
