"""``status``, ``front`` and ``pick`` on a finished run: right, and without a trace."""

import csv
import io
import json
from pathlib import Path

import pytest
import yaml
from tiny_runs import records_of, run_cli

from schedsearch.pareto import non_dominated


def contents(root: Path) -> dict[str, tuple[int, int]]:
    """Time and size of every file, but for the memory that SQLite's processes share."""
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in (root, *root.rglob("*"))
        if not path.name.endswith("-shm")
    }


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
    assert 0 < float(values["hypervolume"]) < 1
    assert "interrupted" not in values


def test_front_as_json(complete_run: Path) -> None:
    rows = json.loads(run_cli("front", complete_run, "--format", "json").out)
    keys = {"trial", "depths", "fid", "latency_ms", "acceleration", "num_samples", "features"}
    assert rows
    for row in rows:
        assert keys <= set(row)
        assert len(row["depths"]) == 10
        assert all(isinstance(depth, int) and 2 <= depth <= 10 for depth in row["depths"])
        assert row["num_samples"] == 64
        assert row["acceleration"] < 1
    latencies = [row["latency_ms"] for row in rows]
    assert latencies == sorted(latencies)
    points = [(row["fid"], row["latency_ms"]) for row in rows]
    assert len(non_dominated(points)) == len(rows)
    known = {r.number: list(r.depths) for r in records_of(complete_run)}
    assert all(known[row["trial"]] == row["depths"] for row in rows)


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
    for word in ("Pareto front of tiny", "D2-DiT", "full", "Against the hand-made", "How sure"):
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
    assert run_cli("pick", complete_run, "--knee").code == 0


@pytest.mark.parametrize("rule", [("--max-latency-ms", "1e-6"), ("--max-fid", "1e-6")])
def test_what_cannot_be_met_exits_4(complete_run: Path, rule: tuple[str, str]) -> None:
    done = run_cli("pick", complete_run, *rule)
    assert done.code == 4
    assert done.out == ""
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize("command", [("status",), ("front",), ("pick", "--knee")])
def test_no_run(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = run_cli(command[0], tmp_path / "nothing", *command[1:])
    assert done.code == 2
    assert "A run folder holds space.yaml" in done.err


def test_a_run_without_results(complete_run: Path, tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text((complete_run / "space.yaml").read_text())
    assert run_cli("front", tmp_path, "--format", "json").code == 4
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
