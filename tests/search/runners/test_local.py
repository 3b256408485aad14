"""Worker processes on this machine: their deaths are one job's trouble."""

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import faulty_space, trainings, wait_until

from schedsearch.config import dump_settings, read_settings
from schedsearch.records import TrialRecord
from schedsearch.search.runners.local import LocalRunner
from schedsearch.settings import ResourceSettings
from schedsearch.workers.jobs import Job, TrialJob

BROKEN = "name: [a search space that cannot be read"
"""A job with these settings is over at once, and answered as failed."""


def job_of(number: int, settings: str = BROKEN, run_dir: str = "/nowhere") -> TrialJob:
    return TrialJob(
        number=number,
        depths=(9,) * 10,
        label=None,
        settings=settings,
        run_dir=run_dir,
        predicted_latency_ms=1.0,
        measure_latency=False,
    )


class ListSource:
    """Hands out a list of jobs and keeps what comes back."""

    def __init__(self, *jobs: Job) -> None:
        self.waiting = list(jobs)
        self.outcomes: dict[int, TrialRecord] = {}
        self.lost: list[tuple[int, str, bool]] = []

    def next_job(self) -> Job | None:
        return self.waiting.pop(0) if self.waiting else None

    def finish(self, job: Job, outcome: Mapping[str, Any]) -> None:
        self.outcomes[job.number] = TrialRecord.from_json(outcome["record"])

    def lose(self, job: Job, reason: str, *, retry: bool) -> None:
        self.lost.append((job.number, reason, retry))


def processes(runner: LocalRunner) -> list[Any]:
    return [worker.process for worker in runner._workers]


@pytest.mark.slow
def test_jobs_come_back_and_a_dead_idle_worker_costs_a_retry(tmp_path: Path) -> None:
    source = ListSource(*(job_of(n, run_dir=str(tmp_path)) for n in range(2)))
    with LocalRunner(ResourceSettings(num_workers=1)) as runner:
        runner.run(source)
        assert sorted(source.outcomes) == [0, 1]
        assert source.outcomes[0].stage == "load"
        (process,) = processes(runner)
        process.kill()  # as the system does when memory runs out
        process.join()
        source.waiting = [job_of(2, run_dir=str(tmp_path)), job_of(3, run_dir=str(tmp_path))]
        runner.run(source)
        assert source.lost == [(2, "the worker was killed by signal 9", True)]
        assert 3 in source.outcomes
        (process,) = processes(runner)
    assert not process.is_alive()


@pytest.mark.slow
def test_a_hang_ends_with_the_time_limit(tmp_path: Path) -> None:
    settings = dump_settings(read_settings(faulty_space(tmp_path, {9: "hangs"}), []))
    source = ListSource(job_of(0, settings, str(tmp_path / "run")))
    with LocalRunner(ResourceSettings(num_workers=1), timeout=2.0) as runner:
        (process,) = processes(runner)
        start = time.monotonic()
        runner.run(source)
        assert source.lost == [(0, "no result within 2 s", False)]
        assert time.monotonic() - start < 10
        assert process.exitcode == -signal.SIGKILL
        assert processes(runner) != [process]  # a fresh one waits for the next job


@pytest.mark.slow
def test_a_trainer_that_stops_python_and_a_stop_in_mid_job(tmp_path: Path) -> None:
    space = faulty_space(tmp_path, {9: "stops_python"})
    stops = dump_settings(read_settings(space, []))
    hangs = stops.replace("stops_python", "hangs")

    class Stopped(ListSource):
        """Ctrl-C arrives while a job runs."""

        def next_job(self) -> Job | None:
            if self.lost and not self.waiting:
                wait_until(lambda: len(trainings(tmp_path)) == 2)
                raise KeyboardInterrupt
            return super().next_job()

    run = str(tmp_path / "run")
    source = Stopped(job_of(0, stops, run))
    source.waiting.append(job_of(1, hangs, run))
    resources = ResourceSettings(num_workers=2)
    began = time.monotonic()
    with LocalRunner(resources) as runner:
        alive = processes(runner)
        with pytest.raises(KeyboardInterrupt):
            runner.run(source)
    assert source.lost == [(0, "the worker died with exit code 7", True)]
    assert not any(process.is_alive() for process in alive)
    assert time.monotonic() - began < 500  # it hangs for 600


@pytest.mark.slow
def test_a_check_that_raises_abandons_jobs_in_flight(tmp_path: Path) -> None:
    """How a spent budget ends a run whose jobs do not end."""
    space = faulty_space(tmp_path, {9: "hangs"})
    settings = dump_settings(read_settings(space, []))
    source = ListSource(job_of(0, settings, str(tmp_path / "run")))

    def check() -> None:
        if trainings(tmp_path):  # the job hangs by now
            raise TimeoutError("spent")

    with LocalRunner(ResourceSettings(num_workers=1)) as runner:
        (process,) = processes(runner)
        with pytest.raises(TimeoutError, match="spent"):
            runner.run(source, check=check)
    assert not process.is_alive()
    assert source.outcomes == {}
    assert source.lost == []


def test_each_worker_sees_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    from schedsearch.search.runners.local import _visible_gpu

    runner = LocalRunner(ResourceSettings(num_workers=4, gpus_per_trial=0.5), num_gpus=2)
    assert [runner._gpu_of(index) for index in range(4)] == [0, 0, 1, 1]
    assert LocalRunner(ResourceSettings(num_workers=4))._gpu_of(3) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    with _visible_gpu(1):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5,7"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with _visible_gpu(1):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_worker_starts_whole_before_an_interrupt_ends_the_driver(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """A child whose driver leaves before it has told it what to do shows a traceback."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    runner = LocalRunner(ResourceSettings(num_workers=2))
    started: list[Any] = []
    process_class = runner._context.Process
    start = process_class.start

    def start_slowly(process: Any) -> None:
        os.kill(os.getpid(), number)
        start(process)
        started.append(process)

    monkeypatch.setattr(process_class, "start", start_slowly)
    before = signal.signal(number, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt), runner:
            pytest.fail("the interrupt must arrive while the workers start")
        assert signal.getsignal(number) is interrupt
    finally:
        signal.signal(number, before)
    assert len(started) == 1, "the first was whole, the second never began"
    started[0].join(timeout=60)
    assert started[0].exitcode == 0, "it found its pipe closed and left quietly"
