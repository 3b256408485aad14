"""Jobs that calibrate plans, one per number of solver steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from schedsearch.search.stages.queue import JobQueue
from schedsearch.settings.plan import PLAN, PlanTarget
from schedsearch.workers.jobs import Done, Job, PlanJob

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.search.preflight import Preflight
    from schedsearch.search.runners.contracts import Observer
    from schedsearch.settings.rows import Row


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
