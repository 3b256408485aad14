"""Runs jobs in processes on this machine; no Ray needed.

Each worker process holds one end of a pipe and runs one job at a time. A worker that dies,
hangs or loses its driver affects its own job only.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from schedsearch.search.runners.contracts import JobSource
from schedsearch.search.runners.interrupts import StopRequest, interrupts_afterwards
from schedsearch.settings import ResourceSettings
from schedsearch.workers import stopping
from schedsearch.workers.jobs import WORKER_STAGE, Done, Failed, Job

_POLL_SECONDS = 0.5


def _serve(pipe: Connection, parent: int) -> None:
    """Body of a worker process: job in, outcome out, until the pipe closes."""
    for number in (signal.SIGINT, signal.SIGHUP):  # these reach all; the driver decides
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    from schedsearch.workers.run_job import run_job

    while True:
        try:
            job = pipe.recv()
            stopping.run_dir = job.run_dir
            pipe.send(run_job(job))
        except (EOFError, OSError):  # the driver is gone
            return


def _die_with(parent: int) -> None:
    """End this process when its driver is gone, so that no orphan trains."""
    while os.getppid() == parent:
        stopping.end_if_stopped()
        time.sleep(_POLL_SECONDS)
    os._exit(1)


@dataclass
class _Worker:
    process: Any  # multiprocessing's context types share no public base
    pipe: Connection
    job: Job | None = None
    started: float = 0.0


class LocalRunner:
    """A pool of worker processes.

    Args:
        resources: Workers and what each may use; with GPUs each worker sees one device.
        num_gpus: GPUs of this machine.
        timeout: Seconds that one job may take.
        stop_file: Asks workers to save their state and end; None ends them at once.
    """

    def __init__(
        self,
        resources: ResourceSettings,
        *,
        num_gpus: int = 0,
        timeout: float | None = None,
        stop_file: Path | None = None,
    ) -> None:
        self._stop_file = stop_file
        self._resources = resources
        self._num_gpus = num_gpus
        self._timeout = timeout
        self._context = multiprocessing.get_context("spawn")  # CUDA cannot be forked
        self._workers: list[_Worker] = []

    def __enter__(self) -> LocalRunner:
        """Start the workers."""
        try:
            for index in range(self._resources.num_workers):
                self._workers.append(self._spawn(index))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop the workers, those in the middle of a job too."""
        for worker in self._workers:
            worker.pipe.close()
            if worker.job is not None:
                worker.process.kill()
        for worker in self._workers:
            worker.process.join(timeout=5)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers = []

    def _spawn(self, index: int) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs, os.getpid()), name=f"schedsearch-worker-{index}"
        )
        # A child takes the environment of its start, and half a start ends in its traceback.
        with _visible_gpu(self._gpu_of(index)), interrupts_afterwards():
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _gpu_of(self, index: int) -> int | None:
        if not self._resources.gpus_per_trial:
            return None
        return int(index * self._resources.gpus_per_trial) % max(1, self._num_gpus)

    def run(self, source: JobSource, *, check: Callable[[], None] | None = None) -> None:
        """Run until the source is finished, see :class:`Runner`."""
        for index, worker in enumerate(self._workers):
            if worker.job is not None:  # abandoned when an earlier run was ended
                self._workers[index] = self._spawn(index)
        with StopRequest(self._stop_file) as stop:
            try:
                self._run(source, check, stop)
            except BaseException:
                self._abandon_jobs()
                raise

    def _run(self, source: JobSource, check: Callable[[], None] | None, stop: StopRequest) -> None:
        while True:
            for worker in self._workers:
                if worker.job is not None or stop.requested:
                    continue
                with interrupts_afterwards():
                    job = source.next_job()
                if job is not None:
                    worker.job, worker.started = job, time.monotonic()
                    with suppress(OSError):  # it died while idle, as _collect will find
                        worker.pipe.send(job)
            busy = [worker for worker in self._workers if worker.job is not None]
            if stop.requested and (stop.over or not busy):
                stop.finish()
            if not busy:
                return
            ready = wait([worker.pipe for worker in busy], timeout=_POLL_SECONDS)
            for worker in busy:
                self._collect(worker, source, stop, ready=worker.pipe in ready)
            if check is not None:
                check()  # last, so that it costs no result that is there

    def _abandon_jobs(self) -> None:
        """Stop workers in the middle of a job: what follows must find the device idle."""
        for worker in self._workers:
            if worker.job is not None:
                worker.pipe.close()
                worker.process.kill()
                worker.process.join()

    def _collect(
        self, worker: _Worker, source: JobSource, stop: StopRequest, *, ready: bool
    ) -> None:
        job = worker.job
        if job is None:
            return
        if ready:
            try:
                outcome = worker.pipe.recv()
            except (EOFError, OSError):
                worker.process.join()
                if stop.requested:  # it ended as it was asked to
                    worker.job = None
                    return
                reason, died = _how_it_died(worker.process.exitcode), True
            else:
                worker.job = None
                if stop.requested and not isinstance(outcome, Done):
                    return
                if isinstance(outcome, Failed) and outcome.out_of_memory:
                    self._replace(worker)  # a new process, since this one may hold on to memory
                with interrupts_afterwards():
                    source.finish(job, outcome)
                return
        elif self._timeout is None or time.monotonic() - worker.started < self._timeout:
            return
        else:
            worker.process.kill()
            worker.process.join()
            reason, died = f"no result within {self._timeout:g} s", False
        self._replace(worker)
        with interrupts_afterwards():
            source.finish(job, Failed(stage=WORKER_STAGE, reason=reason, retry=died))

    def _replace(self, worker: _Worker) -> None:
        """Put a new process in the place of a worker, which ends."""
        index = self._workers.index(worker)
        worker.pipe.close()
        worker.process.kill()
        worker.process.join()
        self._workers[index] = self._spawn(index)


def _how_it_died(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"the worker was killed by signal {-exit_code}"
    return f"the worker died with exit code {exit_code}"


@contextmanager
def _visible_gpu(gpu: int | None) -> Iterator[None]:
    """Let processes started inside see one GPU; None changes nothing."""
    if gpu is None:
        yield
        return
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = before.split(",")[gpu] if before else str(gpu)
    try:
        yield
    finally:
        if before is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = before
