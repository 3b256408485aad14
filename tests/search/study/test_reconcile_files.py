"""What a start makes of lost or damaged files: the journal is the record, the study its index."""

import contextlib
import sqlite3
from pathlib import Path

import pytest
from driving import Driver, record_of, with_trials
from optuna.trial import TrialState as OptunaState
from starts import WARM, finish, settings, start

from schedsearch.exceptions import StorageError


def test_a_torn_last_line_is_cut_off_and_its_trial_runs_again(tmp_path: Path) -> None:
    dead = start(tmp_path)
    kept = dead.answer(dead.ask())
    job = dead.ask()
    line = record_of(job.number, job.schedule.depths).to_json().encode()
    with dead.folder.results_file.open("ab") as handle:
        handle.write(line[: len(line) // 2])

    driver = start(tmp_path)
    assert driver.journal.read() == [kept]
    assert driver.folder.results_file.read_bytes().endswith(b"}\n")
    assert driver.ask().schedule.depths == job.schedule.depths


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    dead = start(tmp_path)
    for _ in range(3):
        dead.answer(dead.ask())
    lines = dead.folder.results_file.read_bytes().splitlines(keepends=True)
    dead.folder.results_file.write_bytes(lines[0] + lines[1][:20] + b"\n" + lines[2])
    with pytest.raises(StorageError, match=r"results\.jsonl:2: "):
        start(tmp_path)


def test_a_deleted_study_is_rebuilt_with_the_same_numbers(tmp_path: Path) -> None:
    dead = start(tmp_path)
    first = dead.answer(dead.ask(), fid=3.0)
    lost = dead.ask()
    dead.lose(lost, "the worker died")
    failed = dead.answer(dead.ask(), fid=None)
    last = dead.answer(dead.ask(), fid=6.0)
    before = {t.number: (t.state, t.values) for t in dead.trials() if t.state.is_finished()}
    records = tuple(dead.journal.read())
    assert [r.number for r in records] == [first.number, failed.number, last.number]
    for path in dead.folder.root.glob("study.db*"):
        path.unlink()

    driver = start(tmp_path)
    after = {t.number: (t.state, t.values) for t in driver.trials() if t.state.is_finished()}
    assert after == before
    assert driver.study.finished.records == records
    assert driver.trials()[first.number].user_attrs["label"] == "full"
    assert driver.trials()[first.number].params == driver.space.to_params(first.schedule)
    assert driver.trials()[lost.number].user_attrs["interrupted"] is True
    finish(driver)


def test_a_study_that_lost_its_newest_commits_is_brought_up_to_date(tmp_path: Path) -> None:
    """After a power cut: the lines are synced one by one, the database is not."""
    dead = start(tmp_path)
    dead.answer(dead.ask())
    with contextlib.closing(sqlite3.connect(dead.folder.study_file)) as connection:
        connection.execute(f"VACUUM INTO '{tmp_path / 'older.db'}'")
    for _ in range(3):
        dead.answer(dead.ask())
    for path in dead.folder.root.glob("study.db*"):
        path.unlink()
    (tmp_path / "older.db").rename(dead.folder.study_file)

    driver = start(tmp_path)
    assert driver.numbers(OptunaState.COMPLETE) == [0, 1, 2, 3]
    assert driver.trials()[1].user_attrs["label"] == "mine"
    finish(driver)


def test_a_deleted_journal_is_written_again_from_the_trials(tmp_path: Path) -> None:
    dead = start(tmp_path)
    for _ in range(3):
        dead.write_record(dead.answer(dead.ask()))
    before = dead.journal.read()
    dead.folder.results_file.unlink()
    driver = start(tmp_path)
    assert driver.journal.read() == before
    finish(driver)


def test_a_finished_run_asks_for_nothing_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    driver = start(tmp_path, n_trials=4)
    finish(driver)
    assert start(tmp_path, n_trials=4).study.next_job() is None
    larger = Driver(tmp_path / "run", with_trials(settings(), 6), WARM)
    larger.prepare()
    assert larger.study.finished.num_complete == 4
    finish(larger)
