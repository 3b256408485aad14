"""What all trials share, made before the first of them: a source of jobs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from schedsearch.exceptions import NoResultError, StorageError
from schedsearch.planning.error_table import ErrorTable
from schedsearch.workers.failures import DISK_STAGE
from schedsearch.workers.jobs import Job, ProfileJob
from schedsearch.runs.profile_files import exits_of, load_error_table

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.search.runners.contracts import Observer
    from schedsearch.settings import StudySettings


class ProfileStage:
    """Hands out the shared fine-tune and error table of a study, unless they are there.

    A job whose worker died is handed out again, as often as a trial would be, and continues
    from its saved state.

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
        self._settings = settings
        self._folder = folder
        self._observer = observer
        self._attempts = 0
        self._failure: str | None = None
        self._disk_failed = False
        self.seconds = 0.0
        """What the job took on its worker, if it ran in this start."""
        self._waiting: ProfileJob | None = None
        if settings.profile is not None and load_error_table(folder, settings) is None:
            self._waiting = ProfileJob(
                exits=exits_of(settings), settings=settings_text, run_dir=str(folder.root)
            )

    @property
    def num_jobs(self) -> int:
        """Jobs left to hand out."""
        return int(self._waiting is not None)

    def refuse_other_weights(self) -> None:
        """For a run with trials: weights that are tuned again are others, and do not compare.

        Raises:
            StorageError: If trials start from shared weights.
        """
        if exits_of(self._settings) == "schedules":
            raise StorageError(
                "All trials must start from one set of shared weights, but those of this run's "
                f"trials are gone from {self._folder.shown}/profile, or were tuned otherwise (by "
                "another version). Restore them, or name a new --output."
            )

    def announce(self) -> None:
        """Tell the observer that the stage begins."""
        assert self._settings.profile is not None
        steps = self._settings.profile.num_steps
        title = f"tuning {steps} steps with random exits, and " if steps else ""
        self._observer.stage(f"{title}measuring the error table", total=self.num_jobs)

    def next_job(self) -> ProfileJob | None:
        """The fine-tune, once."""
        job, self._waiting = self._waiting, None
        return job

    def finish(self, job: Job, outcome: Mapping[str, Any]) -> None:
        """Take note of a table that was written, or of why there is none."""
        assert isinstance(job, ProfileJob)
        if "error" in outcome:
            self._disk_failed = outcome.get("stage") == DISK_STAGE
            self._fail(job, outcome["error"])
            return
        table = ErrorTable.from_dict(json.loads(outcome["record"]))
        self.seconds = table.seconds
        self._observer.message(
            f"error table ({table.exits} exits, {table.num_steps} steps, n={table.num_images}): "
            f"{table.seconds:.0f} s"
        )
        self._observer.advanced()

    def lose(self, job: Job, reason: str, *, retry: bool) -> None:
        """Hand the job out again, within limits."""
        assert isinstance(job, ProfileJob)
        self._attempts += 1
        if retry and self._attempts <= self._settings.search.max_retries:
            self._waiting = job
            return
        self._fail(job, reason)

    def error_table(self) -> ErrorTable | None:
        """The table that proposals are made from; None where ``profile`` is null.

        Raises:
            StorageError: If the disk is why it could not be made.
            NoResultError: If something else is.
        """
        if self._failure is not None:
            if self._disk_failed:
                raise StorageError(
                    f"The shared fine-tune cannot write its files: {self._failure} Free space "
                    "and run the same command again; it goes on from its saved state."
                )
            raise NoResultError(
                f"The error table cannot be made: {self._failure} Its log is "
                f"{self._folder.shown}/profile/{exits_of(self._settings)}/log.txt. Mend the "
                "cause and run the same command again, or set profile to null for a search "
                "without an error table."
            )
        if self._settings.profile is None:
            return None
        if (table := load_error_table(self._folder, self._settings)) is None:
            raise NoResultError(
                "The error table is not there yet; run the same command again to make it."
            )
        return table

    def _fail(self, job: ProfileJob, reason: str) -> None:
        self._failure = reason if reason.endswith(".") else f"{reason}."
        self._observer.warning(f"no error table ({job.exits} exits): {reason}")
        self._observer.advanced()
