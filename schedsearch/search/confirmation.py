"""Measures presets, their rivals and part of the front again: a source of jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

from schedsearch.exceptions import StorageError
from schedsearch.records import ConfirmJob, ConfirmRecord, Job, PromoteJob
from schedsearch.search.chosen import trials_to_confirm, trials_to_run_off
from schedsearch.search.failures import DISK_STAGE

if TYPE_CHECKING:
    from schedsearch.search.jobs import Observer
    from schedsearch.search.journal import Journal
    from schedsearch.search.results import RunResults
    from schedsearch.search.run_folder import RunFolder


class _Subject(TypedDict):
    """What every job says of the finished trial that it is about."""

    number: int
    depths: tuple[int, ...]
    label: str | None
    settings: str
    run_dir: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsLeft:
    """What a confirmation still asks for."""

    measurements: int = 0
    promotions: int = 0


class Confirmation:
    """Hands out the jobs that are left of three phases, one phase after the other.

    First a runoff at seeds of its own chooses each preset's rival. Then, with
    ``evaluation.confirm_steps``, the chosen schedules continue their fine-tune. Then they are
    confirmed. Seeds go round-robin over the trials, so that an interrupted confirmation still
    has pairs. A job whose worker died is handed out again, as often as a trial would be. Every
    phase is chosen by what the phases before it have left on disk, so any start can go on.

    Args:
        read_results: Gives what was measured so far, confirmations included.
        settings_text: The resolved search space, which is what workers get.
        folder: The run folder.
        journal: Where confirmations are recorded.
        observer: Is told what happens.
    """

    def __init__(
        self,
        read_results: Callable[[], RunResults],
        *,
        settings_text: str,
        folder: RunFolder,
        journal: Journal[ConfirmRecord],
        observer: Observer,
    ) -> None:
        self._read_results = read_results
        self._settings_text = settings_text
        self._folder = folder
        self._journal = journal
        self._observer = observer
        self._attempts: dict[Job, int] = {}
        self._running = 0
        journal.repair()
        settings = read_results().settings
        self._max_retries = settings.search.max_retries
        self._evaluation = settings.evaluation
        self._waiting: list[Job] = []
        self._title = ""
        self._phases: list[tuple[str, Callable[[RunResults], list[Job]]]] = []
        if self._evaluation.confirm_seeds:
            self._phases = [
                ("choosing each preset's rival with fresh seeds", self._runoff_jobs),
                ("continuing the fine-tune of what is confirmed", self._promotion_jobs),
                ("confirming with fresh seeds", self._verdict_jobs),
            ]
        self._next_phase()

    @property
    def num_jobs(self) -> int:
        """Jobs left to hand out in this phase."""
        return len(self._waiting)

    def jobs_left(self, results: RunResults) -> JobsLeft:
        """Jobs of all phases that are left if the search ended with these results."""
        if not self._evaluation.confirm_seeds:
            return JobsLeft()
        numbers = trials_to_confirm(results)
        steps, seeds = self._evaluation.confirm_steps, self._evaluation.confirm_seeds_used
        verdicts = self._measurements(results, numbers, seeds, num_steps=steps)
        return JobsLeft(
            measurements=len(self._runoff_jobs(results)) + len(verdicts),
            promotions=len(self._promotion_jobs(results)),
        )

    def announce(self) -> None:
        """Tell the observer which phase begins."""
        self._observer.stage(self._title, total=self.num_jobs)

    def next_job(self) -> Job | None:
        """The next measurement; None while those of one phase still choose for the next."""
        if not self._waiting and self._phases and not self._running and self._next_phase():
            self.announce()
        if not self._waiting:
            return None
        self._running += 1
        return self._waiting.pop(0)

    def finish(self, job: Job, outcome: Mapping[str, Any]) -> None:
        """Record a measurement; a failed one is a warning and leaves its pair out.

        Raises:
            StorageError: If the disk is why it failed.
        """
        self._running -= 1
        if outcome.get("stage") == DISK_STAGE:  # no fault of the schedule: stop, and go on later
            raise StorageError(
                f"{_what(job).capitalize()} could not write its files: {outcome['error']}. Free "
                "space and run the same command again; finished measurements are kept."
            )
        if "error" in outcome:
            self._observer.warning(f"{_what(job)} failed: {outcome['error']}")
        elif isinstance(job, ConfirmJob):
            self._journal.append(ConfirmRecord.from_json(outcome["record"]))
        self._observer.advanced()

    def lose(self, job: Job, reason: str, *, retry: bool) -> None:
        """Hand the job out again, within limits."""
        self._running -= 1
        self._attempts[job] = self._attempts.get(job, 0) + 1
        if retry and self._attempts[job] <= self._max_retries:
            self._waiting.append(job)
            return
        self._observer.warning(f"{_what(job)} failed: {reason}")
        self._observer.advanced()

    # ---- phases ---------------------------------------------------------------------------

    def _next_phase(self) -> bool:
        """Go to the first phase that has jobs left; False when none has."""
        while self._phases and not self._waiting:
            self._title, jobs_of = self._phases.pop(0)
            self._waiting = jobs_of(self._read_results())
        return bool(self._waiting)

    def _runoff_jobs(self, results: RunResults) -> list[Job]:
        seeds = self._evaluation.runoff_seeds_used
        return self._measurements(results, trials_to_run_off(results), seeds, num_steps=0)

    def _promotion_jobs(self, results: RunResults) -> list[Job]:
        num_steps = self._evaluation.confirm_steps
        if not num_steps:
            return []
        subjects = self._subjects(results)
        return [
            PromoteJob(**subjects[number], num_steps=num_steps)
            for number in trials_to_confirm(results)
            if not self._folder.promoted(number).is_file()
        ]

    def _verdict_jobs(self, results: RunResults) -> list[Job]:
        numbers: Sequence[int] = trials_to_confirm(results)
        num_steps = self._evaluation.confirm_steps
        if num_steps:  # one whose promotion failed is left out, as the warning said
            numbers = [n for n in numbers if self._folder.promoted(n).is_file()]
        return self._measurements(
            results, numbers, self._evaluation.confirm_seeds_used, num_steps=num_steps
        )

    def _measurements(
        self, results: RunResults, numbers: Sequence[int], seeds: Iterable[int], num_steps: int
    ) -> list[Job]:
        num_samples = self._evaluation.confirm_samples or self._evaluation.num_samples
        done = {
            (c.number, c.seed)
            for c in self._journal.read()
            if (c.num_samples, c.num_steps) == (num_samples, num_steps)
        }
        subjects = self._subjects(results)
        return [
            ConfirmJob(**subjects[number], seed=seed, num_samples=num_samples, num_steps=num_steps)
            for seed in seeds
            for number in numbers
            if (number, seed) not in done
        ]

    def _subjects(self, results: RunResults) -> dict[int, _Subject]:
        """By number of the trial."""
        return {
            entry.trial: _Subject(
                number=entry.trial,
                depths=entry.depths,
                label=entry.name,
                settings=self._settings_text,
                run_dir=str(self._folder.root),
            )
            for entry in results.entries
        }


def _what(job: Job) -> str:
    if isinstance(job, ConfirmJob):
        return f"confirmation of trial {job.number} with seed {job.seed}"
    return f"continued fine-tune of trial {job.number}"
