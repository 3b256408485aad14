"""Worker processes on this machine: their deaths are one job's trouble."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import pytest
from driving import settings_of
from forks import forked_workers
from tiny_runs import wait_until

from schedsearch.runs.folder import RunFolder
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.search.runners import build_runner, local
from schedsearch.search.runners.local import LocalRunner
from schedsearch.settings import ResourceSettings
from schedsearch.workers import run_job as run_job_module
from schedsearch.workers.jobs import WORKER_STAGE, Done, Failed, Job, Outcome, TrialJob
from schedsearch.workers.stopping import training


def job_of(number: int, what: str = "ends", run_dir: str = "/nowhere") -> TrialJob:
    """A job whose label says what its worker does."""
    return TrialJob(
        number=number,
        schedule=ExitSchedule((9,) * 10),
        label=what,
        settings="name: [a search space that cannot be read",
        run_dir=run_dir,
        predicted_latency_ms=1.0,
        measure_latency=False,
    )


class ListSource:
    """Hands out a list of jobs and keeps how they ended, by number."""

    def __init__(self, *jobs: Job) -> None:
        self.waiting = list(jobs)
        self.outcomes: dict[int, Outcome] = {}

    def next_job(self) -> Job | None:
        return self.waiting.pop(0) if self.waiting else None

    def finish(self, job: Job, outcome: Outcome) -> None:
        assert isinstance(job, TrialJob)
        assert job.number not in self.outcomes
        self.outcomes[job.number] = outcome


class Stopped(ListSource):
    """Raises once its jobs are under way, as Ctrl-C does."""

    def __init__(self, *jobs: Job, when: Callable[[], bool]) -> None:
        super().__init__(*jobs)
        self._when = when

    def next_job(self) -> Job | None:
        if self.waiting:
            return super().next_job()
        wait_until(self._when)
        raise KeyboardInterrupt


def processes(runner: LocalRunner) -> list[Any]:
    return [worker.process for worker in runner._workers]


def fake_job(job: Job) -> Outcome:
    """What forked workers do instead of a trial."""
    assert isinstance(job, TrialJob)
    Path(job.run_dir, f"began-{job.number}").touch()
    if job.label == "hangs":
        time.sleep(600)
    if job.label == "stops python":
        raise SystemExit(7)
    if job.label == "lacks memory":
        return Failed(stage="fine-tune", reason=str(os.getpid()), retry=True, out_of_memory=True)
    if job.label == "trains":
        with training():
            wait_until(lambda: Path(job.run_dir, ".stop").exists())
            Path(job.run_dir, f"saved-{job.number}").touch()
        return Failed(stage=WORKER_STAGE, reason="the run was stopped", retry=True)
    return Done(result=None)


@pytest.fixture
def fake_jobs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forks run :func:`fake_job`."""
    monkeypatch.setattr(run_job_module, "run_job", fake_job)
    with forked_workers():
        yield


@pytest.mark.slow
def test_a_fresh_process_answers_job_after_job(tmp_path: Path) -> None:
    source = ListSource(*(job_of(n, run_dir=str(tmp_path)) for n in range(2)))
    with LocalRunner(ResourceSettings(num_workers=1)) as runner:
        (process,) = processes(runner)
        runner.run(source)
        assert sorted(source.outcomes) == [0, 1]
        for outcome in source.outcomes.values():
            assert isinstance(outcome, Failed)
            assert (outcome.stage, outcome.retry) == ("load", False)
            assert outcome.worker.endswith(f":{process.pid}")
    # NOTE: On a busy machine it may not leave in time, and is ended.
    assert process.exitcode in (0, -signal.SIGTERM)


