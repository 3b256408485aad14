"""Counts what a run costs, and ends its trials when the budget is spent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from schedsearch.exceptions import ExitCode, SchedSearchError
from schedsearch.runs import costs as stages
from schedsearch.runs.costs import Costs, used_budget
from schedsearch.workers.jobs import Failed, Job, Outcome, TrialJob

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.search.runners.contracts import JobSource
    from schedsearch.settings import StudySettings

GRACE_SHARE = 0.1
GRACE_SECONDS = 30.0
"""How far trials may overrun the budget: a tenth of it, or this if more."""

_SAVE_EVERY = 30.0


SHARE_OF_TIME = 0.05
"""Largest share of the time that files of progress may cost."""


class Throttled:
    """A function that is called only as often as its share of the time allows.

    Args:
        function: What is called.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, function: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._function = function
        self._clock = clock
        self._next = clock()

    def __call__(self) -> None:
        """Call the function, or leave it out."""
        if (began := self._clock()) >= self._next:
            self._function()
            now = self._clock()
            self._next = now + (now - began) / SHARE_OF_TIME


class BudgetSpentError(SchedSearchError):
    """The budget is spent and trials did not end in time."""

    exit_code = ExitCode.TIME_UP


class Meter:
    """Adds up the costs of a run, keeps them on disk, and knows the budget.

    Args:
        folder: The run folder.
        settings: The study, with ``search.budget``.
        costs: Of earlier starts.
        began: When this start began, by ``clock``.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        folder: RunFolder,
        settings: StudySettings,
        costs: Costs,
        *,
        began: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._budget = settings.search.budget
        self._num_workers = settings.resources.num_workers
        self._clock = clock
        self._began = clock() if began is None else began
        self._costs = costs
        if costs.in_flight_seconds:  # of a driver that was killed, or ran out of budget
            costs.of(stages.INTERRUPTED).device_seconds += costs.in_flight_seconds
            costs.in_flight_seconds = 0.0
        self._wall_before = costs.wall_seconds
        self._in_flight: dict[Job, float] = {}
        self._stage: tuple[str, float] | None = None
        self._saved = self._began
        self._save_sometimes = Throttled(self.save, clock)

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

    def abandon_jobs(self) -> None:
        """Count jobs whose workers were stopped as interrupted."""
        now = self._clock()
        for began in self._in_flight.values():
            cost = self._costs.of(stages.INTERRUPTED)
            cost.jobs += 1
            cost.device_seconds += now - began
        self._in_flight.clear()

    def close(self) -> None:
        """Count what was running as interrupted, and keep the costs."""
        self.abandon_jobs()
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

    def end(self, job: Job, stage: str) -> None:
        """A worker is done with a job, or lost."""
        cost = self._costs.of(stage)
        cost.jobs += 1
        cost.device_seconds += self._clock() - self._in_flight.pop(job)
        self._save_sometimes()

    def tick(self) -> None:
        """Called now and then while jobs run: keeps the costs on disk."""
        if self._clock() - self._saved > _SAVE_EVERY:
            self.save()

    # ---- the budget -----------------------------------------------------------------------

    @property
    def spent(self) -> bool:
        """Whether no trial may start any more."""
        return self._overrun(0.0, 0.0)

    def check(self) -> None:
        """Called now and then while trials run.

        Raises:
            BudgetSpentError: If they overran the budget by more than the grace.
        """
        self.tick()
        budget = self._budget
        wall = max(GRACE_SHARE * (budget.wall_clock or 0.0), GRACE_SECONDS)
        device = max(
            GRACE_SHARE * 3600.0 * (budget.device_hours or 0.0), GRACE_SECONDS * self._num_workers
        )
        if self._overrun(wall, device):
            raise BudgetSpentError(
                f"The budget is spent ({self.used()}), and {len(self._in_flight)} job(s) did not "
                "end in time. Their saved progress is kept."
            )

    def _overrun(self, wall_grace: float, device_grace: float) -> bool:
        costs, budget = self.costs, self._budget
        late = budget.wall_clock is not None and (
            costs.wall_seconds >= budget.wall_clock + wall_grace
        )
        worn = budget.device_hours is not None and (
            costs.device_seconds >= 3600.0 * budget.device_hours + device_grace
        )
        return late or worn

    def used(self) -> str:
        """What is used of the budget, in words."""
        return used_budget(self.costs, self._budget.wall_clock, self._budget.device_hours)


class Metered:
    """A source of jobs whose costs are counted.

    Args:
        source: Where the jobs come from.
        meter: Counts.
        stage: What the jobs are counted as.
        within_budget: Hand out no job once the budget is spent.
    """

    def __init__(
        self, source: JobSource, meter: Meter, stage: str, *, within_budget: bool = False
    ) -> None:
        self._source = source
        self._meter = meter
        self._stage = stage
        self._within_budget = within_budget

    def next_job(self) -> Job | None:
        """The next job of the source, within the budget."""
        if self._within_budget and self._meter.spent:
            return None
        job = self._source.next_job()
        if job is not None:
            self._meter.begin(job)
        return job

    def finish(self, job: Job, outcome: Outcome) -> None:
        """Count the job and hand on how it ended."""
        failed_trial = isinstance(job, TrialJob) and isinstance(outcome, Failed)
        self._meter.end(job, stages.FAILED_TRIALS if failed_trial else self._stage)
        self._source.finish(job, outcome)
