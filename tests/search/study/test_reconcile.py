"""What a start finds of drivers that died, at every point where one may die."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from driving import Driver, record_of, settings_of, warm, with_trials
from optuna.trial import TrialState as OptunaState

from schedsearch.exceptions import StorageError
from schedsearch.search.study.reconcile import tell_record
from schedsearch.settings import StudySettings
from schedsearch.workers.jobs import TrialJob

FULL, D8 = (10,) * 10, (8,) * 10
WARM = warm(("full", FULL), ("mine", D8))


def settings(n_trials: int = 5) -> StudySettings:
    return settings_of(search={"n_trials": n_trials})


def start(tmp_path: Path, n_trials: int = 5) -> Driver:
    driver = Driver(tmp_path / "run", settings(n_trials), WARM)
    driver.prepare()
    return driver


def finish(driver: Driver) -> None:
    """Run to the end and check the promises."""
    trained = []
    known = {r.depths for r in driver.study.finished.records if r.complete}
    while (job := driver.study.next_job()) is not None:
        assert isinstance(job, TrialJob)
        trained.append(job.schedule.depths)
        driver.answer(job)
    assert not known & set(trained)  # nothing finished was trained again
    assert len(trained) == len(set(trained))
    assert driver.numbers(OptunaState.RUNNING) == []
    complete = [r for r in driver.journal.read() if r.complete]
    assert len(complete) == driver.study.finished.num_complete == driver.settings.search.n_trials
    assert driver.numbers(OptunaState.COMPLETE) == sorted(r.number for r in complete)
    for record in complete:
        trial = driver.trials()[record.number]
        assert record.evaluation is not None
        assert trial.values == list(record.evaluation.values)
        assert trial.user_attrs["depths"] == list(record.depths)


def test_running_trials_are_interrupted_and_run_again(tmp_path: Path) -> None:
    dead = start(tmp_path)
    done = dead.answer(dead.ask())
    lost, searched = dead.ask(), dead.ask()
    assert lost.label == "mine"

    driver = start(tmp_path)
    assert driver.study.finished.records == (done,)
    for job in (lost, searched):
        trial = driver.trials()[job.number]
        assert trial.state is OptunaState.FAIL
        assert trial.user_attrs["interrupted"] is True
    again = [driver.ask(), driver.ask()]
    assert [(job.schedule.depths, job.label) for job in again] == [
        (lost.schedule.depths, "mine"),
        (searched.schedule.depths, None),
    ]
    for job in again:
        driver.answer(job)
    assert driver.study.finished.num_failed == 0
    finish(driver)


def test_many_deaths_enqueue_nothing_twice(tmp_path: Path) -> None:
    for _ in range(4):
        dead = start(tmp_path)
        dead.ask()
        dead.ask()
    driver = start(tmp_path)
    assert len(driver.numbers(OptunaState.WAITING)) == 2
    finish(driver)


def test_a_recorded_trial_is_told_from_its_line(tmp_path: Path) -> None:
    dead = start(tmp_path)
    good, bad = dead.ask(), dead.ask()
    dead.journal.append(record_of(good.number, good.schedule.depths, 3.0, 70.0, label="full"))
    dead.journal.append(record_of(bad.number, bad.schedule.depths, None, label="mine"))

    driver = start(tmp_path)
    trials = driver.trials()
    assert (trials[0].state, trials[0].values) == (OptunaState.COMPLETE, [3.0, 70.0])
    assert trials[1].state is OptunaState.FAIL
    assert "interrupted" not in trials[1].user_attrs
    assert (driver.study.finished.num_complete, driver.study.finished.num_failed) == (1, 1)
    finish(driver)


def test_a_result_that_only_the_worker_wrote_is_adopted(tmp_path: Path) -> None:
    dead = start(tmp_path)
    job = dead.ask()
    record = record_of(job.number, job.schedule.depths, 3.0, 70.0, label=job.label)
    dead.write_record(record)

    driver = start(tmp_path)
    assert driver.journal.read() == [record]
    assert driver.trials()[0].values == [3.0, 70.0]
    finish(driver)


@pytest.mark.parametrize("case", ["torn", "another trial", "another schedule", "failed", "nan"])
def test_what_is_not_adopted(tmp_path: Path, case: str) -> None:
    dead = start(tmp_path)
    job = dead.ask()
    changes: dict[str, Any] = {}
    if case == "another trial":
        changes = {"number": 5}
    elif case == "another schedule":
        changes = {"depths": (7,) * 10}
    elif case in ("failed", "nan"):
        changes = {"fid": None if case == "failed" else float("nan")}
    record = record_of(**{"number": job.number, "depths": job.schedule.depths, **changes})
    folder = dead.folder.trial(job.number)
    folder.mkdir(parents=True)
    text = record.to_json() + "\n"
    (folder / "record.json").write_text(text[:-9] if case == "torn" else text)

    driver = start(tmp_path)
    assert driver.journal.read() == []
    assert driver.trials()[0].state is OptunaState.FAIL
    finish(driver)


def test_an_attempt_that_was_closed_is_not_adopted_later(tmp_path: Path) -> None:
    """Its worker died between writing the result and sending it; its schedule ran again."""
    dead = start(tmp_path)
    first = dead.ask()
    dead.write_record(record_of(first.number, first.schedule.depths))
    dead.lose(first, "the worker was killed by signal 9")
    second = dead.ask()  # the other warm start
    third = dead.ask()
    assert third.schedule.depths == first.schedule.depths
    dead.answer(second)
    dead.answer(third)

    driver = start(tmp_path)
    assert [r.number for r in driver.journal.read()] == [second.number, third.number]
    finish(driver)


def test_killed_between_the_retry_and_the_end_of_a_trial(tmp_path: Path) -> None:
    dead = start(tmp_path)
    job = dead.ask()
    dead.study.proposals.enqueue(
        job.schedule, retry_of=job.number, label=job.label
    )  # and then died

    driver = start(tmp_path)
    waiting = [t for t in driver.trials() if t.state is OptunaState.WAITING]
    assert [t.user_attrs["depths"] for t in waiting].count(list(job.schedule.depths)) == 1
    assert driver.trials()[0].user_attrs["interrupted"] is True
    finish(driver)


def test_killed_while_it_asked(tmp_path: Path) -> None:
    dead = start(tmp_path)
    dead.optuna.ask()  # a warm start, of which the study knows nothing more yet
    dead.optuna.ask()
    trial = dead.optuna.ask()
    trial.suggest_int("depth_0", 2, 10)  # a proposal that is not complete

    driver = start(tmp_path)
    assert all(t.state is not OptunaState.RUNNING for t in driver.trials())
    assert {driver.ask().label for _ in range(2)} == {"full", "mine"}


def test_killed_while_it_answered_a_duplicate(tmp_path: Path) -> None:
    dead = start(tmp_path)
    done = dead.answer(dead.ask())
    dead.optuna.enqueue_trial(dead.space.to_params(done.schedule))
    dead.answer(dead.ask())
    duplicate = dead.optuna.ask()
    dead.space.suggest(duplicate)
    duplicate.set_user_attr("depths", list(done.depths))
    duplicate.set_user_attr("duplicate_of", 0)

    driver = start(tmp_path)
    assert driver.study.finished.num_complete == 2
    finish(driver)


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
    with pytest.raises(StorageError, match=r"^results\.jsonl:2: "):
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


def test_a_failed_warm_start_gets_another_chance_at_the_next_start(tmp_path: Path) -> None:
    dead = start(tmp_path)
    dead.answer(dead.ask(), fid=None)
    driver = start(tmp_path)
    assert {driver.ask().label, driver.ask().label} == {"full", "mine"}


def test_tell_record_knows_both_outcomes(tmp_path: Path) -> None:
    driver = start(tmp_path)
    good, bad = driver.ask(), driver.ask()
    tell_record(driver.optuna, good.number, record_of(good.number, good.schedule.depths, 1.0, 2.0))
    tell_record(driver.optuna, bad.number, record_of(bad.number, bad.schedule.depths, None))
    assert driver.trials()[good.number].values == [1.0, 2.0]
    assert driver.trials()[bad.number].state is OptunaState.FAIL
