"""``schedsearch recover``: the study is rebuilt from the record."""

import json
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
from driving import record_of, settings_of
from optuna.trial import TrialState as OptunaState
from tiny_runs import records_of, run_cli
from whole_runs import check_promises, optuna_trials

from schedsearch.records import TrialRecord
from schedsearch.runs.checks.space_file import write_space
from schedsearch.runs.folder import RunFolder
from schedsearch.search.recover import recover_run


def states(run: Path) -> dict[int, tuple[OptunaState, object]]:
    return {t.number: (t.state, t.values) for t in optuna_trials(run)}


@pytest.mark.parametrize("damage", ["gone", "overwritten", "whole"])
def test_the_study_is_as_before(run_copy: Path, damage: str) -> None:
    before, front = states(run_copy), run_cli("front", run_copy, "--format", "json").out
    study = run_copy / "study.db"
    if damage == "gone":
        study.unlink()
    elif damage == "overwritten":
        study.write_bytes(b"no database " * 500)
    done = run_cli("recover", run_copy)
    assert done.code == 0, done.err
    assert "study rebuilt from 7 trials" in done.out
    assert states(run_copy) == before
    assert (run_copy / "study.db.damaged").exists() == (damage != "gone")
    assert run_cli("front", run_copy, "--format", "json").out == front
    assert not list(run_copy.glob(".study*"))
    again = run_cli("run", run_copy.parent / "space.yaml", "--output", run_copy)
    assert again.code == 0, again.err
    check_promises(run_copy, 7)


def test_a_damaged_line_comes_back_from_the_folder_of_its_trial(run_copy: Path) -> None:
    front = run_cli("front", run_copy, "--format", "json").out
    path = run_copy / "results.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b"fid", b"fed") + b"".join(lines[2:]))
    failed = run_cli("front", run_copy)
    assert failed.code == 5
    assert "results.jsonl:2: " in failed.err
    done = run_cli("recover", run_copy)
    assert done.code == 0, done.err
    assert "damaged lines of results.jsonl moved to results.jsonl.damaged: 2" in done.out
    assert "lines restored from the folders of trials: " in done.out
    again = run_cli("front", run_copy, "--format", "json")
    assert sorted(json.loads(again.out), key=str) == sorted(json.loads(front), key=str)


def test_a_lost_confirmation_stays_known_until_it_is_measured_again(run_copy: Path) -> None:
    path = run_copy / "confirmation.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert run_cli("recover", run_copy).code == 0
    refused = run_cli("front", run_copy)
    assert refused.code == 5
    assert "lines are lost. Restore it" in refused.err


def test_numbers_of_folders_are_not_given_anew(run_copy: Path) -> None:
    """A lost line and a lost record: the schedule runs again under another number."""
    path = run_copy / "results.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    lost = TrialRecord.from_json(lines[-1].decode().strip()).number
    (run_copy / "trials" / f"{lost:04d}" / "record.json").unlink()
    done = run_cli("recover", run_copy)
    assert (done.code, "lines of results.jsonl lost: 1; " in done.out) == (0, True)
    trial = optuna_trials(run_copy)[lost]
    assert trial.state is OptunaState.FAIL
    again = run_cli("run", run_copy.parent / "space.yaml", "--output", run_copy)
    assert again.code == 0, again.err
    assert lost not in {record.number for record in records_of(run_copy)}
    assert len(records_of(run_copy)) == 7


def test_another_driver_is_not_disturbed(run_copy: Path) -> None:
    before = (run_copy / "study.db").read_bytes()
    with RunFolder(run_copy).locked():
        assert run_cli("recover", run_copy).code == 5
    assert (run_copy / "study.db").read_bytes() == before


def test_two_thousand_trials_take_seconds_and_one_transaction(tmp_path: Path) -> None:
    folder, settings = RunFolder(tmp_path / "run"), settings_of(search={"n_trials": 2000})
    folder.create()
    write_space(folder, settings)
    rng, space = np.random.default_rng(0), settings.space.build()
    schedules = dict.fromkeys(space.sample(rng).depths for _ in range(2600))
    records = [record_of(n, d) for n, d in enumerate(list(schedules)[:2000])]
    folder.results_file.write_text("".join(f"{record.to_json()}\n" for record in records))
    said: list[str] = []
    began = time.process_time()
    assert recover_run(folder, said.append).num_trials == 2000
    assert time.process_time() - began < 10
    assert said[-1] == "rebuilding the study: 2000 of 2000 trials"
    with sqlite3.connect(f"{folder.study_file.as_uri()}?mode=ro", uri=True) as database:
        assert database.execute("SELECT count(*) FROM trials").fetchone() == (2000,)
        assert database.execute("SELECT count(*) FROM trial_params").fetchone() == (20_000,)
