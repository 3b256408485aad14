"""Whole runs with real trainings: what a finished one promises, and how it goes on."""

import os
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState as OptunaState
from tiny_runs import records_of, run_cli, write_space
from whole_runs import check_promises, without_checksum

from schedsearch.config import read_settings
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.results import RunResults
from schedsearch.search.stages.latency import trials_to_measure


def test_a_finished_run_keeps_its_promises(complete_run: Path) -> None:
    check_promises(complete_run, 7)
    folder = RunFolder(complete_run)
    assert read_settings(complete_run.parent / "space.yaml", []).search.n_trials == 7
    assert not folder.has_live_driver()
    printed = (complete_run.parent / "out.txt").read_text()
    assert "Pareto front of tiny" in printed
    assert "Next: schedsearch pick" in printed


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("recipe.lr=1.0e-3", "recipe.lr"),
        ("space.min_depth=3", "space.min_depth"),
        ("search.seed=1", "search.seed"),
        ("evaluation.num_samples=65", "evaluation.num_samples"),
        ("name=other", "name"),
    ],
)
def test_another_space_exits_2_and_names_the_keys(
    complete_run: Path, override: str, key: str
) -> None:
    before = (complete_run / "space.yaml").read_text()
    space = complete_run.parent / "space.yaml"
    for more in ((), ("--dry-run",)):
        done = run_cli("run", space, "-o", override, "--output", complete_run, *more)
        assert done.code == 2
        assert f"these keys differ: {key}." in done.err
        assert len([line for line in done.err.splitlines() if line]) <= 2
    assert (complete_run / "space.yaml").read_text() == before


def test_a_picture_older_than_its_front_is_drawn_again(run_copy: Path) -> None:
    """A start that added trials was killed before it drew them."""
    picture, front = run_copy / "front.png", run_copy / "front.yaml"
    before = front.stat()
    os.utime(picture, ns=(0, before.st_mtime_ns - 10**9))
    drawn = []
    for _ in range(2):  # and the second time nothing is left to do
        done = run_cli("run", run_copy.parent / "space.yaml", "--output", run_copy)
        assert done.code == 0, done.err
        drawn.append(picture.stat().st_mtime_ns)
    assert drawn[0] == drawn[1] >= before.st_mtime_ns
    assert front.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.slow
def test_a_larger_number_of_trials_goes_on_without_the_study(run_copy: Path) -> None:
    """More trials, other resources, and a study that is rebuilt on the way."""
    before = records_of(run_copy)
    (run_copy / "study.db").unlink()
    space = run_copy.parent / "space.yaml"
    overrides = ("-o", "search.n_trials=8", "-o", "resources.num_workers=1")
    done = run_cli("run", space, *overrides, "--output", run_copy)
    assert done.code == 0, done.err
    assert "resuming with 7 finished trials" in done.err
    after = records_of(run_copy)
    assert after[:7] == before
    check_promises(run_copy, 8)
    results = RunResults.load(RunFolder(run_copy))
    assert results.latency is not None
    assert results.latency.measured_after == 8
    assert sorted(results.latency.measured) == trials_to_measure(results)
    assert read_settings(run_copy / "space.yaml", []).search.n_trials == 8


@pytest.mark.parametrize("damaged", ["study.db", "results.jsonl", "latency.json"])
def test_a_damaged_file_exits_5_in_one_line(run_copy: Path, damaged: str) -> None:
    path = run_copy / damaged
    if damaged == "results.jsonl":
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(lines[0] + lines[1][:50] + b"\n" + b"".join(lines[2:]))
    else:
        path.write_bytes(b"damaged " * 1000)
    before = path.read_bytes()
    done = run_cli("-q", "run", run_copy.parent / "space.yaml", "--output", run_copy)
    assert done.code == 5
    assert len(done.err.splitlines()) == 1
    assert ("results.jsonl:2:" if damaged == "results.jsonl" else damaged) in done.err
    assert path.read_bytes() == before


def test_results_without_their_space_are_refused(run_copy: Path) -> None:
    (run_copy / "space.yaml").unlink()
    done = run_cli("run", run_copy.parent / "space.yaml", "--output", run_copy)
    assert done.code == 5
    assert "holds results but no space.yaml" in done.err


def test_the_study_may_lie_in_another_database(tmp_path: Path, run_copy: Path) -> None:
    """A study in another database, rebuilt there from the record."""
    for file in (run_copy.parent / "space.yaml", run_copy / "space.yaml"):
        text = without_checksum(file)
        url = f"sqlite:///{tmp_path / 'other.db'}"
        if "storage: null" in text:
            text = text.replace("storage: null", f"storage: {url}")
        else:
            text = text.replace("search:\n", f"search:\n  storage: {url}\n")
        file.write_text(text)
    (run_copy / "study.db").unlink()
    done = run_cli("run", run_copy.parent / "space.yaml", "--output", run_copy)
    assert done.code == 0, done.err
    assert not (run_copy / "study.db").exists()
    (name,) = optuna.get_all_study_names(url)
    study: Any = optuna.load_study(study_name=name, storage=url)
    assert sum(t.state is OptunaState.COMPLETE for t in study.trials) == 7
    assert "done:         7 of 7" in run_cli("status", run_copy).out
    shutil.rmtree(run_copy)


@pytest.mark.slow
def test_an_exhausted_space_exits_0_and_says_so(tmp_path: Path) -> None:
    space = write_space(
        tmp_path,
        space={"num_intervals": 3, "min_depth": 9, "max_depth": 10},
        warm_start=[[10, 10, 10], [10, 9, 9]],
        solver={"num_steps": 2},  # calls in the intervals 2 and 1: three look different
        search={"n_trials": 6},
    )
    done = run_cli("run", space, "--output", tmp_path / "run")
    assert done.code == 0, done.err
    assert "The space is exhausted" in done.out
    check_promises(tmp_path / "run", 3)
    again = run_cli("run", space, "--output", tmp_path / "run")
    assert again.code == 0
    assert len(records_of(tmp_path / "run")) == 3
