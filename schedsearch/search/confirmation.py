"""Measures presets and their rivals again, with fresh seeds: a source of jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from schedsearch.records import ConfirmJob, ConfirmRecord, Job
from schedsearch.search.comparison import contenders_for

if TYPE_CHECKING:
    from schedsearch.search.jobs import Observer
    from schedsearch.search.journal import Journal
    from schedsearch.search.results import RunResults
    from schedsearch.search.run_folder import RunFolder


def trials_to_run_off(results: RunResults) -> list[int]:
    """The contenders of each preset, where there is more than one."""
    fields = [contenders_for(preset, results.searched()) for preset in results.hand_made()]
    return list(dict.fromkeys(c.trial for field in fields if len(field) > 1 for c in field))


def trials_to_confirm(results: RunResults) -> list[int]:
    """Full depth, every preset, and for each preset the rival that the search found."""
    presets = results.hand_made()
    chosen = [entry.trial for entry in presets]
    if (full := results.full()) is not None:
        chosen.insert(0, full.trial)
    for preset in presets:
        if (rival := results.rival_of(preset)) is not None:
            chosen.append(rival.trial)
    return list(dict.fromkeys(chosen))


class Confirmation:
    """Hands out one job per trial and seed that was not measured yet, in two stages.

    First a runoff at seeds of its own chooses each preset's rival, then presets and rivals are
    confirmed. Seeds go round-robin over the trials, so that an interrupted confirmation still
    has pairs. A job whose worker died is handed out again, as often as a trial would be.

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
        self._attempts: dict[tuple[int, int], int] = {}
        self._running = 0
        journal.repair()
        results = read_results()
        self._max_retries = results.settings.search.max_retries
        evaluation = results.settings.evaluation
        self._waiting: list[Job] = []
        if evaluation.confirm_seeds:
            contenders = trials_to_run_off(results)
            self._waiting = self._jobs(results, contenders, evaluation.runoff_seeds_used)
        self._choosing = bool(self._waiting)
        if not self._choosing:
            self._waiting = self._verdict_jobs(results)

    @property
    def num_jobs(self) -> int:
        """Jobs left to hand out in this stage."""
        return len(self._waiting)

    def announce(self) -> None:
        """Tell the observer which stage begins."""
        title = "choosing each preset's rival" if self._choosing else "confirming"
        self._observer.stage(f"{title} with fresh seeds", total=self.num_jobs)

    def next_job(self) -> Job | None:
        """The next trial and seed; None while the runoff's last jobs are running."""
        if not self._waiting and self._choosing and not self._running:
            self._choosing = False
            self._waiting = self._verdict_jobs(self._read_results())
            self.announce()
        if not self._waiting:
            return None
        self._running += 1
        return self._waiting.pop(0)

    def finish(self, job: Job, outcome: Mapping[str, Any]) -> None:
        """Record a measurement; a failed one is a warning and leaves its pair out."""
        self._running -= 1
        if "error" in outcome:
            self._observer.warning(f"trial {job.number} not confirmed: {outcome['error']}")
        else:
            self._journal.append(ConfirmRecord.from_json(outcome["record"]))
        self._observer.advanced()

    def lose(self, job: Job, reason: str, *, retry: bool) -> None:
        """Hand the job out again, within limits."""
        assert isinstance(job, ConfirmJob)
        self._running -= 1
        key = (job.number, job.seed)
        self._attempts[key] = self._attempts.get(key, 0) + 1
        if retry and self._attempts[key] <= self._max_retries:
            self._waiting.append(job)
            return
        self._observer.warning(f"trial {job.number}, seed {job.seed} not confirmed: {reason}")
        self._observer.advanced()

    def _verdict_jobs(self, results: RunResults) -> list[Job]:
        seeds = results.settings.evaluation.confirm_seeds_used
        return self._jobs(results, trials_to_confirm(results), seeds)

    def _jobs(
        self, results: RunResults, numbers: Iterable[int], seeds: Iterable[int]
    ) -> list[Job]:
        evaluation = results.settings.evaluation
        num_samples = evaluation.confirm_samples or evaluation.num_samples
        done = {(c.number, c.seed) for c in self._journal.read() if c.num_samples == num_samples}
        entries = {entry.trial: entry for entry in results.entries}
        numbers = list(numbers)
        return [
            ConfirmJob(
                number=number,
                depths=entries[number].depths,
                label=entries[number].name,
                settings=self._settings_text,
                run_dir=str(self._folder.root),
                seed=seed,
                num_samples=num_samples,
            )
            for seed in seeds
            for number in numbers
            if (number, seed) not in done
        ]
