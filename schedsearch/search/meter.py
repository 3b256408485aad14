"""Counts what a run costs while it goes on, and ends it when the budget is spent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schedsearch.exceptions import ExitCode, SchedSearchError
from schedsearch.runs import costs as stages
from schedsearch.runs.costs import Costs, used_budget
from schedsearch.workers.jobs import ConfirmJob, ControlJob, Job, ProfileJob, PromoteJob, RetrainJob

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.search.runners.contracts import JobSource
    from schedsearch.settings import StudySettings

GRACE_SHARE = 0.1
GRACE_SECONDS = 30.0
"""How far jobs that are running may overrun the budget: a tenth of it, or this if it is more."""

_SAVE_EVERY = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """What is kept back of a budget."""

    device_seconds: float = 0.0
    wall_seconds: float = 0.0


class BudgetSpentError(SchedSearchError):
    """The budget is spent and jobs did not end in time; the same command resumes them."""

    exit_code = ExitCode.TIME_UP


class Meter:
    """The clock of a run: adds up costs, keeps them on disk, and knows the budget.

    Args:
        folder: The run folder; costs of earlier starts are read from it.
        settings: The study, with ``search.budget``.
        began: When this start began, by ``clock``.
        clock: Seconds, monotonic.

    Raises:
        StorageError: If the kept costs are damaged.
    """

    def __init__(
        self,
        folder: RunFolder,
        settings: StudySettings,
        *,
        began: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._budget = settings.search.budget
        self._num_workers = settings.resources.num_workers
        self._runoff_seeds = settings.evaluation.runoff_seeds_used
        self._runoff_training_seeds = settings.runoff_training_seeds_used
        self._clock = clock
        self._began = clock() if began is None else began
        self._costs = Costs.load(folder)
        if self._costs.in_flight_seconds:  # of a driver that was killed, or ran out of budget
            self._costs.of(stages.INTERRUPTED).device_seconds += self._costs.in_flight_seconds
            self._costs.in_flight_seconds = 0.0
        self._wall_before = self._costs.wall_seconds
        self._in_flight: dict[Job, float] = {}
        self._stage: tuple[str, float] | None = None
        self._saved = self._began

    @property
    def costs(self) -> Costs:
        """Everything so far, jobs in flight included."""
        now = self._clock()
        self._costs.wall_seconds = self._wall_before + now - self._began
        self._costs.in_flight_seconds = sum(now - began for began in self._in_flight.values())
        if self._stage is not None:
            name, began = self._stage
            self._costs.of(name).wall_seconds += now - began
            self._stage = (name, now)
        return self._costs

    def save(self) -> None:
        """Keep the costs; what a later ``kill -9`` loses is the time since then."""
        self.costs.save(self._folder)
        self._saved = self._clock()

    def close(self) -> None:
        """Count what was running as interrupted, and keep the costs."""
        now = self._clock()
        for began in self._in_flight.values():
            cost = self._costs.of(stages.INTERRUPTED)
            cost.jobs += 1
            cost.device_seconds += now - began
        self._in_flight.clear()
        self.save()

    # ---- stages and jobs ------------------------------------------------------------------

    def add_driver_work(self, stage: str, seconds: float) -> None:
        """Count work that the driver did itself, with all workers idle."""
        cost = self._costs.of(stage)
        cost.jobs += 1
        cost.device_seconds += seconds
        cost.wall_seconds += seconds

    @contextmanager
    def driver_stage(self, stage: str) -> Iterator[None]:
        """Measure work that the driver does itself."""
        began = self._clock()
        try:
            yield
        finally:
            self.add_driver_work(stage, self._clock() - began)
            self.save()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the driver's time in a stage that workers do."""
        self._stage = (name, self._clock())
        try:
            yield
        finally:
            self.save()
            self._stage = None

    def begin(self, job: Job) -> None:
        """A job was handed to a worker."""
        self._in_flight[job] = self._clock()

    def end(self, job: Job, *, complete: bool) -> None:
        """A worker is done with a job, or lost."""
        cost = self._costs.of(self._stage_of(job, complete=complete))
        cost.jobs += 1
        cost.device_seconds += self._clock() - self._in_flight.pop(job)
        self.save()

    def _stage_of(self, job: Job, *, complete: bool) -> str:
        if isinstance(job, ProfileJob):
            return stages.PROFILE
        if isinstance(job, ControlJob):
            return stages.CONTROL
        if isinstance(job, PromoteJob):
            return stages.PROMOTION
        if isinstance(job, ConfirmJob):
            return stages.RUNOFF if job.seed in self._runoff_seeds else stages.CONFIRMATION
        if isinstance(job, RetrainJob):
            choosing = job.training_seed in self._runoff_training_seeds
            return stages.RUNOFF if choosing else stages.CONFIRMATION
        return stages.TRIALS if complete else stages.FAILED_TRIALS

    # ---- the budget -----------------------------------------------------------------------

    @property
    def is_limited(self) -> bool:
        """Whether there is a budget besides the number of trials."""
        return self._budget.wall_clock is not None or self._budget.device_hours is not None

    @property
    def spent(self) -> bool:
        """Whether no job may start any more, whatever its stage."""
        return not self.allows(Reserve())

    def allows(self, reserve: Reserve) -> bool:
        """Whether a new job may start when that much of the budget is kept back."""
        costs, budget = self.costs, self._budget
        return _within(costs.wall_seconds, budget.wall_clock, reserve.wall_seconds) and _within(
            costs.device_seconds, _in_seconds(budget.device_hours), reserve.device_seconds
        )

    def check(self) -> None:
        """Called now and then while jobs run.

        Raises:
            BudgetSpentError: If they overran the budget by more than the grace.
        """
        if self._clock() - self._saved > _SAVE_EVERY:
            self.save()
        grace = Reserve(
            wall_seconds=-_grace(self._budget.wall_clock, GRACE_SECONDS),
            device_seconds=-_grace(
                _in_seconds(self._budget.device_hours), GRACE_SECONDS * self._num_workers
            ),
        )
        if not self.allows(grace):
            raise BudgetSpentError(
                f"The budget is spent ({self.used()}), and {len(self._in_flight)} job(s) did not "
                "end in time. Their saved progress is kept."
            )

    def used(self) -> str:
        """What is used of the budget, in words."""
        return used_budget(self.costs, self._budget.wall_clock, self._budget.device_hours)


