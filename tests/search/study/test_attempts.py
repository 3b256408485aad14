"""Further attempts at a schedule: how many, what they continue from, and smaller parts."""

from pathlib import Path

from starts import start_with as start

from schedsearch.workers.jobs import Failed

FULL, D8 = (10,) * 10, (8,) * 10


def test_retries_end(tmp_path: Path) -> None:
    driver = start(tmp_path, ("mine", D8), search={"n_trials": 2, "max_retries": 2})
    for _ in range(3):
        job = driver.ask()
        assert job.schedule.depths == D8
        driver.lose(job, "the worker died")
    (record,) = driver.journal.read()
    assert (record.stage, record.reason, record.label) == (
        "worker",
        "the worker died; gave up after 3 attempts",
        "mine",
    )
    assert driver.study.finished.num_failed == 1
    assert driver.ask().schedule.depths != D8


def test_progress_is_found_behind_an_attempt_that_left_none(tmp_path: Path) -> None:
    driver = start(tmp_path, ("mine", D8), search={"n_trials": 2, "max_retries": 5})
    first = driver.ask()
    driver.folder.trial(first.number).mkdir(parents=True)
    state = driver.folder.trial(first.number) / "progress.pt"
    state.write_bytes(b"state")
    driver.lose(first, "killed")
    second = driver.ask()
    assert second.resume_from == first.number
    driver.lose(second, "killed while it loaded")
    third = driver.ask()
    assert third.resume_from == first.number
    state.unlink()
    driver.lose(third, "killed")
    assert driver.ask().resume_from is None


def test_memory_that_ran_out_halves_the_part_of_a_batch(tmp_path: Path) -> None:
    driver = start(tmp_path, ("full", FULL), search={"max_retries": 3}, recipe={"batch_size": 3})
    given = []
    for _ in range(4):
        job = driver.ask()
        given.append(job.accumulate)
        failure = Failed(
            stage="fine-tune", reason="no room", retry=True, out_of_memory=True, started="now"
        )
        if len(given) < 4:
            driver.study.finish(job, failure)
    assert given == [None, 2, 3, 3]
    assert "batches are cut into 3 parts" in driver.trials()[1].user_attrs["reason"]
    again = start(tmp_path, ("full", FULL))
    assert again.ask().accumulate == 3, "a driver that died forgets nothing"
