"""The same promises on Ray, nothing of Ray on the terminal, and no port open to others."""

import contextlib
import os
import signal
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from driving import settings_of
from forks import ForkedCli
from ray_processes import busy_workers
from tiny_runs import (
    children_of,
    faulty_space,
    is_alive,
    records_of,
    wait_until,
)

from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.runs.folder import RunFolder
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.search.runners import build_runner
from schedsearch.settings import ResourceSettings
from schedsearch.workers.jobs import WORKER_STAGE, ConfirmJob, Done, Failed, Job, Outcome

LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
LISTEN = "0A"


def listening_addresses(pids: set[int]) -> set[str]:
    """Local addresses, in hexadecimal, on which processes listen by TCP."""
    sockets = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):  # closed meanwhile
                sockets.add(str(link.readlink()))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTEN and f"socket:[{fields[9]}]" in sockets:
                found.add(fields[1].partition(":")[0])
    return found


@pytest.mark.ray
def test_an_address_without_a_cluster_is_bad_input(tmp_path: Path) -> None:
    from schedsearch.search.runners.ray_tune import RayRunner

    log = tmp_path / "driver.log"
    runner = RayRunner(ResourceSettings(), folder=tmp_path, log_file=log, address="nonsense")
    with pytest.raises(ConfigError, match="Cannot join the Ray cluster at nonsense: Invalid"):
        runner.__enter__()


@pytest.mark.ray
def test_the_runner_has_the_limits_of_the_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from schedsearch.search.runners import ray_tune

    made = Mock()
    monkeypatch.setattr(ray_tune, "RayRunner", made)
    settings = settings_of(search={"trial_timeout": 1}, resources={"backend": "ray"})
    folder = RunFolder(tmp_path)
    assert build_runner(settings, folder, "10.0.0.1:6379") == made.return_value
    options = made.call_args.kwargs
    assert (options["timeout"], options["address"]) == (1, "10.0.0.1:6379")
    assert (options["stop_file"], options["folder"]) == (folder.stop_file, folder.ray)
    made.return_value.check.assert_called_once_with()


@pytest.mark.slow
@pytest.mark.ray
def test_a_run_on_ray(tmp_path: Path) -> None:
    space = faulty_space(
        tmp_path,
        {8: "raises"},
        warm_start=["full", [8] * 10],
        search={"n_trials": 2},
        resources={"backend": "ray", "num_workers": 1},
    )
    run, log = tmp_path / "run", tmp_path / "log.txt"
    driver = ForkedCli("run", space, "--output", run, log=log)
    # Kill the worker that has the first trial.
    wait_until(
        lambda: bool(busy_workers(children_of(driver.pid))) or not is_alive(driver.pid), 400
    )
    processes = children_of(driver.pid)
    addresses = listening_addresses(processes)
    os.kill(busy_workers(processes)[0], signal.SIGKILL)
    code = driver.wait()
    printed = log.read_text()
    assert code == 3, printed
    assert "trial 0 interrupted: the worker died; its schedule runs again" in printed
    records = records_of(run)
    assert sum(record.complete for record in records) == 2
    assert "full" in [record.label for record in records if record.complete]
    (failed,) = (record for record in records if not record.complete)
    assert failed.reason == "RuntimeError: the trainer broke"

    for word in ("ray", "raylet", "Tune", "pid=", "Traceback", "Warning", "WARNING", "http"):
        assert word not in printed.replace(tmp_path.name, ""), printed

    assert addresses, "a private runtime listens somewhere"
    assert addresses <= LOOPBACK


# ---- how Tune asks and answers ----------------------------------------------------------------


class Source:
    """Hands out jobs and keeps how they ended."""

    def __init__(self, *jobs: Job) -> None:
        self.waiting = list(jobs)
        self.told: list[tuple[Job, Outcome]] = []

    def next_job(self) -> Job | None:
        return self.waiting.pop(0) if self.waiting else None

    def finish(self, job: Job, outcome: Outcome) -> None:
        self.told.append((job, outcome))


def job_of(number: int) -> ConfirmJob:
    return ConfirmJob(
        settings="", run_dir="", number=number, schedule=ExitSchedule((2,)), seed=1, num_samples=2
    )


def searcher_of(source: Source, timeout: float | None = None) -> Any:
    from schedsearch.search.runners.ray_searcher import SourceSearcher

    return SourceSearcher(source, num_workers=2, timeout=timeout)


@pytest.mark.ray
def test_tune_gets_no_more_jobs_than_there_are_workers() -> None:
    source = Source(*map(job_of, range(3)))
    searcher = searcher_of(source)
    assert searcher.suggest("a") == {"job": job_of(0), "timeout": None}
    assert searcher.suggest("b")["job"] == job_of(1)
    assert searcher.suggest("c") is None
    done = Done(result=None)
    searcher.on_trial_complete("a", {"outcome": done})
    assert source.told == [(job_of(0), done)]
    assert searcher.suggest("c")["job"] == job_of(2)
    searcher.on_trial_complete("b", {"outcome": done})
    assert searcher.suggest("d") is None  # a failure of the last job may bring it back
    searcher.on_trial_complete("c", {"outcome": done})
    assert searcher.suggest("d") == searcher.FINISHED


@pytest.mark.ray
@pytest.mark.parametrize(
    ("timeout", "reason", "retry"),
    [(None, "the worker died", True), (600, "the worker died", True), (0, "within 0 s", False)],
)
def test_a_dead_worker_is_tried_again_and_a_hang_is_not(
    timeout: float | None, reason: str, retry: bool
) -> None:
    source = Source(job_of(0))
    searcher = searcher_of(source, timeout)
    searcher.suggest("a")
    searcher.on_trial_complete("a", error=True)
    ((_, outcome),) = source.told
    assert isinstance(outcome, Failed)
    assert (outcome.stage, outcome.retry) == (WORKER_STAGE, retry)
    assert outcome.reason.endswith(reason)


@pytest.mark.ray
def test_what_a_source_raises_ends_the_run_and_abandons_its_jobs() -> None:
    class Full(Source):
        def finish(self, job: Job, outcome: Outcome) -> None:
            super().finish(job, outcome)
            raise StorageError("the disk is full")

    source = Full(*map(job_of, range(3)))
    searcher = searcher_of(source)
    searcher.suggest("a")
    searcher.suggest("b")
    searcher.on_trial_complete("a", {"outcome": Done(result=None)})
    assert isinstance(searcher.failure, StorageError)
    assert searcher.suggest("c") == searcher.FINISHED
    searcher.on_trial_complete("b", error=True)  # stopped in the middle
    assert [job for job, _ in source.told] == [job_of(0)]
