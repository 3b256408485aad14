"""Made before all else: exit adapters, and the check whether fine-tunes start from them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from schedsearch.exceptions import NoResultError, StorageError
from schedsearch.runs.starts.files import StartFiles
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.hand_made import FULL
from schedsearch.search.stages.latency import open_table
from schedsearch.search.stages.queue import JobQueue
from schedsearch.workers.jobs import Done, Failed, Job, StartJob

if TYPE_CHECKING:
    from collections.abc import Sequence

    from schedsearch.runs.folder import RunFolder
    from schedsearch.search.preflight import Preflight
    from schedsearch.search.runners.contracts import Observer
    from schedsearch.search.study.warm_starts import WarmStart
    from schedsearch.settings import SpaceSettings

FLAT_SHARE = 0.7
"""Depth of the flat schedule that is checked where no preset exits early."""


class StartStage(JobQueue):
    """Hands out one fine-tune per start, unless their outcomes are there.

    Args:
        ready: What the checks made.
        folder: The run folder.
        observer: Is told what happens.
    """

    def __init__(self, ready: Preflight, folder: RunFolder, observer: Observer) -> None:
        settings = ready.settings
        self._files = StartFiles(folder, settings)
        self._folder = folder
        label, schedule = checked_schedule(
            ready.warm_starts,
            settings.space,
            ready.visits,
            num_exit_blocks=ready.bench.backbone.num_exit_blocks,
        )
        jobs = [
            StartJob(
                settings=ready.settings_text,
                run_dir=str(folder.root),
                start=start,
                label=label,
                schedule=schedule,
            )
            for start in ("adapters", "plain")
            if self._files.are_wanted
        ]
        super().__init__(
            f"fitting exit adapters, and checking them on {label}",
            jobs,
            max_retries=settings.search.max_retries,
            observer=observer,
        )

    @property
    def is_due(self) -> bool:
        """Whether the run needs outcomes or adapters that are not there."""
        return self._files.are_wanted and not self._files.are_complete

    def refuse_to_decide_again(self) -> None:
        """For a run with trials: those that start otherwise do not compare.

        Raises:
            StorageError: If the check that they started by is gone.
        """
        if self._files.check() is None:
            raise StorageError(
                "All trials of this run started by one check, but "
                f"{self._folder.profile / 'start'} no longer holds it. Restore it, or name a new "
                "--output."
            )

    def report(self) -> None:
        """Say what was decided and why."""
        if (check := self._files.check()) is not None:
            self._observer.message(check.sentence)

    def name_of(self, job: Job) -> str:
        """What the job is called in a message."""
        assert isinstance(job, StartJob)
        return f"The check of recipe.start: {job.start}"

    def keep(self, job: Job, outcome: Done) -> None:
        """Nothing to do: the files are written already."""

    def give_up(self, job: Job, failure: Failed) -> None:
        """End the run: trials cannot start.

        Raises:
            NoResultError: Always.
        """
        assert isinstance(job, StartJob)
        raise NoResultError(
            f"{self.name_of(job)} failed: {failure.reason.rstrip('.')}. Its log is "
            f"{self._folder.shown}/profile/start/{job.start}/log.txt. Mend the cause and run the "
            "same command again, or set recipe.start to plain."
        )


def with_decided_start(ready: Preflight, folder: RunFolder) -> Preflight:
    """The study after the check: its latency table is new where adapters were dropped.

    Raises:
        StorageError: If the kept table is damaged.
    """
    if ready.settings.recipe.start == "plain":
        return ready
    table, latency, _ = open_table(ready.bench, folder)
    return dataclasses.replace(ready, table=table, latency=latency)


def checked_schedule(
    warm_starts: Sequence[WarmStart],
    space: SpaceSettings,
    visits: Sequence[int],
    *,
    num_exit_blocks: int,
) -> tuple[str, ExitSchedule]:
    """Name and schedule of the check: the fastest warm start, or a flat schedule.

    Args:
        warm_starts: Of the study; those at full depth do not count.
        space: The space, with its depths.
        visits: Network calls of the solver per interval, data -> noise.
        num_exit_blocks: Full depth.
    """
    full = num_exit_blocks * sum(visits)
    found = [
        (warm.schedule.num_blocks(visits), warm.label, warm.schedule)
        for warm in warm_starts
        if warm.label != FULL and warm.schedule.num_blocks(visits) < full
    ]
    if found:
        _, label, schedule = min(found, key=lambda row: row[0])
        return label, schedule
    deepest = min(num_exit_blocks - 1, space.max_depth)
    depth = min(deepest, max(space.min_depth, round(FLAT_SHARE * num_exit_blocks)))
    edges = space.build().edges
    return f"flat-{depth}", ExitSchedule.flat(depth, space.num_intervals, edges)