def _in_seconds(hours: float | None) -> float | None:
    return None if hours is None else 3600.0 * hours


def _grace(limit: float | None, least: float) -> float:
    return max(GRACE_SHARE * (limit or 0.0), least)


def _within(used: float, limit: float | None, reserve: float) -> bool:
    return limit is None or used + reserve < limit


class Metered:
    """A source of jobs whose costs are counted; it hands out none when the budget is spent.

    Args:
        source: Where the jobs come from.
        meter: Counts.
        reserve: What of the budget is kept back for later stages; asked before every job.
    """

    def __init__(
        self, source: JobSource, meter: Meter, reserve: Callable[[], Reserve] = Reserve
    ) -> None:
        self._source = source
        self._meter = meter
        self._reserve = reserve
        self.denied = False
        """Whether a job was kept back, if there was one."""

    def next_job(self) -> Job | None:
        """The next job of the source, within the budget."""
        if not self._meter.allows(self._reserve()):
            self.denied = True
            return None
        job = self._source.next_job()
        if job is not None:
            self._meter.begin(job)
        return job

    def finish(self, job: Job, outcome: Mapping[str, Any]) -> None:
        """Count the job and hand on what the worker returned."""
        record = outcome.get("record")
        state = json.loads(record).get("state", "complete") if record is not None else "failed"
        self._meter.end(job, complete=state == "complete")
        self._source.finish(job, outcome)

    def lose(self, job: Job, reason: str, *, retry: bool) -> None:
        """Count the job and tell the source that there will be no answer."""
        self._meter.end(job, complete=False)
        self._source.lose(job, reason, retry=retry)