@pytest.mark.usefixtures("fake_jobs")
class TestDeaths:
    def test_a_worker_without_memory_is_replaced(self, tmp_path: Path) -> None:
        run = str(tmp_path)
        source = ListSource(job_of(0, "lacks memory", run), job_of(1, "lacks memory", run))
        with LocalRunner(ResourceSettings(num_workers=1)) as runner:
            runner.run(source)
        pids = {outcome.reason for outcome in source.outcomes.values()}  # type: ignore[union-attr]
        assert len(pids) == 2

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_stop_lets_workers_save(self, tmp_path: Path, number: signal.Signals) -> None:
        def interrupt(_number: int, _frame: object) -> None:
            raise KeyboardInterrupt

        class Interrupted(ListSource):
            def next_job(self) -> Job | None:
                if not self.waiting:
                    wait_until(lambda: (tmp_path / "began-1").exists())
                    os.kill(os.getpid(), number)
                return super().next_job()

        run = str(tmp_path)
        source = Interrupted(job_of(0, "trains", run), job_of(1, "hangs", run))
        runner = LocalRunner(ResourceSettings(num_workers=3), stop_file=tmp_path / ".stop")
        before = signal.signal(number, interrupt)
        began = time.monotonic()
        try:
            with runner, pytest.raises(KeyboardInterrupt):
                runner.run(source)
            assert signal.getsignal(number) is interrupt
        finally:
            signal.signal(number, before)
        assert (tmp_path / "saved-0").exists()
        assert source.outcomes == {}
        assert not (tmp_path / ".stop").exists()
        assert time.monotonic() - began < 60

    def test_a_worker_that_died_while_idle_costs_a_retry(self, tmp_path: Path) -> None:
        run = str(tmp_path)
        source = ListSource(job_of(0, run_dir=run))
        with LocalRunner(ResourceSettings(num_workers=1)) as runner:
            runner.run(source)
            (process,) = processes(runner)
            process.kill()  # as the system does when memory runs out
            process.join()
            source.waiting = [job_of(1, run_dir=run), job_of(2, run_dir=run)]
            runner.run(source)
            (fresh,) = processes(runner)
        reason = "the worker was killed by signal 9"
        assert source.outcomes == {
            0: Done(result=None),
            1: Failed(stage=WORKER_STAGE, reason=reason, retry=True),
            2: Done(result=None),
        }
        assert not fresh.is_alive()

    def test_a_trainer_that_stops_python_costs_its_own_job(self, tmp_path: Path) -> None:
        run = str(tmp_path)
        source = ListSource(job_of(0, "stops python", run), job_of(1, run_dir=run))
        with LocalRunner(ResourceSettings(num_workers=2)) as runner:
            runner.run(source)
        reason = "the worker died with exit code 7"
        assert source.outcomes[0] == Failed(stage=WORKER_STAGE, reason=reason, retry=True)
        assert source.outcomes[1] == Done(result=None)

    def test_a_hang_ends_with_the_time_limit(self, tmp_path: Path) -> None:
        source = ListSource(job_of(0, "hangs", str(tmp_path)))
        settings = settings_of(search={"trial_timeout": 1}, resources={"backend": "local"})
        with build_runner(settings, RunFolder(tmp_path), None) as runner:
            assert isinstance(runner, LocalRunner)
            (process,) = processes(runner)
            runner.run(source)
            assert source.outcomes == {
                0: Failed(stage=WORKER_STAGE, reason="no result within 1 s")
            }
            assert process.exitcode == -signal.SIGKILL
            assert processes(runner) != [process]  # a fresh one waits for the next job

    def test_an_interrupt_stops_workers_in_the_middle_of_a_job(self, tmp_path: Path) -> None:
        job = job_of(0, "hangs", str(tmp_path))
        source = Stopped(job, when=lambda: (tmp_path / "began-0").exists())
        with LocalRunner(ResourceSettings(num_workers=2)) as runner:
            alive = processes(runner)
            with pytest.raises(KeyboardInterrupt):
                runner.run(source)
        assert source.outcomes == {}
        assert not any(process.is_alive() for process in alive)

    @pytest.mark.parametrize("step", ["next_job", "finish"])
    def test_an_interrupt_waits_until_a_step_of_the_source_is_done(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        """A database below the source would swallow it, or leave half a result."""
        source, done = ListSource(job_of(0, run_dir=str(tmp_path))), []
        original = getattr(source, step)

        def interrupted(*args: Any) -> Any:
            os.kill(os.getpid(), signal.SIGINT)
            found = original(*args)
            done.append(step)
            return found

        monkeypatch.setattr(source, step, interrupted)
        runner = LocalRunner(ResourceSettings(num_workers=1))
        # NOTE: a test run in the background hands down that Ctrl-C is ignored.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with runner, pytest.raises(KeyboardInterrupt):
                runner.run(source)
        finally:
            signal.signal(signal.SIGINT, before)
        assert done == [step]

    def test_a_check_that_raises_costs_no_result_that_is_there(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def wait_for_a_result(pipes: list[Any], timeout: float) -> list[Any]:
            return wait(pipes)

        def check() -> None:
            raise TimeoutError("spent")

        monkeypatch.setattr(local, "wait", wait_for_a_result)
        source = ListSource(job_of(0, run_dir=str(tmp_path)))
        with (
            LocalRunner(ResourceSettings(num_workers=1)) as runner,
            pytest.raises(TimeoutError, match="spent"),
        ):
            runner.run(source, check=check)
        assert source.outcomes == {0: Done(result=None)}

    def test_a_check_that_raises_leaves_the_runner_fit_for_the_next_stage(
        self, tmp_path: Path
    ) -> None:
        """A spent budget ends trials that do not end; latencies and confirmation follow."""
        run = str(tmp_path)
        trials = ListSource(job_of(0, run_dir=run), job_of(1, "hangs", run))

        def check() -> None:
            if (tmp_path / "began-1").exists():
                raise TimeoutError("spent")

        with LocalRunner(ResourceSettings(num_workers=2)) as runner:
            with pytest.raises(TimeoutError, match="spent"):
                runner.run(trials, check=check)
            hanging = next(w.process for w in runner._workers if w.job is not None)
            assert not hanging.is_alive()  # or latencies would be measured beside it
            confirmation = ListSource(*(job_of(n, run_dir=run) for n in range(2, 6)))
            runner.run(confirmation)
            assert all(process.is_alive() for process in processes(runner))
        assert 1 not in trials.outcomes
        assert confirmation.outcomes == dict.fromkeys(range(2, 6), Done(result=None))


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
