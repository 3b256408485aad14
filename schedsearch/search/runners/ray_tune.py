"""Runs jobs on Ray Tune, through a thin searcher over a job source.

Tune only executes: it holds no state that matters, retries nothing and is never restored.
What it would print, and what of its defaults would lose trials, is switched off here.
"""

from __future__ import annotations

import faulthandler
import shutil
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ray import tune

from schedsearch.exceptions import StorageError
from schedsearch.runs.folder import RunFolder
from schedsearch.search.runners.contracts import JobSource
from schedsearch.search.runners.interrupts import StopRequest
from schedsearch.search.runners.logs import ray_logs_to
from schedsearch.search.runners.ray_cluster import check_address, check_nodes, check_room
from schedsearch.search.runners.ray_environment import check_temporary_folder
from schedsearch.search.runners.ray_searcher import SourceSearcher, StopByCheck
from schedsearch.search.runners.ray_start import AGAIN, join_cluster, start_runtime, stop_ray
from schedsearch.search.runners.ray_watch import ACCELERATOR, RayWatch, reason_of
from schedsearch.settings import ResourceSettings
from schedsearch.workers.jobs import DISK_STAGE, Failed, Job


def _trainable(config: dict[str, Any]) -> None:
    """Run one job in a worker and report its outcome."""
    from schedsearch.workers.run_job import run_job

    timeout = config["timeout"]
    if timeout is not None:  # Tune has no time limit; this also ends a hang in C
        faulthandler.dump_traceback_later(timeout, exit=True)
    try:
        outcome = lacking(config["job"]) or run_job(config["job"])
    finally:
        faulthandler.cancel_dump_traceback_later()
    tune.report({"outcome": outcome})
    if isinstance(outcome, Failed) and outcome.out_of_memory:
        raise MemoryError(outcome.reason)  # Tune reuses no process that raised: its memory is free


def lacking(job: Job) -> Failed | None:
    """The failure of a job on a node that joined without the run folder."""
    if RunFolder.of(job.run_dir).lock_file.exists():
        return None
    reason = f"{socket.gethostname()} does not see {job.run_dir}; share it with all nodes"
    return Failed(stage=DISK_STAGE, reason=reason)


class RayRunner:
    """Workers on a local Ray runtime, or on the cluster at ``address``.

    Args:
        resources: Workers and what each may use.
        folder: Where Tune keeps its own files; on a cluster all nodes must see it.
        log_file: Where everything goes that Ray has to say.
        address: Address of a running cluster; None starts a private one on this machine.
        shared: Files and folders that jobs read, which all nodes of a cluster must see.
        timeout: Seconds that one job may take.
        stop_file: Asks workers to save their state and end; None ends them at once.
    """

    def __init__(
        self,
        resources: ResourceSettings,
        *,
        folder: Path,
        log_file: Path,
        address: str | None = None,
        shared: Sequence[str] = (),
        timeout: float | None = None,
        stop_file: Path | None = None,
    ) -> None:
        self._stop_file = stop_file
        self._resources = resources
        self._folder = folder
        self._log_file = log_file
        self._address = address
        self._shared = tuple(shared)
        self._timeout = timeout
        self._num_runs = 0
        self._loss: str | None = None

    def check(self) -> None:
        """Find out what can be known before anything is measured.

        Raises:
            ConfigError: If Ray cannot run in this environment, or no cluster is at the address.
        """
        if self._address is None:
            check_temporary_folder()
        else:
            check_address(self._address)
            join_cluster(self._address)  # only this tries the token
            stop_ray()

    def __enter__(self) -> RayRunner:
        """Start or join the runtime; local ones listen on 127.0.0.1 and have no dashboard.

        Raises:
            ConfigError: If the cluster cannot be joined, or its nodes cannot run the jobs.
            StorageError: If a private runtime does not start.
        """
        ray_logs_to(self._log_file)
        if self._address is None:
            start_runtime(self._resources.num_workers * self._resources.cpus_per_trial)
        else:
            join_cluster(self._address)
        ray_logs_to(self._log_file)  # ray.init removes the handlers that were there
        try:
            if self._address is None:
                check_room(self._needed)
            else:
                check_nodes(self._shared)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop the private runtime, or leave the cluster; delete Tune's files."""
        stop_ray(self._loss)
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _needed(self) -> dict[str, float]:
        """Resources of one job, by Ray's names."""
        resources = self._resources
        needed = {"CPU": float(resources.cpus_per_trial), "GPU": resources.gpus_per_trial}
        if resources.accelerator is not None:
            needed[ACCELERATOR + resources.accelerator] = 0.001  # jobs share the unit
        return {name: amount for name, amount in needed.items() if amount}

    def run(self, source: JobSource, *, check: Callable[[], None] | None = None) -> None:
        """Run until the source is finished, see :class:`Runner`.

        Raises:
            StorageError: If Ray is lost.
            BaseException: Whatever the source raised, a KeyboardInterrupt too.
        """
        self._num_runs += 1
        searcher = SourceSearcher(source, self._resources.num_workers, self._timeout)

        def checks() -> None:
            watch.check()
            if check is not None:
                check()

        with RayWatch(self._needed) as watch, StopRequest(self._stop_file) as searcher.stop:
            try:
                self._tuner(searcher, checks).fit()
            except Exception as error:
                if searcher.failure is None:
                    failed = f"Ray failed with {type(error).__name__}: {reason_of(error)}. {AGAIN}"
                    raise StorageError(watch.loss or failed) from error
            finally:
                self._loss = watch.loss
        if searcher.failure is not None:
            raise searcher.failure

    def _tuner(self, searcher: SourceSearcher, checks: Callable[[], None]) -> tune.Tuner:
        return tune.Tuner(
            tune.with_resources(_trainable, self._needed),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                num_samples=-1,
                reuse_actors=True,  # keeps imports, weights and reference statistics
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=tune.RunConfig(
                name=f"{int(time.time())}_{self._num_runs}",
                storage_path=str(self._folder),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=0),
                stop=StopByCheck(checks, searcher, self._timeout),
            ),
        )
