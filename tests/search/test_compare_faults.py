"""Comparisons whose driver is killed, whose rows fail, and that share a folder with a search."""

import os
import signal
from pathlib import Path
from typing import Any

from forks import ForkedCli
from tiny_runs import (
    children_of,
    faulty_space,
    is_alive,
    records_of,
    run_cli,
    wait_until,
    write_space,
)
from whole_runs import optuna_trials

from schedsearch.runs.methods.records import RivalRecord

RIVALS: dict[str, Any] = {"steps": {"kind": "steps", "num_steps": [2, 1]}}
QUICK: dict[str, Any] = {"warm_start": ["full"], "solver": {"name": "ddim", "num_steps": 3}}


def lines_of(run: Path) -> list[str]:
    path = run / "rivals.jsonl"
    return path.read_text().splitlines(keepends=True) if path.exists() else []


def test_a_killed_comparison_loses_no_row_that_it_recorded(tmp_path: Path) -> None:
    space, run = write_space(tmp_path, rivals=RIVALS, **QUICK), tmp_path / "run"
    words = ("compare", space, "--only", "steps", "--output", run)
    driver = ForkedCli(*words, log=tmp_path / "log.txt")
    wait_until(lambda: len(lines_of(run)) >= 1)
    workers = children_of(driver.pid)
    os.kill(driver.pid, signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL
    wait_until(lambda: not any(map(is_alive, workers)))
    kept = [line for line in lines_of(run) if line.endswith("\n")]
    assert len(kept) < 3, "it was killed too late to tell"
    assert run_cli(*words).code == 0
    assert lines_of(run)[: len(kept)] == kept
    names = [RivalRecord.from_json(line).name for line in lines_of(run)]
    assert sorted(names) == ["full", "steps-1", "steps-2"]


def test_a_row_whose_images_are_not_finite_fails(tmp_path: Path) -> None:
    rivals = {"flat": {"kind": "schedule", "schedules": ["flat-7"]}}
    quick = {**QUICK, "warm_start": []}
    space = faulty_space(tmp_path, {7: "nan_model"}, rivals=rivals, **quick)
    done = run_cli("compare", space, "--only", "flat", "--output", tmp_path / "run")
    assert done.code == 3, done.err
    rows = {r.name: r for r in map(RivalRecord.from_json, lines_of(tmp_path / "run"))}
    assert rows["full"].failed is None
    assert "not finite" in str(rows["flat-7"].failed)
    assert not rows["flat-7"].qualities
    assert "flat-7 failed" in done.out


def test_a_comparison_changes_nothing_of_a_search(tmp_path: Path) -> None:
    """Trials and proposals are those of the same space without ``rivals``."""
    untrained = {**QUICK, "recipe": {"num_steps": 0}, "search": {"n_trials": 3}}
    found = []
    for rivals in (RIVALS, {}):
        folder = tmp_path / ("with" if rivals else "without")
        space, run = write_space(folder, rivals=rivals, **untrained), folder / "run"
        if rivals:
            assert run_cli("compare", space, "--only", "steps", "--output", run).code == 0
        assert run_cli("run", space, "--output", run).code == 0
        trials = [(t.number, t.state, t.params, t.values[0]) for t in optuna_trials(run)]
        found.append((trials, [(r.depths, r.evaluation.fid) for r in records_of(run)]))  # type: ignore[union-attr]
    assert found[0] == found[1]
    assert len(found[0][0]) == 3
