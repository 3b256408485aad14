"""A list of jobs: which are handed out again, which are given up, and what ends the run."""

import io

import pytest
from rich.console import Console

from schedsearch.exceptions import StorageError
from schedsearch.report.live import RunView
from schedsearch.runs.results import hypervolume_of
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.search.stages.queue import JobQueue
from schedsearch.workers.jobs import DISK_STAGE, WORKER_STAGE, ConfirmJob, Done, Failed, Job

DIED = Failed(stage=WORKER_STAGE, reason="the worker died", retry=True)
DIVERGED = Failed(stage="fine-tune", reason="loss is nan")


def job(seed: int) -> ConfirmJob:
    return ConfirmJob(
        settings="", run_dir="", number=0, schedule=ExitSchedule((2,)), seed=seed, num_samples=2
    )


class Seeds(JobQueue):
    """Keeps the seeds of jobs that ended well."""

    def __init__(self, *seeds: int, max_retries: int = 0) -> None:
        self.kept: list[int] = []
        self.told = io.StringIO()
        self.view = RunView(Console(file=self.told, width=200), hypervolume_of)
        jobs = [job(seed) for seed in seeds]
        super().__init__("measuring", jobs, max_retries=max_retries, observer=self.view)

    def name_of(self, job: Job) -> str:
        assert isinstance(job, ConfirmJob)
        return f"Seed {job.seed}"

    def keep(self, job: Job, outcome: Done) -> None:
        assert isinstance(job, ConfirmJob)
        self.kept.append(job.seed)


def test_every_job_is_handed_out_once_in_order() -> None:
    queue = Seeds(3, 1, 2)
    queue.announce(90.0)
    assert "measuring (3), about 1 min 30 s" in queue.told.getvalue()
    for seed in (3, 1, 2):
        assert queue.next_job() == job(seed)
        queue.finish(job(seed), Done(result=None))
    assert queue.next_job() is None
    assert queue.num_jobs == 0
    assert queue.kept == [3, 1, 2]
    assert queue.view._done == 3


def test_a_dead_worker_gives_its_job_back_until_the_retries_are_used_up() -> None:
    queue = Seeds(1, 2, max_retries=2)
    first = queue.next_job()
    for _ in range(2):
        queue.finish(job(1), DIED)
    assert (first, queue.num_jobs, queue.told.getvalue()) == (job(1), 3, "")
    queue.finish(job(1), DIED)
    assert "warning: Seed 1 failed: the worker died" in queue.told.getvalue()
    assert queue.num_jobs == 3
    queue.finish(job(2), DIED)  # each job has its own retries
    assert queue.num_jobs == 4


def test_a_failure_that_would_repeat_is_given_up_at_once() -> None:
    queue = Seeds(1, 2, max_retries=2)
    taken = queue.next_job()
    assert taken is not None
    queue.finish(taken, DIVERGED)
    assert "warning: Seed 1 failed: loss is nan" in queue.told.getvalue()
    assert queue.next_job() == job(2)
    assert queue.next_job() is None
    assert (queue.kept, queue.view._done) == ([], 1)


@pytest.mark.parametrize("reason", ["OSError: disk full", "OSError: disk full."])
def test_a_full_disk_ends_the_run_and_blames_no_job(reason: str) -> None:
    queue = Seeds(1, max_retries=2)
    with pytest.raises(
        StorageError,
        match=r"^Seed 1 could not write its files: OSError: disk full\. Free space and run the",
    ):
        queue.finish(job(1), Failed(stage=DISK_STAGE, reason=reason))
    assert queue.told.getvalue() == ""
