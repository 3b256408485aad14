"""Measures presets, their rivals and part of the front again: a source of jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from schedsearch.files.atomic import write_text
from schedsearch.exceptions import StorageError
from schedsearch.records import ConfirmRecord
from schedsearch.search.stages.confirmation_jobs import ConfirmationJobs, JobsLeft
from schedsearch.workers.failures import DISK_STAGE
from schedsearch.workers.jobs import ConfirmJob, Job, RetrainJob

if TYPE_CHECKING:
    from schedsearch.runs.journal import Journal
    from schedsearch.runs.results import RunResults
    from schedsearch.runs.folder import RunFolder
    from schedsearch.search.runners.contracts import Observer
    from schedsearch.settings import StudySettings


Phase = tuple[str, Callable[["RunResults"], Sequence[Job]]]
"""Title, and what gives its jobs that are left."""


class Confirmation:
    """Hands out the jobs that are left, one phase after the other.

    First a runoff at seeds of its own chooses each preset's rival. Then, with
    ``evaluation.confirm_steps``, the chosen schedules continue their fine-tune. Then they are
    confirmed, and with ``evaluation.confirm_training_seeds`` presets and rivals are fine-tuned
    anew. What is fine-tuned anew, for the runoff too, is measured before the next training seed
    has its turn, so that the disk holds the weights of one at a time. A job whose worker died is
    handed out again, as often as a trial would be; a fine-tune anew that failed is noted, and not
    repeated by the next start. Every phase is chosen by what the phases before it have left on
    disk, so any start can go on.

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
        self._journal = journal
        self._observer = observer
        self._attempts: dict[Job, int] = {}
        self._running = 0
        journal.repair()
        settings = read_results().settings
        self._max_retries = settings.search.max_retries
        self._folder = folder
        self._jobs = ConfirmationJobs(
            settings, settings_text=settings_text, folder=folder, journal=journal
        )
        self._waiting: list[Job] = []
        self._title = ""
        self._phases = _phases(settings, self._jobs) if settings.evaluation.confirm_seeds else []
        self._next_phase()

    @property
    def num_jobs(self) -> int:
        """Jobs left to hand out in this phase."""
        return len(self._waiting)

    def jobs_left(self, results: RunResults) -> JobsLeft:
        """Jobs of all phases that are left if the search ended with these results."""
        return self._jobs.left(results)

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
            if isinstance(job, RetrainJob):
                self._note_failure(job, outcome["error"])
        elif isinstance(job, ConfirmJob):
            self._journal.append(ConfirmRecord.from_json(outcome["record"]))
            self._drop_measured(job)
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

    def _note_failure(self, job: RetrainJob, reason: str) -> None:
        note = self._folder.retraining_failure(job.number, job.training_seed)
        try:
            note.parent.mkdir(parents=True, exist_ok=True)
            write_text(note, f"{reason}\nDelete this file to try again.\n")
        except OSError as error:
            raise StorageError(
                f"Cannot write {note}: {error}. Free space and run the same command again."
            ) from error

    def _drop_measured(self, job: ConfirmJob) -> None:
        """Delete the weights of a fine-tune anew once they are measured at every seed."""
        training_seed = job.training_seed
        if training_seed is not None and self._jobs.is_measured(job.number, training_seed):
            self._folder.retrained(job.number, training_seed).unlink(missing_ok=True)

    def _next_phase(self) -> bool:
        """Go to the first phase that has jobs left; False when none has."""
        while self._phases and not self._waiting:
            self._title, jobs_of = self._phases.pop(0)
            self._waiting = list(jobs_of(self._read_results()))
        return bool(self._waiting)


def _phases(settings: StudySettings, jobs: ConfirmationJobs) -> list[Phase]:
    """All phases, in their order."""
    choosing, confirming = "choosing each preset's rival with fresh seeds", "confirming"
    phases: list[Phase] = []
    seeds = settings.runoff_training_seeds_used
    for seed in seeds:
        which = f", training seed {seeds.index(seed) + 1} of {len(seeds)}"
        anew = f"fine-tuning contenders anew{which}"
        phases.append((anew, partial(jobs.runoff_retrainings, training_seed=seed)))
        phases.append((choosing + which, partial(jobs.runoff_anew, training_seed=seed)))
    if not seeds:
        phases.append((choosing, jobs.runoff))
    phases.append(("continuing the fine-tune of what is confirmed", jobs.promotions))
    phases.append((f"{confirming} with fresh seeds", jobs.verdicts))
    seeds = settings.confirm_training_seeds_used
    for seed in seeds:
        which = f", training seed {seeds.index(seed) + 1} of {len(seeds)}"
        anew = f"fine-tuning presets and rivals anew{which}"
        phases.append((anew, partial(jobs.retrainings, training_seed=seed)))
        phases.append((confirming + which, partial(jobs.verdicts_anew, training_seed=seed)))
    return phases


def _what(job: Job) -> str:
    if isinstance(job, ConfirmJob):
        of = "" if job.training_seed is None else f", training seed {job.training_seed},"
        return f"confirmation of trial {job.number}{of} with seed {job.seed}"
    if isinstance(job, RetrainJob):
        return f"fine-tune of trial {job.number} with training seed {job.training_seed}"
    return f"continued fine-tune of trial {job.number}"
