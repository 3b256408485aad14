"""The fine-tunes of one trial, one per training seed, each measured by images of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from schedsearch.evaluation.quality import Quality, mean_quality
from schedsearch.schedules.exit_rules import ScheduleExits
from schedsearch.workers.failures import note_failure
from schedsearch.workers.loading import load_trainer
from schedsearch.workers.progress import FileProgress
from schedsearch.runs.folder import RunFolder

if TYPE_CHECKING:
    from schedsearch.protocols import Backbone
    from schedsearch.workers.jobs import TrialJob
    from schedsearch.workers.workbench import Workbench


class TrialFinetunes:
    """Runs them one after the other; every trial has the same seeds.

    So batches, noise and timesteps are paired across schedules. An interrupted trial goes on in
    each fine-tune from its last saved state, and samples again.

    Args:
        job: The trial.
        bench: Of the study.
        folder: The run folder, with a folder of the trial.
    """

    def __init__(self, job: TrialJob, bench: Workbench, folder: RunFolder) -> None:
        settings = bench.settings
        self._job, self._bench, self._folder = job, bench, folder
        training_seeds = settings.trial_training_seeds_used
        seeds = settings.evaluation.trial_seeds_used
        self._seeds = list(zip(training_seeds, seeds, strict=True))
        self._progress = [self._progress_of(seed) for seed in training_seeds]
        self._log = self._progress[0]
        self._log.note(f"schedule: {job.schedule}")
        self._at_work = training_seeds[0]

    @property
    def last_loss(self) -> float | None:
        """Of the first fine-tune."""
        return self._progress[0].last_loss

    def run(
        self, stage: Callable[[str], AbstractContextManager[None]]
    ) -> tuple[Backbone, Quality]:
        """Fine-tune and measure.

        Args:
            stage: Is entered with the name of what follows.

        Returns:
            The first network, and the mean quality of all.

        Raises:
            TrialError: If a fine-tune diverges, or samples are not finite.
        """
        with stage("load"):  # before the expensive step, should they be gone
            self._controls = self._bench.controls
        first, quality = self._measured(0, stage)
        found = [quality]
        for place in range(1, len(self._seeds)):
            found.append(self._measured(place, stage)[1])  # its network is dropped here
        return first, mean_quality(found)

    def _measured(
        self, place: int, stage: Callable[[str], AbstractContextManager[None]]
    ) -> tuple[Backbone, Quality]:
        (self._at_work, seed), progress = self._seeds[place], self._progress[place]
        with stage("fine-tune"):
            net = self._finetune(self._at_work, progress)
        with stage("sample"):
            quality = self._bench.measure(
                net,
                self._job.schedule,
                seed=seed,
                num_samples=self._bench.settings.evaluation.num_samples,
                control=self._controls.get(seed),
            )
        progress.note(f"FID {quality.fid:.6g} at evaluation seed {seed}")
        return net, quality

    def note_failure(self) -> None:
        """Write the traceback of the error in flight to the trial's log, which users look at."""
        if self._at_work != self._seeds[0][0]:
            self._log.note(f"at training seed {self._at_work}:")
        note_failure(self._log)

    def done(self) -> None:
        """The trial has its result: saved states are of no more use."""
        for progress in self._progress:
            progress.done()

    def _progress_of(self, training_seed: int) -> FileProgress:
        resume = None
        if self._job.resume_from is not None:
            resume = self._folder_of(self._job.resume_from, training_seed)
        own = self._folder_of(self._job.number, training_seed)
        own.mkdir(parents=True, exist_ok=True)
        save_every = self._bench.settings.recipe.save_every
        return FileProgress(own, save_every=save_every, resume_from=resume)

    def _folder_of(self, number: int, training_seed: int) -> Path:
        """Of the first fine-tune the trial's own folder, which holds what is kept of it."""
        if training_seed == self._bench.settings.search.seed:
            return self._folder.trial(number)
        return self._folder.further_finetune(number, training_seed)

    def _finetune(self, seed: int, progress: FileProgress) -> Backbone:
        bench = self._bench
        return load_trainer(bench.settings.trainer).finetune(
            bench.starting_backbone(self._folder),
            ScheduleExits(self._job.schedule),
            bench.source,
            bench.process,
            bench.settings.recipe,
            progress,
            seed,
        )
