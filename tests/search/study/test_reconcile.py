"""What a start finds of trials whose driver died, at every point where one may die."""

from pathlib import Path
from typing import Any

import pytest
from driving import record_of
from optuna.trial import TrialState as OptunaState
from starts import finish, start

from schedsearch.search.study.reconcile import tell_record


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
