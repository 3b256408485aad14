"""A driver's study: equal to what Optuna writes itself, with one transaction per step."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from driving import Driver, settings_of
from optuna.trial import TrialState as OptunaState
from optuna_dashboard import get_note, save_note

from schedsearch.runs.folder import RunFolder
from schedsearch.search.study.driver_storage import DriverStorage, for_driver, together
from schedsearch.search.study.storage import open_storage, open_study


def folder_of(path: Path) -> RunFolder:
    folder = RunFolder(path)
    folder.create()
    return folder


def work(study: optuna.Study) -> None:
    """Everything that a driver does with a study."""
    study.enqueue_trial({"a": 3}, user_attrs={"depths": [3]})
    for number in range(5):
        trial = study.ask()
        trial.suggest_int("a", 1, 9)
        trial.set_user_attr("depths", [number])
        trial.set_user_attr("depths", [number + 1])
        trial.storage.set_trial_system_attr(trial._trial_id, "artifacts:x", "{}")
        save_note(trial, f"note {number}")
        if number == 1:
            study.tell(trial, state=OptunaState.FAIL)
        elif number != 3:
            study.tell(trial, (number + 0.5, float("inf")))
    save_note(study, "first")
    save_note(study, "second")
    study.enqueue_trial({"a": 4}, user_attrs={"retry_of": 3})


def contents(folder: RunFolder) -> list[tuple[object, ...]]:
    """What another process reads."""
    study = open_study(open_storage(folder, None), "s")
    trials = [
        (t.number, t._trial_id, t.state, t.values, t.params, t.distributions)
        for t in study.get_trials()
    ]
    rest = [
        (t.user_attrs, t.system_attrs, t.datetime_start is None, t.datetime_complete is None)
        for t in study.get_trials()
    ]
    notes = study._storage.get_study_system_attrs(study._study_id), get_note(study)
    return [*trials, *rest, notes]


@pytest.mark.parametrize("at_once", [False, True])
def test_it_writes_what_optuna_writes(tmp_path: Path, at_once: bool) -> None:
    plain, own = folder_of(tmp_path / "plain"), folder_of(tmp_path / "own")
    study = open_study(open_storage(plain, None), "s", optuna.samplers.RandomSampler(seed=0))
    work(study)
    study = open_study(
        for_driver(open_storage(own, None)), "s", optuna.samplers.RandomSampler(seed=0)
    )
    assert isinstance(study._storage, DriverStorage)
    if at_once:
        with together(study):
            work(study)
    else:
        work(study)
    assert contents(own) == contents(plain)
    again = open_study(for_driver(open_storage(own, None)), "s")
    assert again.get_trials() == study.get_trials()  # memory and database agree


def test_finished_trials_cannot_be_changed(tmp_path: Path) -> None:
    study = open_study(for_driver(open_storage(folder_of(tmp_path), None)), "s")
    trial = study.ask()
    study.tell(trial, (1.0, 2.0))
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        trial.set_user_attr("late", 1)


def test_notes_of_a_dashboard_are_replaced(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    study = open_study(for_driver(open_storage(folder, None)), "s")
    trial = study.ask()
    save_note(study, "ours")
    other = open_study(open_storage(folder, None), "s")
    save_note(other, "theirs")
    save_note(optuna.Trial(other, trial._trial_id), "theirs")
    with together(study):
        save_note(study, "ours, later")
        save_note(trial, "ours")
        study.tell(trial, (1.0, 2.0))
    notes = open_study(open_storage(folder, None), "s")._storage.get_study_system_attrs(1)
    assert notes["dashboard:note_str:0"] == "ours, later"
    assert notes[f"dashboard:{trial._trial_id}:note_str:0"] == "ours"


def test_what_came_before_an_error_is_kept(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    study = open_study(for_driver(open_storage(folder, None)), "s")

    def stopped() -> None:
        with together(study):
            study.ask().set_user_attr("depths", [1])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert open_study(open_storage(folder, None), "s").trials[0].user_attrs == {"depths": [1]}


@contextmanager
def statements(study: optuna.Study) -> Iterator[list[str]]:
    """What reaches the database: the first word of each statement, and the commits."""
    found: list[str] = []
    engine = study._storage._backend.engine

    def execute(_connection, _cursor, statement, *_rest) -> None:
        found.append(statement.split()[0])

    def commit(_connection) -> None:
        found.append("COMMIT")

    sqlalchemy.event.listen(engine, "before_cursor_execute", execute)
    sqlalchemy.event.listen(engine, "commit", commit)
    yield found
    sqlalchemy.event.remove(engine, "before_cursor_execute", execute)
    sqlalchemy.event.remove(engine, "commit", commit)


def test_a_trial_costs_three_transactions_and_no_reading(tmp_path: Path) -> None:
    """However many trials there are, and however many of them run."""
    driver = Driver(tmp_path / "run", settings_of(search={"n_trials": 50}))
    driver.prepare()
    jobs = [driver.ask() for _ in range(6)]
    driver.answer(jobs.pop())
    with statements(driver.optuna) as found:
        driver.ask()
        asked = found.copy()
        driver.answer(jobs.pop())
    assert "SELECT" not in found
    assert asked.count("COMMIT") == 2  # a number, and what belongs to it
    assert found.count("COMMIT") == 3
