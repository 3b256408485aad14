"""The seam between what is to be done and what does it.

A source hands out jobs and takes outcomes; a runner executes them. The profile, the study of
trials and the confirmation are sources, Ray Tune and the local process pool are runners, and
any source runs on any runner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from schedsearch.records import TrialRecord
from schedsearch.workers.jobs import Job, TrialJob


class JobSource(Protocol):
    """Hands out jobs one by one, in the driver's main thread."""

    def next_job(self) -> Job | None:
        """The next job; None when there is none now.

        With None while jobs are running the runner waits, since a failure may bring a new
        job; with None and nothing running the source is finished.
        """
        ...

    def finish(self, job: Job, outcome: Mapping[str, Any]) -> None:
        """Take what the worker returned for a job."""
        ...

    def lose(self, job: Job, reason: str, *, retry: bool) -> None:
        """Take note that there will be no answer: the worker died, or took too long.

        Args:
            job: The job.
            reason: What happened, in words.
            retry: Whether another attempt may succeed.
        """
        ...


class Runner(Protocol):
    """Executes the jobs of a source; also a context manager that holds its workers."""

    def __enter__(self) -> Runner:
        """Start what the workers need."""
        ...

    def __exit__(self, *exc_info: object) -> None:
        """Stop all workers; also after an error."""
        ...

    def run(self, source: JobSource, *, check: Callable[[], None] | None = None) -> None:
        """Run until the source is finished.

        Args:
            source: Hands out the jobs.
            check: Called at least every second or so while jobs run; what it raises ends the
                run, and jobs in flight are abandoned.

        Raises:
            KeyboardInterrupt: If the user stops the run; jobs in flight are abandoned.
        """
        ...


class Observer(Protocol):
    """What is told about a run while it goes on; see ``schedsearch.report``."""

    def stage(self, title: str, total: int | None = None) -> None:
        """A stage begins; ``total`` jobs where they are known."""
        ...

    def message(self, text: str) -> None:
        """Something worth a line."""
        ...

    def warning(self, text: str) -> None:
        """Something that the user should act on."""
        ...

    def resumed(self, records: Sequence[TrialRecord]) -> None:
        """Trials that had finished before this start, in the order they ended."""
        ...

    def started(self, job: TrialJob) -> None:
        """A trial was handed to a worker."""
        ...

    def finished(self, record: TrialRecord) -> None:
        """A trial ended with a result or failed for good."""
        ...

    def interrupted(self, job: TrialJob, reason: str) -> None:
        """A trial was lost; its schedule runs again."""
        ...

    def advanced(self) -> None:
        """A job of a stage other than the search ended."""
        ...
