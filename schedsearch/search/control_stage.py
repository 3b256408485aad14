"""Images at full depth that correct the FIDs of trials, made before these: a source of jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from schedsearch.evaluation.control import part_is_sound
from schedsearch.exceptions import NoResultError, StorageError
from schedsearch.search.failures import DISK_STAGE
from schedsearch.search.jobs import ControlJob, Job

if TYPE_CHECKING:
    from schedsearch.search.run_folder import RunFolder
    from schedsearch.search.seam import Observer
    from schedsearch.search.workbench import Workbench


class ControlStage:
    """Hands out the control images of a study that are missing or damaged, one seed a job.

    A job whose worker died is handed out again, as often as a trial would be.

    Args:
        bench: Of the study.
        settings_text: The resolved search space, which is what workers get.
        folder: The run folder.
        observer: Is told what happens.
    """

    def __init__(
        self, bench: Workbench, settings_text: str, folder: RunFolder, observer: Observer
    ) -> None:
        self._bench = bench
        self._observer = observer
        self._attempts: dict[Job, int] = {}
        self._waiting = [
            ControlJob(seed=seed, settings=settings_text, run_dir=str(folder.root))
            for seed in bench.settings.evaluation.control_seeds_used
            if not part_is_sound(bench.control_file(seed))
        ]

    @property
    def num_jobs(self) -> int:
        """Jobs left to hand out."""
        return len(self._waiting)

    def announce(self) -> None:
        """Tell the observer that the stage begins."""
        self._observer.stage("sampling control images at full depth", total=self.num_jobs)

    def next_job(self) -> ControlJob | None:
        """The next seed."""
        return self._waiting.pop(0) if self._waiting else None

    def finish(self, job: Job, outcome: Mapping[str, Any]) -> None:
        """Take note of images that were sampled.

        Raises:
            StorageError: If the disk is why they were not.
            NoResultError: If something else is: without a control no trial has a result.
        """
        if "error" in outcome:
            self._fail(outcome["error"], disk=outcome.get("stage") == DISK_STAGE)
        self._observer.advanced()

    def lose(self, job: Job, reason: str, *, retry: bool) -> None:
        """Hand the job out again, within limits.

        Raises:
            NoResultError: Beyond them.
        """
        assert isinstance(job, ControlJob)
        self._attempts[job] = self._attempts.get(job, 0) + 1
        if not retry or self._attempts[job] > self._bench.settings.search.max_retries:
            self._fail(reason, disk=False)
        self._waiting.append(job)

    def _fail(self, reason: str, *, disk: bool) -> None:
        reason = reason if reason.endswith(".") else f"{reason}."
        if disk:
            raise StorageError(
                f"The control images cannot be kept: {reason} Free space and run the same command "
                "again."
            )
        raise NoResultError(
            f"The control images cannot be sampled: {reason} Mend the cause and run the same "
            "command again, or set evaluation.control_samples to 0 in a new --output."
        )
