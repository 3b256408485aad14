"""The promises of a run, by its driver alone: no worker, no training."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from driving import Driver, evaluation_of, record_of, settings_of, warm
from optuna.trial import TrialState as OptunaState

from schedsearch.exceptions import StorageError
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.workers.jobs import TrialJob

FULL, D8, D6 = (10,) * 10, (8,) * 10, (6,) * 10
SMALL = {"num_intervals": 10, "min_depth": 9, "max_depth": 10}
"""Four schedules that three solver steps can tell apart."""


def visited(depths: Sequence[int]) -> tuple[int, ...]:
    return depths[9], depths[6], depths[3]


def start(tmp_path: Path, *labelled: tuple[str, Sequence[int]], **changes: Any) -> Driver:
    driver = Driver(tmp_path / "run", settings_of(**changes), warm(*labelled))
    driver.prepare()
    return driver


def test_exactly_n_different_schedules(tmp_path: Path) -> None:
    driver = start(tmp_path, ("full", FULL), search={"n_trials": 20})
    seen = []
    while (job := driver.study.next_job()) is not None:
        assert isinstance(job, TrialJob)
        seen.append(visited(job.depths))
        driver.answer(job, fid=10.0 + job.number)
    assert len(seen) == len(set(seen)) == 20
    assert driver.study.finished.num_complete == 20
    assert not driver.study.exhausted
    assert len(driver.numbers(OptunaState.COMPLETE)) == len(driver.journal.read()) == 20
    for trial in driver.trials():
        assert trial.state.is_finished()
        if "duplicate_of" in trial.user_attrs:
            known = driver.trials()[trial.user_attrs["duplicate_of"]]
            assert trial.values == known.values
            assert visited(trial.user_attrs["depths"]) == visited(known.user_attrs["depths"])


def test_warm_starts_come_first_and_keep_their_labels(tmp_path: Path) -> None:
    driver = start(tmp_path, ("full", FULL), ("mine", D8))
    jobs = [driver.ask() for _ in range(3)]
    assert [(job.label, job.depths) for job in jobs[:2]] == [("full", FULL), ("mine", D8)]
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
    assert [(j.depths, j.label, j.origin) for j in (second, third)] == [
        (D8, None, "dp"),
        (D6, None, "dp"),
    ]
    assert (fourth.label, fourth.origin) == (None, None)
    driver.study.lose(second, "killed", retry=True)
    again = driver.ask()
    assert (again.depths, again.origin) == (D8, "dp")
    # The next start finds all of them open, and enqueues none twice.
    after = Driver(tmp_path / "run", settings_of(), warm(("full", FULL)))
    after.prepare(D8, FULL, D6)
    jobs = [after.ask() for _ in range(4)]
    assert sorted(j.depths for j in jobs if j.origin == "dp") == [D6, D8]


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
    assert visited(job.depths) != visited(D8)
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
    assert visited(job.depths) not in (visited(D8), visited(D6))
    assert [driver.trials()[n].state for n in (2, 3)] == [OptunaState.PRUNED] * 2


@pytest.mark.parametrize("sampler", ["additive", "stratified", "uniform", "tpe", "nsga2", "gp"])
def test_an_exhausted_space_ends_the_run(tmp_path: Path, sampler: str) -> None:
    driver = start(
        tmp_path, ("full", FULL), space=SMALL, search={"n_trials": 9, "sampler": sampler}
    )
    assert driver.study.known.size() == 4
    jobs = [driver.ask() for _ in range(4)]
    assert driver.study.next_job() is None
    assert not driver.study.exhausted  # a running one may still fail
    for job in jobs:
        assert not driver.study.all_tried
        driver.answer(job, fid=None if job is jobs[1] else 5.0)
    assert driver.study.all_tried
    assert not driver.study.gave_up
    assert driver.study.next_job() is None
    assert driver.study.exhausted
    assert {visited(job.depths) for job in jobs} == {
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
    assert driver.study.known.size() == 10
    assert driver.study.next_job() is None
    assert driver.study.exhausted


# ---- failures ---------------------------------------------------------------------------------


def test_a_trainer_that_always_fails_does_not_run_for_ever(tmp_path: Path) -> None:
    driver = start(tmp_path, ("full", FULL), search={"n_trials": 4})
    count = 0
    while (job := driver.study.next_job()) is not None:
        assert isinstance(job, TrialJob)
        driver.answer(job, fid=None)
        count += 1
    assert count == 4
    assert driver.study.gave_up
    assert not driver.study.all_tried
    assert (driver.study.finished.num_complete, driver.study.finished.num_failed) == (0, 4)
    assert driver.numbers(OptunaState.FAIL) == [0, 1, 2, 3]
    assert driver.trials()[0].user_attrs["stage"] == "fine-tune"
    assert driver.trials()[0].user_attrs["reason"] == "it broke"
    assert "trial 0 failed in fine-tune: it broke" in driver.told.getvalue()


@pytest.mark.parametrize("values", [(math.nan, 1.0), (math.inf, 1.0), (1.0, -math.inf)])
def test_values_that_are_not_finite_fail_the_trial(
    tmp_path: Path, values: tuple[float, float]
) -> None:
    driver = start(tmp_path, ("full", FULL))
    job = driver.ask()
    record = record_of(job.number, job.depths, evaluation=evaluation_of(*values))
    driver.study.finish(job, {"record": record.to_json()})
    (kept,) = driver.journal.read()
    assert not kept.complete
    assert kept.stage == "evaluate"
    assert kept.reason == f"{'fid' if values[1] == 1.0 else 'latency_ms'} is not finite"
    assert driver.trials()[0].state is OptunaState.FAIL
    driver.ask()  # the run goes on


def test_a_lost_worker_is_interrupted_and_its_schedule_runs_again(tmp_path: Path) -> None:
    driver = start(tmp_path, ("mine", D8), search={"n_trials": 2, "max_retries": 2})
    job, other = driver.ask(), driver.ask()
    driver.study.lose(job, "the worker was killed by signal 9", retry=True)
    trial = driver.trials()[job.number]
    assert trial.state is OptunaState.FAIL
    assert trial.user_attrs["interrupted"] is True
    assert trial.user_attrs["reason"] == "the worker was killed by signal 9"
    assert driver.journal.read() == []  # neither failed nor done
    assert (driver.study.finished.num_complete, driver.study.finished.num_failed) == (0, 0)
    again = driver.ask()
    assert (again.depths, again.label) == (job.depths, "mine")
    assert driver.trials()[again.number].user_attrs["retry_of"] == job.number
    driver.answer(again)
    driver.answer(other)
    assert driver.study.next_job() is None
    assert (driver.study.finished.num_complete, driver.study.finished.num_failed) == (2, 0)


def test_retries_end(tmp_path: Path) -> None:
    driver = start(tmp_path, ("mine", D8), search={"n_trials": 2, "max_retries": 2})
    for _ in range(3):
        job = driver.ask()
        assert job.depths == D8
        driver.study.lose(job, "the worker died", retry=True)
    (record,) = driver.journal.read()
    assert (record.stage, record.reason, record.label) == (
        "worker",
        "the worker died; gave up after 3 attempts",
        "mine",
    )
    assert driver.study.finished.num_failed == 1
    assert visited(driver.ask().depths) != visited(D8)


def test_a_time_out_is_not_tried_again(tmp_path: Path) -> None:
    driver = start(tmp_path, ("mine", D8))
    driver.study.lose(driver.ask(), "no result within 3 s", retry=False)
    (record,) = driver.journal.read()
    assert record.reason == "no result within 3 s"
    assert "interrupted" not in driver.trials()[0].user_attrs


def test_memory_is_tried_again_bad_numbers_are_not(tmp_path: Path) -> None:
    driver = start(tmp_path, ("mine", D8), ("other", D6))
    jobs = [driver.ask(), driver.ask()]
    driver.answer(jobs[0], fid=None, reason="MemoryError: no room", retry=True)
    driver.answer(jobs[1], fid=None, reason="loss is nan at step 3", retry=False)
    assert driver.ask().depths == D8
    assert [r.number for r in driver.journal.read()] == [1]


def test_a_full_disk_stops_the_run_and_blames_no_trial(tmp_path: Path) -> None:
    driver = start(tmp_path, ("mine", D8))
    job = driver.ask()
    with pytest.raises(StorageError, match=r"Trial 0 could not write.*Free space"):
        driver.answer(job, fid=None, stage="disk", reason="OSError: No space left on device")
    assert driver.journal.read() == []


def test_a_result_is_recorded_before_it_is_told(tmp_path: Path) -> None:
    driver = start(tmp_path, ("mine", D8))
    job = driver.ask()
    driver.folder.results_file.mkdir()  # nothing can be appended
    with pytest.raises(StorageError, match=r"results\.jsonl"):
        driver.answer(job)
    assert driver.trials()[job.number].state is OptunaState.RUNNING


def test_a_retry_is_enqueued_before_its_trial_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = start(tmp_path, ("mine", D8))
    job = driver.ask()

    def tell(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(driver.optuna, "tell", tell)
    with pytest.raises(KeyboardInterrupt):
        driver.study.lose(job, "the worker died", retry=True)
    (waiting,) = [t for t in driver.trials() if t.state is OptunaState.WAITING]
    assert waiting.user_attrs["retry_of"] == job.number


def test_progress_is_found_behind_an_attempt_that_left_none(tmp_path: Path) -> None:
    driver = start(tmp_path, ("mine", D8), search={"n_trials": 2, "max_retries": 5})
    first = driver.ask()
    driver.folder.trial(first.number).mkdir(parents=True)
    state = driver.folder.trial(first.number) / "progress.pt"
    state.write_bytes(b"state")
    driver.study.lose(first, "killed", retry=True)
    second = driver.ask()
    assert second.resume_from == first.number
    driver.study.lose(second, "killed while it loaded", retry=True)
    third = driver.ask()
    assert third.resume_from == first.number
    state.unlink()
    driver.study.lose(third, "killed", retry=True)
    assert driver.ask().resume_from is None


def test_gpus_of_their_own_let_workers_measure_latency(tmp_path: Path) -> None:
    shared = start(tmp_path / "a", resources={"gpus_per_trial": 0.5})
    alone = start(tmp_path / "b", resources={"gpus_per_trial": 1})
    assert not shared.ask().measure_latency
    assert alone.ask().measure_latency
