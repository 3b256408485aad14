"""A list of jobs for the workers; what profile and confirmation have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from schedsearch.exceptions import StorageError
from schedsearch.workers.jobs import DISK_STAGE, Done, Failed, Job, Outcome

if TYPE_CHECKING:
    from schedsearch.search.runners.contracts import Observer


class JobQueue(ABC):
    """Hands out jobs one by one, and again those whose worker died; a ``JobSource``.

    Args:
        title: What the stage does, for people.
        jobs: What to do.
        max_retries: New attempts for a job whose worker died or ran out of memory.
        observer: Is told what happens.
    """

    def __init__(
        self, title: str, jobs: Sequence[Job], *, max_retries: int, observer: Observer
    ) -> None:
        self._title = title
        self._waiting = list(jobs)
        self._max_retries = max_retries
        self._observer = observer
        self._attempts: Counter[Job] = Counter()

    @property
    def num_jobs(self) -> int:
        """Jobs left to hand out."""
        return len(self._waiting)

    def announce(self, seconds: float | None = None) -> None:
        """Tell the observer that the stage begins, and what it should take."""
        self._observer.stage(self._title, total=self.num_jobs, seconds=seconds)

    def next_job(self) -> Job | None:
        """The next job, or None."""
        return self._waiting.pop(0) if self._waiting else None

    def finish(self, job: Job, outcome: Outcome) -> None:
        """Take a result, hand the job out again, or give it up.

        Raises:
            StorageError: If the disk is why it failed; the same command goes on.
        """
        if isinstance(outcome, Done):
            self.keep(job, outcome)
        elif outcome.stage == DISK_STAGE:
            raise StorageError(
                f"{self.name_of(job)} could not write its files: {outcome.reason.rstrip('.')}. "
                "Free space and run the same command again; finished work is kept."
            )
        else:
            self._attempts[job] += 1
            if outcome.retry and self._attempts[job] <= self._max_retries:
                self._waiting.append(job)
                return
            self.give_up(job, outcome)
        self._observer.advanced()

    # ---- for subclasses -------------------------------------------------------------------

    @abstractmethod
    def name_of(self, job: Job) -> str:
        """What a job is called in a message, with a capital letter."""

    @abstractmethod
    def keep(self, job: Job, outcome: Done) -> None:
        """Record a result."""

    def give_up(self, job: Job, failure: Failed) -> None:
        """Take note of a job that ended without a result after its retries."""
        self._observer.warning(f"{self.name_of(job)} failed: {failure.reason}")
