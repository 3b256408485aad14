"""Lets Ray Tune ask a job source for jobs, and the driver's checks end it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ray import tune
from ray.tune.search import Searcher

from schedsearch.exceptions import StorageError
from schedsearch.search.runners.contracts import JobSource
from schedsearch.search.runners.interrupts import StopRequest, interrupts_afterwards
from schedsearch.workers.jobs import WORKER_STAGE, Done, Failed, Job, Outcome

LATE_SECONDS = 60.0
"""How far a job may overrun its limit before its worker counts as lost."""


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


class StopByCheck(tune.Stopper):  # type: ignore[misc]
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
        """End the run where a worker lives far beyond its time limit.

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
