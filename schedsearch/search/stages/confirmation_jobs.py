"""Which jobs of a confirmation are left, by what is on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from schedsearch.records import ConfirmRecord
from schedsearch.search.stages.chosen import trials_to_confirm, trials_to_retrain, trials_to_run_off
from schedsearch.workers.jobs import ConfirmJob, PromoteJob, RetrainJob

if TYPE_CHECKING:
    from schedsearch.runs.journal import Journal
    from schedsearch.runs.results import RunResults
    from schedsearch.runs.folder import RunFolder
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
    retraining_steps: int = 0
    """Steps of all of these."""


class ConfirmationJobs:
    """The jobs of each phase of a confirmation that are not done yet.

    Seeds go round-robin over the trials, so that an interrupted confirmation still has pairs.

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
        evaluation, settings = self._evaluation, self._settings
        if not evaluation.confirm_seeds:
            return JobsLeft()
        measurements: list[ConfirmJob] = []
        anew: list[RetrainJob] = []
        if evaluation.runoff_training_seeds:
            for seed in settings.runoff_training_seeds_used:
                anew += self.runoff_retrainings(results, seed)
                measurements += self._of_contenders(results, seed)
        else:
            measurements += self.runoff(results)
        measurements += self._verdicts(results, trials_to_confirm(results))
        for seed in settings.confirm_training_seeds_used:
            anew += self.retrainings(results, seed)
            measurements += self._of_pairs(results, seed)
        return JobsLeft(
            measurements=len(measurements),
            promotions=len(self.promotions(results)),
            retrainings=len(anew),
            retraining_steps=sum(settings.recipe.num_steps + job.num_steps for job in anew),
        )

    # ---- phases: the runoff ----------------------------------------------------------------

    def runoff(self, results: RunResults) -> list[ConfirmJob]:
        """The contenders' own weights at the seeds that choose each preset's rival."""
        return self._measurements(
            results, trials_to_run_off(results), self._evaluation.runoff_seeds_used
        )

    def runoff_retrainings(self, results: RunResults, training_seed: int) -> list[RetrainJob]:
        """The contenders, fine-tuned anew with one training seed."""
        return self._retrainings(results, self._of_contenders(results, training_seed))

    def runoff_anew(self, results: RunResults, training_seed: int) -> list[ConfirmJob]:
        """What that gave, at the seeds of the runoff."""
        return self._with_weights(self._of_contenders(results, training_seed))

    # ---- phases: the verdicts --------------------------------------------------------------

    def promotions(self, results: RunResults) -> list[PromoteJob]:
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

    def verdicts(self, results: RunResults) -> list[ConfirmJob]:
        """The trials' own weights at the seeds of the verdicts."""
        numbers: Sequence[int] = trials_to_confirm(results)
        if self._evaluation.confirm_steps:  # one whose promotion failed is left out, as was said
            numbers = [n for n in numbers if self._folder.promoted(n).is_file()]
        return self._verdicts(results, numbers)

    def retrainings(self, results: RunResults, training_seed: int) -> list[RetrainJob]:
        """Presets and rivals, fine-tuned anew with one training seed."""
        return self._retrainings(results, self._of_pairs(results, training_seed))

    def verdicts_anew(self, results: RunResults, training_seed: int) -> list[ConfirmJob]:
        """What that gave, at the seeds of the verdicts."""
        return self._with_weights(self._of_pairs(results, training_seed))

    def is_measured(self, number: int, training_seed: int) -> bool:
        """Whether a fine-tune anew was measured at all of its seeds, and is of no more use."""
        choosing = training_seed in self._settings.runoff_training_seeds_used
        evaluation = self._evaluation
        seeds = evaluation.runoff_seeds_used if choosing else evaluation.confirm_seeds_used
        done = self._done(0 if choosing else evaluation.confirm_steps)
        return all((number, training_seed, seed) in done for seed in seeds)

    # ---- parts -----------------------------------------------------------------------------

    def _of_contenders(self, results: RunResults, training_seed: int) -> list[ConfirmJob]:
        numbers, seeds = trials_to_run_off(results), self._evaluation.runoff_seeds_used
        return self._anew(results, numbers, seeds, 0, training_seed)

    def _of_pairs(self, results: RunResults, training_seed: int) -> list[ConfirmJob]:
        numbers, seeds = trials_to_retrain(results), self._evaluation.confirm_seeds_used
        steps = self._evaluation.confirm_steps
        return self._anew(results, numbers, seeds, steps, training_seed)

    def _verdicts(self, results: RunResults, numbers: Sequence[int]) -> list[ConfirmJob]:
        seeds, num_steps = self._evaluation.confirm_seeds_used, self._evaluation.confirm_steps
        return self._measurements(results, numbers, seeds, num_steps)

    def _anew(
        self,
        results: RunResults,
        numbers: Sequence[int],
        seeds: Sequence[int],
        num_steps: int,
        training_seed: int,
    ) -> list[ConfirmJob]:
        """Measurements of one training seed, but for fine-tunes that failed."""
        failed = {
            number
            for number in numbers
            if self._folder.retraining_failure(number, training_seed).is_file()
        }
        numbers = [number for number in numbers if number not in failed]
        return self._measurements(results, numbers, seeds, num_steps, training_seed)

    def _measurements(
        self,
        results: RunResults,
        numbers: Sequence[int],
        seeds: Sequence[int],
        num_steps: int = 0,
        training_seed: int | None = None,
    ) -> list[ConfirmJob]:
        done, subjects = self._done(num_steps), self._subjects(results)
        return [
            ConfirmJob(
                **subjects[number],
                seed=seed,
                num_samples=self._num_samples,
                num_steps=num_steps,
                training_seed=training_seed,
            )
            for seed in seeds
            for number in numbers
            if (number, training_seed, seed) not in done
        ]

    def _retrainings(
        self, results: RunResults, measurements: Sequence[ConfirmJob]
    ) -> list[RetrainJob]:
        """The fine-tunes whose weights measurements lack."""
        subjects = self._subjects(results)
        jobs = [
            RetrainJob(
                **subjects[job.number], training_seed=job.training_seed, num_steps=job.num_steps
            )
            for job in measurements
            if job.training_seed is not None
            and not self._folder.retrained(job.number, job.training_seed).is_file()
        ]
        return list(dict.fromkeys(jobs))

    def _with_weights(self, measurements: Sequence[ConfirmJob]) -> list[ConfirmJob]:
        """Those whose fine-tune did not fail; the others are left out, as the warning said."""
        return [
            job
            for job in measurements
            if job.training_seed is not None
            and self._folder.retrained(job.number, job.training_seed).is_file()
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
