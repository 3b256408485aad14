"""Starts of a driver on one folder, and how a run goes on to its end."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from driving import Driver, settings_of, warm
from optuna.trial import TrialState as OptunaState

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


def start_with(tmp_path: Path, *labelled: tuple[str, Sequence[int]], **changes: Any) -> Driver:
    driver = Driver(tmp_path / "run", settings_of(**changes), warm(*labelled))
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
