"""``status``, ``front`` and ``pick`` on a finished run: right, and without a trace."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_runs import contents, records_of, run_cli

from schedsearch.pareto import non_dominated
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.results import RunResults


@pytest.mark.parametrize(
    "argv",
    [
        ["status"],
        ["front"],
        ["front", "--format", "json"],
        ["front", "--format", "csv"],
        ["pick", "--knee"],
    ],
    ids=" ".join,
)
def test_nothing_is_changed(complete_run: Path, argv: list[str]) -> None:
    before = contents(complete_run)
    done = run_cli(argv[0], complete_run, *argv[1:])
    assert done.code == 0
    assert done.err == ""
    assert contents(complete_run) == before


def test_status(complete_run: Path) -> None:
    lines = dict(line.split(":", 1) for line in run_cli("status", complete_run).out.splitlines())
    values = {key: value.strip() for key, value in lines.items()}
    assert values["run"].startswith("tiny (")
    assert values["driver"] == "not running"
    assert values["done"] == "7 of 7"
    assert values["failed"] == values["running"] == "0"
    assert values["front"] == f"{len(front_of(complete_run))} schedules"
    assert 0 < float(values["hypervolume"]) < 1
    assert "interrupted" not in values


def test_status_as_json(complete_run: Path) -> None:
    found = json.loads(run_cli("status", complete_run, "--format", "json").out)
    assert {key: found[key] for key in ("name", "done", "n_trials", "failed")} == {
        "name": "tiny",
        "done": 7,
        "n_trials": 7,
        "failed": 0,
    }
    assert (found["driver_at_work"], found["running"], found["interrupted"]) == (False, [], [])
    assert found["front"] == len(front_of(complete_run))
    costs = json.loads((complete_run / "costs.json").read_text())
    assert found["wall_seconds"] == costs["wall_seconds"]
    assert found["device_seconds"] > 0
    assert 0 < found["hypervolume"] < 1


def front_of(run: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(run_cli("front", run, "--format", "json").out)
    return rows


def test_front_as_json(complete_run: Path) -> None:
    rows = front_of(complete_run)
    keys = {"trial", "depths", "fid", "latency_ms", "acceleration", "num_samples", "features"}
    assert rows
    for row in rows:
        assert keys <= set(row)
        assert len(row["depths"]) == 10
        assert all(isinstance(depth, int) and 2 <= depth <= 10 for depth in row["depths"])
        assert row["num_samples"] == 64
    latencies = [row["latency_ms"] for row in rows]
    assert latencies == sorted(latencies)
    points = [(row["fid"], row["latency_ms"]) for row in rows]
    assert len(non_dominated(points)) == len(rows)
    known = {r.number: r for r in records_of(complete_run)}
    report = json.loads((complete_run / "latency.json").read_text())
    for row in rows:
        record = known[row["trial"]]
        assert record.evaluation is not None
        assert row["depths"] == list(record.depths)
        assert row["fid"] == record.evaluation.fid
        measured = report["measured"][str(row["trial"])]
        assert row["latency_ms"] == measured["latency_ms"]
        assert row["acceleration"] == measured["acceleration"]
    # Whatever was measured and is not on the front is beaten by something on it.
    for entry in RunResults.load(RunFolder(complete_run)).entries:
        if str(entry.trial) in report["measured"]:
            assert any(fid <= entry.fid and ms <= entry.latency_ms for fid, ms in points)


def test_formats_and_files_agree(complete_run: Path) -> None:
    rows = json.loads(run_cli("front", complete_run, "--format", "json").out)
    assert yaml.safe_load(run_cli("front", complete_run, "--format", "yaml").out) == rows
    assert yaml.safe_load((complete_run / "front.yaml").read_text()) == rows
    text = run_cli("front", complete_run, "--format", "csv").out
    assert (complete_run / "front.csv").read_text() == text
    table = list(csv.DictReader(io.StringIO(text)))
    assert [int(row["trial"]) for row in table] == [row["trial"] for row in rows]
    assert [float(row["fid"]) for row in table] == [row["fid"] for row in rows]


def test_front_as_a_table(complete_run: Path) -> None:
    text = run_cli("front", complete_run).out
    for word in ("Pareto front of tiny", "D2-DiT", "full", "Against the hand-made", "Next:"):
        assert word in text


def test_pick(complete_run: Path) -> None:
    rows = json.loads(run_cli("front", complete_run, "--format", "json").out)
    fastest, best = rows[0], rows[-1]
    for rule, row in (
        (("--max-latency-ms", 1e9), best),
        (("--max-latency-ms", fastest["latency_ms"] + 1e-6), fastest),
        (("--max-fid", 1e9), fastest),
        (("--max-fid-increase", 1e9), fastest),
    ):
        done = run_cli("pick", complete_run, *rule)
        assert done.code == 0
        assert done.out.splitlines()[0].split()[:2] == ["trial", str(row["trial"])]
        assert f"depths:       {' '.join(map(str, row['depths']))}" in done.out
        assert "why:" in done.out
        assert f"--trial {row['trial']} -o schedule.yaml" in done.out
    done = run_cli("pick", complete_run, "--knee")
    assert done.code == 0
    row = rows[knee_by_hand(rows)]
    picked = json.loads(run_cli("pick", complete_run, "--knee", "--format", "json").out)
    assert picked == {**row, "why": picked["why"]}
    assert f"why:          {picked['why']}" in done.out
    name = f" ({row['name']})" if row["name"] else ""
    assert done.out.splitlines()[0] == f"trial {row['trial']}{name}"


def knee_by_hand(rows: list[dict[str, Any]]) -> int:
    """The row farthest below the line between the ends; the cheapest where none is below."""
    fids, ms = ([row[key] for row in rows] for key in ("fid", "latency_ms"))
    below = [
        1
        - (ms[i] - ms[0]) / ((ms[-1] - ms[0]) or 1)
        - (fids[i] - fids[-1]) / ((fids[0] - fids[-1]) or 1)
        for i in range(len(rows))
    ]
    return max(range(len(rows)), key=lambda i: round(below[i], 12)) if len(rows) > 2 else 0


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (("--max-latency-ms", "1e-6"), "Nothing takes at most 1e-06 ms; the fastest is"),
        (("--max-fid", "1e-6"), "of at most 1e-06; the best is full"),
    ],
)
def test_what_cannot_be_met_exits_4(
    complete_run: Path, rule: tuple[str, str], message: str
) -> None:
    done = run_cli("pick", complete_run, *rule)
    assert done.code == 4
    assert done.out == ""
    assert len(done.err.splitlines()) == 1
    assert message in done.err


@pytest.mark.parametrize("command", [("status",), ("front",), ("pick", "--knee")])
def test_no_run(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = run_cli(command[0], tmp_path / "nothing", *command[1:])
    assert done.code == 2
    assert "A run folder holds space.yaml" in done.err


def test_the_runs_that_exist_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "There is no run here." in run_cli("status", "demo").err
    for name in ("demo", "other"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "space.yaml").touch()
    for typed in ("dmeo", "runs/dmeo"):
        done = run_cli("status", typed)
        assert done.code == 2
        assert "did you mean 'demo'? Runs here: runs/demo, runs/other." in done.err
    assert "did you mean" not in run_cli("status", "runs/xy").err


def test_a_run_without_results(complete_run: Path, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text((complete_run / "space.yaml").read_text())
    front = run_cli("front", tmp_path, "--format", "json")
    assert (front.code, front.out) == (4, "")
    assert "needs a complete trial, but there is none (0 failed)" in front.err
    done = run_cli("status", tmp_path)
    assert done.code == 0
    assert "done:         0 of 7" in done.out
    assert "hypervolume:  -" in done.out


def test_a_torn_last_line_is_left_alone(run_copy: Path) -> None:
    with (run_copy / "results.jsonl").open("a") as handle:
        handle.write('{"number": 9')
    before = contents(run_copy)
    assert "done:         7 of 7" in run_cli("status", run_copy).out
    assert contents(run_copy) == before
