"""Runs jobs on Ray Tune, through a thin searcher over a job source.

Tune only executes: it holds no state that matters, retries nothing and is never restored.
What it would print, and what of its defaults would lose trials, is switched off here.
"""

from __future__ import annotations

import faulthandler
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.search.runners.contracts import JobSource
from schedsearch.search.runners.interrupts import StopRequest, interrupts_afterwards
from schedsearch.search.runners.logs import ray_logs_to
from schedsearch.settings import ResourceSettings
from schedsearch.workers.jobs import WORKER_STAGE, Done, Failed, Job, Outcome

# Ray reads these when it is imported, so they stand before the import.
os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the new output prints boxes even with verbose=0
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # no telemetry
os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = "."  # else "(raylet) A worker died" on the terminal
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"  # else a warning without GPUs
os.environ["RAY_AUTH_MODE"] = "token"  # also for clusters that others can reach
os.environ.setdefault("RAY_worker_niceness", "0")  # 15 starves trials on a busy machine
os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"  # Ctrl-C reaches the driver as it should
os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # results.jsonl is the record

import ray
from ray import tune
from ray._private import ray_constants
from ray.tune.search import Searcher

LATE_SECONDS = 60.0
"""How far a job may overrun its time limit before the driver takes its worker for lost."""


def _trainable(config: dict[str, Any]) -> None:
    """Run one job in a worker and report its outcome."""
    from schedsearch.workers.run_job import run_job

    timeout = config["timeout"]
    if timeout is not None:  # Tune has no time limit; this also ends a hang in C
        faulthandler.dump_traceback_later(timeout, exit=True)
    try:
        outcome = run_job(config["job"])
    finally:
        faulthandler.cancel_dump_traceback_later()
    tune.report({"outcome": outcome})
    if isinstance(outcome, Failed) and outcome.out_of_memory:
        raise MemoryError(outcome.reason)  # Tune reuses no process that raised: its memory is free


class SourceSearcher(Searcher):  # type: ignore[misc]
    """Lets Tune ask a source for jobs and tell it the outcomes.

    Args:
        source: Where jobs come from.
        num_workers: Jobs at a time; Tune would ask ahead otherwise.
        timeout: Seconds that one job may take.
    """

    def __init__(self, source: JobSource, num_workers: int, timeout: float | None) -> None:
        super().__init__()
        self._source = source
        self._num_workers = num_workers
        self._timeout = timeout
        self._live: dict[str, tuple[Job, float]] = {}
        self._reported: dict[str, Outcome] = {}
        self.stop: StopRequest | None = None
        self.failure: BaseException | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Tune writes a snapshot at its start; nothing here belongs into it."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        """The next job as a Tune configuration; None to wait; FINISHED at the end."""
        if self.failure is not None or self.is_stopping:
            return Searcher.FINISHED
        if len(self._live) >= self._num_workers:
            return None
        try:
            with interrupts_afterwards():
                job = self._source.next_job()
        except BaseException as error:  # noqa: BLE001 - carried to the driver, see RayRunner.run
            self.failure = error
            return Searcher.FINISHED
        if job is None:
            return None if self._live else Searcher.FINISHED
        self._live[trial_id] = (job, time.monotonic())
        return {"job": job, "timeout": self._timeout}

    @property
    def is_stopping(self) -> bool:
        """Whether workers were asked to save their state and end."""
        return self.stop is not None and self.stop.requested

    @property
    def longest_seconds(self) -> float:
        """Since when the oldest job runs."""
        now = time.monotonic()
        return max((now - started for _, started in self._live.values()), default=0.0)

    @property
    def num_live(self) -> int:
        """Jobs that are running."""
        return len(self._live)

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Keep what a job reported, in case its process ends with an error after it."""
        if (outcome := result.get("outcome")) is not None:
            self._reported[trial_id] = outcome

    def on_trial_complete(
        self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False
    ) -> None:
        """Hand an outcome to the source, or tell it that the worker died."""
        job, started = self._live.pop(trial_id)
        outcome = self._reported.pop(trial_id, (result or {}).get("outcome"))
        if self.is_stopping and not isinstance(outcome, Done):
            return  # it saved its state and ended as it was asked to
        if outcome is None:
            if self.failure is not None:
                return  # the run ends, and the job was abandoned
            outcome = self._death_of(started)
        try:
            with interrupts_afterwards():
                self._source.finish(job, outcome)
        except BaseException as failure:  # noqa: BLE001 - Tune would only log it
            self.failure = failure

    def _death_of(self, started: float) -> Failed:
        if self._timeout is not None and time.monotonic() - started >= self._timeout:
            return Failed(stage=WORKER_STAGE, reason=f"no result within {self._timeout:g} s")
        return Failed(stage=WORKER_STAGE, reason="the worker died", retry=True)

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the run folder is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class _StopByCheck(tune.Stopper):  # type: ignore[misc]
    """Lets a check end the experiment, running jobs too."""

    def __init__(
        self, check: Callable[[], None], searcher: SourceSearcher, timeout: float | None
    ) -> None:
        self._check = check
        self._searcher = searcher
        self._timeout = timeout

    def __getstate__(self) -> dict[str, Any]:
        """Tune writes a snapshot at its start; nothing here belongs into it."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """A job ends by itself."""
        return False

    def stop_all(self) -> bool:
        """Asked in every round of Tune's loop, several times a second."""
        searcher = self._searcher
        if searcher.failure is None:
            try:
                stop = searcher.stop
                if stop is not None and stop.requested and (stop.over or not searcher.num_live):
                    stop.finish()
                self._check_time()
                self._check()
            except BaseException as error:  # noqa: BLE001 - carried, see RayRunner.run
                searcher.failure = error
        return searcher.failure is not None

    def _check_time(self) -> None:
        """End the run where a worker outlives the limit that it should have ended itself by.

        Raises:
            StorageError: If a job is far beyond its time.
        """
        limit, seconds = self._timeout, self._searcher.longest_seconds
        if limit is not None and seconds > limit + LATE_SECONDS:
            raise StorageError(
                f"A job has run for {seconds:.0f} s, {LATE_SECONDS:g} s beyond "
                f"search.trial_timeout ({limit:g} s), so its Ray worker or node is lost. See "
                "driver.log, and run the same command again; finished trials are kept."
            )


