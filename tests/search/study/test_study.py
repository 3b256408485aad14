"""What a study does with failures: what is recorded, what runs again, what ends the run."""

import math
from pathlib import Path

import pytest
from driving import evaluation_of, record_of
from optuna.trial import TrialState as OptunaState
from starts import start_with as start

from schedsearch.exceptions import StorageError
from schedsearch.workers.jobs import DISK_STAGE, WORKER_STAGE, Done, Failed, TrialJob

FULL, D8, D6 = (10,) * 10, (8,) * 10, (6,) * 10


def test_a_trainer_that_always_fails_does_not_run_for_ever(tmp_path: Path) -> None:
    driver = start(tmp_path, ("full", FULL), search={"n_trials": 4})
    count = 0
    while (job := driver.study.next_job()) is not None:
        assert isinstance(job, TrialJob)
        driver.answer(job, fid=None)
        count += 1
    assert count == 4
    assert driver.study.gave_up
    assert not driver.study.may_go_on  # whatever the budget
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
    record = record_of(job.number, job.schedule.depths, evaluation=evaluation_of(*values))
    driver.study.finish(job, Done(result=record))
    (kept,) = driver.journal.read()
    assert not kept.complete
    assert kept.stage == "evaluate"
    assert kept.reason == f"{'fid' if values[1] == 1.0 else 'latency_ms'} is not finite"
    assert driver.trials()[0].state is OptunaState.FAIL
    driver.ask()  # the run goes on


def test_a_lost_worker_is_interrupted_and_its_schedule_runs_again(tmp_path: Path) -> None:
    driver = start(tmp_path, ("mine", D8), search={"n_trials": 2, "max_retries": 2})
    job, other = driver.ask(), driver.ask()
    driver.lose(job, "the worker was killed by signal 9")
    trial = driver.trials()[job.number]
    assert trial.state is OptunaState.FAIL
    assert trial.user_attrs["interrupted"] is True
    assert trial.user_attrs["reason"] == "the worker was killed by signal 9"
    assert driver.journal.read() == []  # neither failed nor done
    assert (driver.study.finished.num_complete, driver.study.finished.num_failed) == (0, 0)
    again = driver.ask()
    assert (again.schedule.depths, again.label) == (job.schedule.depths, "mine")
    assert driver.trials()[again.number].user_attrs["retry_of"] == job.number
    driver.answer(again)
    driver.answer(other)
    assert driver.study.next_job() is None
    assert (driver.study.finished.num_complete, driver.study.finished.num_failed) == (2, 0)


def test_a_time_out_is_not_tried_again(tmp_path: Path) -> None:
    driver = start(tmp_path, ("mine", D8))
    late = Failed(stage=WORKER_STAGE, reason="no result within 3 s")
    driver.study.finish(driver.ask(), late)
    (record,) = driver.journal.read()
    assert record.reason == "no result within 3 s"
    assert "interrupted" not in driver.trials()[0].user_attrs


def test_memory_is_tried_again_bad_numbers_are_not(tmp_path: Path) -> None:
    driver = start(tmp_path, ("mine", D8), ("other", D6))
    jobs = [driver.ask(), driver.ask()]
    no_room = Failed(stage="fine-tune", reason="MemoryError: no room", retry=True)
    driver.study.finish(jobs[0], no_room)
    driver.study.finish(jobs[1], Failed(stage="fine-tune", reason="loss is nan at step 3"))
    assert driver.ask().schedule.depths == D8
    assert [r.number for r in driver.journal.read()] == [1]


def test_a_full_disk_stops_the_run_and_blames_no_trial(tmp_path: Path) -> None:
    driver = start(tmp_path, ("mine", D8))
    job = driver.ask()
    with pytest.raises(StorageError, match=r"Trial 0 could not write.*Free space"):
        driver.study.finish(job, Failed(stage=DISK_STAGE, reason="OSError: No space left"))
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
        driver.lose(job, "the worker died")
    (waiting,) = [t for t in driver.trials() if t.state is OptunaState.WAITING]
    assert waiting.user_attrs["retry_of"] == job.number
