"""What all trials share, made before the first of them: a source of jobs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from schedsearch.exceptions import NoResultError, StorageError
from schedsearch.planning.error_table import ErrorTable
from schedsearch.records import Job, ProfileJob
from schedsearch.search.failures import DISK_STAGE
from schedsearch.search.profile_files import (
    START_EXITS,
    TABLE_EXITS,
    ProfileFiles,
    TunedExits,
)

if TYPE_CHECKING:
    from schedsearch.search.jobs import Observer
    from schedsearch.search.run_folder import RunFolder
    from schedsearch.settings import StudySettings


class ProfileStage:
    """Hands out the shared fine-tunes of a study that were not done yet.

    The error table's comes first. A job whose worker died is handed out again, as often as a
    trial would be, and continues from its saved state.

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
        self._attempts: dict[str, int] = {}
        self._failures: dict[str, str] = {}
        self._disk_failed = False
        self.seconds = 0.0
        """What the jobs of this start took on their workers."""
        self._waiting: list[ProfileJob] = []
        for exits in needed_exits(settings):
            if self._kept(exits) is None:
                job = ProfileJob(exits=exits, settings=settings_text, run_dir=str(folder.root))
                self._waiting.append(job)

    @property
    def num_jobs(self) -> int:
        """Jobs left to hand out."""
        return len(self._waiting)

    def announce(self) -> None:
        """Tell the observer that the stage begins."""
        assert self._settings.profile is not None
        steps = self._settings.profile.num_steps
        title = f"tuning {steps} steps with random exits, and " if steps else ""
        self._observer.stage(f"{title}measuring the error table", total=self.num_jobs)

    def next_job(self) -> ProfileJob | None:
        """The next shared fine-tune."""
        return self._waiting.pop(0) if self._waiting else None

    def finish(self, job: Job, outcome: Mapping[str, Any]) -> None:
        """Take note of a table that was written, or of why there is none."""
        assert isinstance(job, ProfileJob)
        if "error" in outcome:
            self._disk_failed |= outcome.get("stage") == DISK_STAGE
            self._fail(job, outcome["error"])
            return
        table = ErrorTable.from_dict(json.loads(outcome["record"]))
        self.seconds += table.seconds
        self._observer.message(
            f"error table ({table.exits} exits, {table.num_steps} steps, n={table.num_images}): "
            f"{table.seconds:.0f} s"
        )
        self._observer.advanced()

    def lose(self, job: Job, reason: str, *, retry: bool) -> None:
        """Hand the job out again, within limits."""
        assert isinstance(job, ProfileJob)
        attempts = self._attempts[job.exits] = self._attempts.get(job.exits, 0) + 1
        if retry and attempts <= self._settings.search.max_retries:
            self._waiting.append(job)
            return
        self._fail(job, reason)

    def error_table(self) -> ErrorTable | None:
        """The table that proposals are made from; None where ``profile`` is null.

        Raises:
            StorageError: If the disk is why it, or the weights to start from, could not be made.
            NoResultError: If something else is.
        """
        for exits, reason in self._failures.items():
            if self._disk_failed:
                raise StorageError(
                    f"The shared fine-tune with exits {exits!r} cannot write its files: {reason} "
                    "Free space and run the same command again; it goes on from its saved state."
                )
            raise NoResultError(
                f"The shared fine-tune with exits {exits!r} failed: {reason} Its log is "
                f"{self._folder.shown}/profile/{exits}/log.txt. Mend the cause and run the same "
                "command again, or set profile to null for a search without an error table."
            )
        needed = needed_exits(self._settings)
        if not needed:
            return None
        if any(self._kept(exits) is None for exits in needed):
            raise NoResultError(
                "The error table is not there yet; run the same command again to make it."
            )
        return self._kept(needed[0])

    def _kept(self, exits: TunedExits) -> ErrorTable | None:
        return ProfileFiles(self._folder, exits, self._settings).finished()

    def _fail(self, job: ProfileJob, reason: str) -> None:
        self._failures[job.exits] = reason if reason.endswith(".") else f"{reason}."
        self._observer.warning(f"no error table ({job.exits} exits): {reason}")
        self._observer.advanced()


def needed_exits(settings: StudySettings) -> list[TunedExits]:
    """Exits of the shared fine-tunes that a study needs, the error table's first."""
    if settings.profile is None:
        return []
    if settings.profile.start == "pretrained":
        return [TABLE_EXITS]
    both: tuple[TunedExits, ...] = (TABLE_EXITS, START_EXITS)
    return list(dict.fromkeys(both))
