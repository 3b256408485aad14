"""Contracts between what is to be done, what does it, and what watches.

A source hands out jobs and takes outcomes. A runner executes them. Any source runs on any
runner: the study of trials, the profile and the confirmation are sources; Ray Tune and the local
process pool are runners.

**Threads.** A runner calls its source in the driver's main thread, one call at a time.

**Ownership.** A job that was handed out belongs to the runner until it calls ``finish`` for it,
exactly once. A runner that stops early abandons its jobs without a call.

**Failures.** A job whose worker died ends as ``Failed`` with stage ``worker`` and ``retry`` set.
What a source raises ends the run and reaches the caller of :meth:`Runner.run`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from schedsearch.records import TrialRecord
from schedsearch.workers.jobs import Job, Outcome, TrialJob


class JobSource(Protocol):
    """Hands out jobs one by one, in the driver's main thread."""

    def next_job(self) -> Job | None:
        """The next job; None when there is none now.

        With None while jobs are running the runner waits, since a failure may bring a new
        job; with None and nothing running the source is finished.
        """
        ...

    def finish(self, job: Job, outcome: Outcome) -> None:
        """Take how a job ended.

        Raises:
            StorageError: If the disk is why it failed; the same command resumes the run.
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
    """Receives messages about a run while it runs; see ``schedsearch.report``."""

    def stage(self, title: str, total: int | None = None, seconds: float | None = None) -> None:
        """A stage begins.

        Args:
            title: What happens.
            total: Jobs, where they are known.
            seconds: What it should take, where there is an estimate.
        """
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
