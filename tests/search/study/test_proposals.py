"""What a study asks for: new schedules only, presets first, and an end."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from driving import Driver, settings_of, warm
from optuna.trial import TrialState as OptunaState
from starts import start_with as start

from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.workers.jobs import TrialJob

FULL, D8, D6 = (10,) * 10, (8,) * 10, (6,) * 10
SMALL = {"num_intervals": 10, "min_depth": 9, "max_depth": 10}
"""Four schedules that three solver steps can tell apart."""


def visited(schedule: ExitSchedule | Sequence[int]) -> tuple[int, ...]:
    """Depths where the solver calls the network."""
    depths = schedule.depths if isinstance(schedule, ExitSchedule) else schedule
    return depths[9], depths[6], depths[3]


def test_exactly_n_different_schedules(tmp_path: Path) -> None:
    driver = start(tmp_path, ("full", FULL), search={"n_trials": 12})
    seen = []
    while (job := driver.study.next_job()) is not None:
        assert isinstance(job, TrialJob)
        seen.append(visited(job.schedule))
        driver.answer(job, fid=10.0 + job.number)
    assert len(seen) == len(set(seen)) == 12
    assert driver.study.finished.num_complete == 12
    assert not driver.study.exhausted
    assert len(driver.numbers(OptunaState.COMPLETE)) == len(driver.journal.read()) == 12
    for trial in driver.trials():
        assert trial.state.is_finished()
        if "duplicate_of" in trial.user_attrs:
            known = driver.trials()[trial.user_attrs["duplicate_of"]]
            assert trial.values == known.values
            assert visited(trial.user_attrs["depths"]) == visited(known.user_attrs["depths"])


def test_warm_starts_come_first_and_keep_their_labels(tmp_path: Path) -> None:
    driver = start(tmp_path, ("full", FULL), ("mine", D8))
    jobs = [driver.ask() for _ in range(3)]
    assert [(job.label, job.schedule.depths) for job in jobs[:2]] == [("full", FULL), ("mine", D8)]
    assert jobs[2].label is None
    assert jobs[0].predicted_latency_ms == 100.0
    assert not jobs[0].measure_latency
    assert jobs[0].resume_from is None
    driver.answer(jobs[1], fid=3.0)
    trial = driver.trials()[1]
    assert trial.values == [3.0, 80.0]
    assert trial.user_attrs["depths"] == list(D8)
    assert trial.user_attrs["label"] == "mine"
    assert trial.user_attrs["features"] == "digits CNN"


def test_seeds_of_the_table_follow_the_warm_starts_and_keep_their_origin(
    tmp_path: Path,
) -> None:
    driver = Driver(tmp_path / "run", settings_of(), warm(("full", FULL)))
    driver.prepare(D8, FULL, D6)  # full depth is a warm start already
    first, second, third, fourth = (driver.ask() for _ in range(4))
    assert (first.label, first.origin) == ("full", None)
    assert [(j.schedule.depths, j.label, j.origin) for j in (second, third)] == [
        (D8, None, "dp"),
        (D6, None, "dp"),
    ]
    assert (fourth.label, fourth.origin) == (None, None)
    driver.lose(second, "killed")
    again = driver.ask()
    assert (again.schedule.depths, again.origin) == (D8, "dp")
    # The next start finds all of them open, and enqueues none twice.
    after = Driver(tmp_path / "run", settings_of(), warm(("full", FULL)))
    after.prepare(D8, FULL, D6)
    jobs = [after.ask() for _ in range(4)]
    assert sorted(j.schedule.depths for j in jobs if j.origin == "dp") == [D6, D8]


def test_no_more_jobs_than_trials_are_missing(tmp_path: Path) -> None:
    driver = start(tmp_path, search={"n_trials": 3})
    jobs = [driver.ask() for _ in range(3)]
    assert driver.study.next_job() is None  # three are running
    driver.answer(jobs[0], fid=None)
    replacement = driver.ask()
    assert driver.study.next_job() is None
    for job in (*jobs[1:], replacement):
        driver.answer(job)
    assert driver.study.next_job() is None
    assert (driver.study.finished.num_complete, driver.study.finished.num_failed) == (3, 1)


def test_warm_starts_that_the_solver_cannot_tell_apart_are_one(tmp_path: Path) -> None:
    same = (10, 10, 10, 8, 8, 8, 8, 8, 8, 8)  # differs from D8 where no network call is
    driver = start(tmp_path, ("mine", D8), ("same", same))
    assert driver.ask().label == "mine"
    assert driver.ask().label is None


def test_a_duplicate_is_answered_and_does_not_count(tmp_path: Path) -> None:
    driver = start(tmp_path, ("mine", D8), search={"n_trials": 2})
    driver.answer(driver.ask(), fid=4.5)
    driver.optuna.enqueue_trial(driver.space.to_params(ExitSchedule((10, *D8[1:]))))
    job = driver.ask()
    assert visited(job.schedule) != visited(D8)
    duplicate = driver.trials()[1]
    assert duplicate.state is OptunaState.COMPLETE
    assert duplicate.user_attrs["duplicate_of"] == 0
    assert duplicate.values == [4.5, 80.0]
    assert driver.study.finished.num_complete == 1
    assert len(driver.journal.read()) == 1


def test_duplicates_of_running_and_failed_trials_have_no_values(tmp_path: Path) -> None:
    driver = start(tmp_path, ("mine", D8), ("other", D6))
    driver.answer(driver.ask(), fid=None)
    driver.ask()
    for depths in (D8, D6):
        driver.optuna.enqueue_trial(driver.space.to_params(ExitSchedule(depths)))
    job = driver.ask()
    assert visited(job.schedule) not in (visited(D8), visited(D6))
    assert [driver.trials()[n].state for n in (2, 3)] == [OptunaState.PRUNED] * 2


@pytest.mark.parametrize("sampler", ["additive", "stratified", "uniform", "tpe", "nsga2", "gp"])
def test_an_exhausted_space_ends_the_run(tmp_path: Path, sampler: str) -> None:
    driver = start(
        tmp_path, ("full", FULL), space=SMALL, search={"n_trials": 9, "sampler": sampler}
    )
    assert driver.study.distinct.size() == 4
    jobs = [driver.ask() for _ in range(4)]
    assert driver.study.next_job() is None
    assert not driver.study.exhausted  # a running one may still fail
    for job in jobs:
        driver.answer(job, fid=None if job is jobs[1] else 5.0)
    assert driver.study.may_go_on
    assert not driver.study.gave_up
    assert driver.study.next_job() is None
    assert driver.study.exhausted
    assert not driver.study.may_go_on  # whatever the budget; one schedule has no result
    assert {visited(job.schedule) for job in jobs} == {
        (9, 9, 9),
        (9, 9, 10),
        (9, 10, 10),
        (10, 10, 10),
    }


def test_polling_an_exhausted_space_leaves_no_trials(tmp_path: Path) -> None:
    """A runner asks again and again while the last trials run."""
    driver = start(tmp_path, space=SMALL, search={"n_trials": 9})
    jobs = [driver.ask() for _ in range(4)]
    driver.answer(jobs[0], fid=None)
    asked = len(driver.trials())
    for _ in range(20):
        assert driver.study.next_job() is None
    assert len(driver.trials()) == asked
    for job in jobs[1:]:
        driver.answer(job)
    assert driver.study.next_job() is None
    assert driver.study.exhausted
    assert (driver.study.finished.num_complete, driver.study.finished.num_failed) == (3, 1)


def test_the_last_schedules_of_a_large_space_are_found(tmp_path: Path) -> None:
    """Chance finds the rare ones hardly ever: of 92,378 schedules 11 look different."""
    space = {"num_intervals": 10, "min_depth": 1, "max_depth": 10}
    settings = settings_of(space=space, search={"n_trials": 99})
    driver = Driver(tmp_path / "run", settings, times=(999.0,))
    driver.prepare()
    for _ in range(10):
        driver.answer(driver.ask())
    assert driver.study.distinct.size() == 10
    assert driver.study.next_job() is None
    assert driver.study.exhausted


def test_gpus_of_their_own_let_workers_measure_latency(tmp_path: Path) -> None:
    shared = start(tmp_path / "a", resources={"gpus_per_trial": 0.5})
    alone = start(tmp_path / "b", resources={"gpus_per_trial": 1})
    assert not shared.ask().measure_latency
    assert alone.ask().measure_latency
