"""Made before the first trial: shared weights and the error table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedsearch.exceptions import NoResultError, StorageError
from schedsearch.planning.error_table import ErrorTable
from schedsearch.runs.profile_files import ProfileFiles
from schedsearch.search.stages.queue import JobQueue
from schedsearch.workers.jobs import Done, Failed, Job, ProfileJob

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.search.runners.contracts import Observer
    from schedsearch.settings import StudySettings


class ProfileStage(JobQueue):
    """Hands out the profile of a study, unless its files are there.

    Args:
        settings: The study.
        settings_text: The resolved search space, which is what workers get.
        folder: The run folder.
        observer: Is told what happens.
    """

    def __init__(
        self,
        settings: StudySettings,
        settings_text: str,
        folder: RunFolder,
        observer: Observer,
    ) -> None:
        self._files = ProfileFiles(folder, settings)
        self._folder = folder
        tuning = f"tuning shared weights, {settings.recipe.num_steps} steps"
        table = "measuring the error table"
        parts = [tuning] * self._files.tunes + [table] * (settings.profile is not None)
        super().__init__(
            ", ".join(parts),
            [ProfileJob(settings=settings_text, run_dir=str(folder.root))],
            max_retries=settings.search.max_retries,
            observer=observer,
        )

    @property
    def is_due(self) -> bool:
        """Whether the run needs files that are not there."""
        return self._files.are_wanted and not self._files.are_complete()

    def refuse_other_weights(self) -> None:
        """For a run with trials: weights that are tuned again do not compare.

        Raises:
            StorageError: If trials measured shared weights.
        """
        if self._files.tunes and not self._files.has_shared_weights():
            raise StorageError(
                "All trials of this run measured one set of shared weights, but "
                f"{self._folder.shared_weights} is gone or was made with other settings. Restore "
                "it, or name a new --output."
            )

    def error_table(self) -> ErrorTable | None:
        """The table that proposals are made from; None where ``profile`` is null."""
        return self._files.error_table()

    def name_of(self, job: Job) -> str:
        """What the job is called in a message."""
        return "The profile"

    def keep(self, job: Job, outcome: Done) -> None:
        """Say what was measured; the files are written already."""
        if isinstance(table := outcome.result, ErrorTable):
            self._observer.message(
                f"error table: {len(table.depths)} depths x {table.num_intervals} intervals, "
                f"n={table.num_images}, {table.seconds:.0f} s"
            )

    def give_up(self, job: Job, failure: Failed) -> None:
        """End the run: trials cannot start.

        Raises:
            NoResultError: Always.
        """
        reason = failure.reason if failure.reason.endswith(".") else f"{failure.reason}."
        remedy = "" if self._files.tunes else ", or set profile to null for a search without it"
        raise NoResultError(
            f"The profile failed: {reason} Its log is {self._folder.shown}/profile/log.txt. Mend "
            f"the cause and run the same command again{remedy}."
        )
