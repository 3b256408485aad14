"""Jobs that calibrate plans, one per number of solver steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from schedsearch.search.stages.queue import JobQueue
from schedsearch.search.stages.rivals import RowQueue, rivals_in
from schedsearch.settings.plan import PLAN, PlanTarget
from schedsearch.settings.rivals import StepsRival
from schedsearch.settings.rows import FULL, rows_of
from schedsearch.workers.jobs import Done, Job, Outcome, PlanJob

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.search.preflight import Preflight
    from schedsearch.search.runners.contracts import Observer
    from schedsearch.settings import StudySettings
    from schedsearch.settings.rows import Row


def rows_without_training(settings: StudySettings) -> list[Row]:
    """Full depth, plans and, per plan, the nearest number of fewer solver steps.

    A run measures them before any fine-tune.
    """
    if settings.plan is None:
        return []
    entries = rivals_in(settings)
    rows = rows_of(entries, {})
    plans = [row for row in rows if row.entry == PLAN]
    steps = [row for row in rows if isinstance(entries.get(row.entry), StepsRival)]

    def distance(row: Row, plan: Row) -> float:
        share = int(str(row.point)) / settings.solver.num_steps
        return abs(share - PlanTarget.parse(str(plan.point)).share)

    nearest = {min(steps, key=lambda row: distance(row, plan)).name for plan in plans if steps}
    full = [row for row in rows if row.entry == FULL]
    return [*full, *(row for row in steps if row.name in nearest), *plans]


def plan_jobs(rows: Sequence[Row], ready: Preflight, folder: RunFolder) -> list[PlanJob]:
    """One job per number of solver steps that the rows of plans need."""
    own = ready.settings.solver.num_steps
    targets = [PlanTarget.parse(str(row.point)) for row in rows if row.entry == PLAN]
    counts = dict.fromkeys(target.num_steps or own for target in targets)
    return [
        PlanJob(settings=ready.settings_text, run_dir=str(folder.root), num_steps=count)
        for count in counts
    ]


class PlanQueue(JobQueue):
    """Calibrates plans; one that fails makes its rows fail."""

    def __init__(self, jobs: Sequence[PlanJob], max_retries: int, observer: Observer) -> None:
        super().__init__("calibrating plans", jobs, max_retries=max_retries, observer=observer)

    def name_of(self, job: Job) -> str:
        """What the job is called in a message."""
        assert isinstance(job, PlanJob)
        return f"The calibration of plans for {job.num_steps} steps"

    def keep(self, job: Job, outcome: Done) -> None:
        """Say that it is there; its files are written already."""
        self._observer.message(f"{self.name_of(job)} is ready")


class CalibratedRows:
    """Calibrations beside the rows that need none, then the rows of plans; a ``JobSource``.

    Args:
        plans: Calibrations.
        rows: All rows.
    """

    def __init__(self, plans: PlanQueue, rows: RowQueue) -> None:
        self._plans = plans
        self._rows = rows
        self._calibrating: set[Job] = set()

    def next_job(self) -> Job | None:
        """A calibration, a row that is ready, or None while rows wait for a calibration."""
        job = self._plans.next_job()
        if job is not None:
            self._calibrating.add(job)
            return job
        return self._rows.next_job_but(PLAN) if self._calibrating else self._rows.next_job()

    def finish(self, job: Job, outcome: Outcome) -> None:
        """Hand on how a job ended."""
        self._calibrating.discard(job)
        source = self._plans if isinstance(job, PlanJob) else self._rows
        source.finish(job, outcome)
