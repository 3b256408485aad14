"""Which jobs of a confirmation are left, by what is on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from schedsearch.records import ConfirmRecord
from schedsearch.search.chosen import trials_to_confirm, trials_to_retrain, trials_to_run_off
from schedsearch.search.jobs import ConfirmJob, Job, PromoteJob, RetrainJob

if TYPE_CHECKING:
    from schedsearch.search.journal import Journal
    from schedsearch.search.results import RunResults
    from schedsearch.search.run_folder import RunFolder
    from schedsearch.settings import StudySettings


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
    """Schedules sampled at one evaluation seed, those of fine-tunes anew included."""
    promotions: int = 0
    retrainings: int = 0
    """Fine-tunes anew."""


class ConfirmationJobs:
    """The jobs of each phase of a confirmation that are not done yet.

    Args:
        settings: The study.
        settings_text: The resolved search space, which is what workers get.
        folder: The run folder.
        journal: Where confirmations are recorded.
    """

    def __init__(
        self,
        settings: StudySettings,
        *,
        settings_text: str,
        folder: RunFolder,
        journal: Journal[ConfirmRecord],
    ) -> None:
        self._settings = settings
        self._evaluation = settings.evaluation
        self._num_samples = settings.evaluation.confirm_samples or settings.evaluation.num_samples
        self._settings_text = settings_text
        self._folder = folder
        self._journal = journal

    def left(self, results: RunResults) -> JobsLeft:
        """Jobs of all phases that are left if the search ended with these results."""
        if not self._evaluation.confirm_seeds:
            return JobsLeft()
        jobs = [*self.runoff(results), *self._verdicts(results, trials_to_confirm(results))]
        jobs += self.retrainings(results)
        anew = [job for job in jobs if isinstance(job, RetrainJob)]
        return JobsLeft(
            measurements=len(jobs) - len(anew) + sum(len(job.seeds) for job in anew),
            promotions=len(self.promotions(results)),
            retrainings=len(anew),
        )

    def runoff(self, results: RunResults) -> list[Job]:
        """The contenders of each preset at the seeds that choose its rival."""
        numbers, seeds = trials_to_run_off(results), self._evaluation.runoff_seeds_used
        if self._evaluation.runoff_training_seeds:
            training_seeds = self._settings.runoff_training_seeds_used
            return self._anew(results, numbers, training_seeds, seeds, num_steps=0)
        return self._measurements(results, numbers, seeds, num_steps=0)

    def promotions(self, results: RunResults) -> list[Job]:
        """The fine-tunes to continue before they are confirmed."""
        num_steps = self._evaluation.confirm_steps
        if not num_steps:
            return []
        subjects = self._subjects(results)
        return [
            PromoteJob(**subjects[number], num_steps=num_steps)
            for number in trials_to_confirm(results)
            if not self._folder.promoted(number).is_file()
        ]

    def verdicts(self, results: RunResults) -> list[Job]:
        """The trials' own weights at the seeds of the verdicts."""
        numbers: Sequence[int] = trials_to_confirm(results)
        if self._evaluation.confirm_steps:  # one whose promotion failed is left out, as was said
            numbers = [n for n in numbers if self._folder.promoted(n).is_file()]
        return self._verdicts(results, numbers)

    def retrainings(self, results: RunResults) -> list[Job]:
        """Presets and rivals, fine-tuned anew, at the seeds of the verdicts."""
        return self._anew(
            results,
            trials_to_retrain(results),
            self._settings.confirm_training_seeds_used,
            self._evaluation.confirm_seeds_used,
            num_steps=self._evaluation.confirm_steps,
        )

    def _verdicts(self, results: RunResults, numbers: Sequence[int]) -> list[Job]:
        seeds, num_steps = self._evaluation.confirm_seeds_used, self._evaluation.confirm_steps
        return self._measurements(results, numbers, seeds, num_steps=num_steps)

    def _measurements(
        self, results: RunResults, numbers: Sequence[int], seeds: Sequence[int], num_steps: int
    ) -> list[Job]:
        """Seeds go round-robin, so that an interrupted confirmation still has pairs."""
        done, subjects = self._done(num_steps), self._subjects(results)
        return [
            ConfirmJob(
                **subjects[number], seed=seed, num_samples=self._num_samples, num_steps=num_steps
            )
            for seed in seeds
            for number in numbers
            if (number, None, seed) not in done
        ]

    def _anew(
        self,
        results: RunResults,
        numbers: Sequence[int],
        training_seeds: Sequence[int],
        seeds: Sequence[int],
        num_steps: int,
    ) -> list[Job]:
        """Training seeds go round-robin likewise."""
        done, subjects = self._done(num_steps), self._subjects(results)
        left = {
            (number, training): tuple(s for s in seeds if (number, training, s) not in done)
            for training in training_seeds
            for number in numbers
        }
        return [
            RetrainJob(
                **subjects[number],
                training_seed=training,
                seeds=missing,
                num_samples=self._num_samples,
                num_steps=num_steps,
            )
            for (number, training), missing in left.items()
            if missing
        ]

    def _done(self, num_steps: int) -> set[tuple[int, int | None, int]]:
        """Trial, training seed and evaluation seed of what was measured by this protocol."""
        return {
            (c.number, c.training_seed, c.seed)
            for c in self._journal.read()
            if (c.num_samples, c.num_steps) == (self._num_samples, num_steps)
        }

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
