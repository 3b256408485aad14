"""Measures presets and their rivals again, with fresh seeds: a source of jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from schedsearch.records import ConfirmJob, ConfirmRecord, Job
from schedsearch.search.comparison import rival_of

if TYPE_CHECKING:
    from schedsearch.search.jobs import Observer
    from schedsearch.search.journal import Journal
    from schedsearch.search.results import RunResults
    from schedsearch.search.run_folder import RunFolder


def trials_to_confirm(results: RunResults) -> list[int]:
    """Full depth, every preset, and for each preset the rival that the search found."""
    presets = results.hand_made()
    chosen = [entry.trial for entry in presets]
    if (full := results.full()) is not None:
        chosen.insert(0, full.trial)
    for preset in presets:
        if (rival := rival_of(preset, results.searched())) is not None:
            chosen.append(rival.trial)
    return list(dict.fromkeys(chosen))


class Confirmation:
    """Hands out one job per trial and seed that was not measured yet.

    Seeds go round-robin over the trials, so that an interrupted confirmation still has pairs.
    A job whose worker died is handed out again, as often as a trial would be.

    Args:
        results: What was measured so far.
        settings_text: The resolved search space, which is what workers get.
        folder: The run folder.
        journal: Where confirmations are recorded.
        observer: Is told what happens.
    """

    def __init__(
        self,
        results: RunResults,
        *,
        settings_text: str,
        folder: RunFolder,
        journal: Journal[ConfirmRecord],
        observer: Observer,
    ) -> None:
        self._journal = journal
        self._observer = observer
        self._max_retries = results.settings.search.max_retries
        self._attempts: dict[tuple[int, int], int] = {}
        evaluation = results.settings.evaluation
        num_samples = evaluation.confirm_samples or evaluation.num_samples
        journal.repair()
        done = {(c.number, c.seed) for c in journal.read() if c.num_samples == num_samples}
        entries = {entry.trial: entry for entry in results.entries}
        self._waiting: list[Job] = [
            ConfirmJob(
                number=number,
                depths=entries[number].depths,
                label=entries[number].name,
                settings=settings_text,
                run_dir=str(folder.root),
                seed=seed,
                num_samples=num_samples,
            )
            for seed in range(evaluation.seed + 1, evaluation.seed + 1 + evaluation.confirm_seeds)
            for number in trials_to_confirm(results)
            if (number, seed) not in done
        ]

    @property
    def num_jobs(self) -> int:
        """Jobs left to hand out."""
        return len(self._waiting)

    def next_job(self) -> Job | None:
        """The next trial and seed."""
        return self._waiting.pop(0) if self._waiting else None

    def finish(self, job: Job, outcome: Mapping[str, Any]) -> None:
        """Record a measurement; a failed one is a warning and leaves its pair out."""
        if "error" in outcome:
            self._observer.warning(f"trial {job.number} not confirmed: {outcome['error']}")
        else:
            self._journal.append(ConfirmRecord.from_json(outcome["record"]))
        self._observer.advanced()

    def lose(self, job: Job, reason: str, *, retry: bool) -> None:
        """Hand the job out again, within limits."""
        assert isinstance(job, ConfirmJob)
        key = (job.number, job.seed)
        self._attempts[key] = self._attempts.get(key, 0) + 1
        if retry and self._attempts[key] <= self._max_retries:
            self._waiting.append(job)
            return
        self._observer.warning(f"trial {job.number}, seed {job.seed} not confirmed: {reason}")
        self._observer.advanced()