class RayRunner:
    """Workers on a local Ray runtime, or on the cluster at ``address``.

    Args:
        resources: Workers and what each may use.
        folder: Where Tune keeps its own files; on a cluster all nodes must see it.
        log_file: Where everything goes that Ray has to say.
        address: Address of a running cluster; None starts a private one on this machine.
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
        timeout: float | None = None,
        stop_file: Path | None = None,
    ) -> None:
        self._stop_file = stop_file
        self._resources = resources
        self._folder = folder
        self._log_file = log_file
        self._address = address
        self._timeout = timeout
        self._num_runs = 0

    def __enter__(self) -> RayRunner:
        """Start or join the runtime; local ones listen on 127.0.0.1 and have no dashboard.

        Raises:
            ConfigError: If there is no cluster at the address.
        """
        ray_logs_to(self._log_file)
        where: dict[str, Any]
        if self._address is not None:
            where = {"address": self._address}
        else:
            where = {
                "address": "local",  # never join a runtime that happens to be there
                "num_cpus": self._resources.num_workers * self._resources.cpus_per_trial,
                "include_dashboard": False,
                "object_store_memory": 100 * 2**20,
                "_node_ip_address": "127.0.0.1",
            }
            _stay_on_loopback()
        try:
            ray.init(log_to_driver=False, configure_logging=False, **where)
        except Exception as error:
            if self._address is None:
                raise
            reason = " ".join(str(error).split()).rstrip(".")
            raise ConfigError(
                f"Cannot join the Ray cluster at {self._address}: {reason}. Check --address, or "
                "leave it out to run on this machine."
            ) from error
        ray_logs_to(self._log_file)  # ray.init removes the handlers that were there
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop the private runtime, or leave the cluster; delete Tune's files."""
        ray.shutdown()
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, source: JobSource, *, check: Callable[[], None] | None = None) -> None:
        """Run until the source is finished, see :class:`Runner`.

        Raises:
            BaseException: Whatever the source raised, a KeyboardInterrupt too.
        """
        self._num_runs += 1
        per_trial = {"cpu": self._resources.cpus_per_trial}
        if self._resources.gpus_per_trial:
            per_trial["gpu"] = self._resources.gpus_per_trial  # type: ignore[assignment]
        searcher = SourceSearcher(source, self._resources.num_workers, self._timeout)
        tuner = tune.Tuner(
            tune.with_resources(_trainable, per_trial),
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
                stop=_StopByCheck(check or _nothing, searcher, self._timeout),
            ),
        )
        with StopRequest(self._stop_file) as searcher.stop:
            tuner.fit()
        if searcher.failure is not None:
            raise searcher.failure


def _nothing() -> None:
    """A check that finds nothing."""


def _stay_on_loopback() -> None:
    """Keep Ray from replacing 127.0.0.1 with the address that others can reach.

    It does so unless clusters are off, which is a switch made for other systems. Its children
    read the environment, this process has read it already.
    """
    os.environ[ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR] = "0"
    ray_constants.ENABLE_RAY_CLUSTER = False
