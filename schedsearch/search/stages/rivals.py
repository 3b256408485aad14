"""Jobs of a comparison: the networks that rows need, then the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from schedsearch.config.rival_entries import merged_recipe
from schedsearch.formatting import rounded
from schedsearch.runs.methods.digests import digest_of, entry_in, maker_in, rivals_in
from schedsearch.runs.methods.journals import MethodJournals
from schedsearch.runs.methods.records import RivalRecord, newest
from schedsearch.search.stages.queue import JobQueue
from schedsearch.settings.rows import TWIN
from schedsearch.workers.jobs import Done, Failed, Job, NetworkJob, RowJob
from schedsearch.workers.rivals.row_files import METHOD

if TYPE_CHECKING:
    from schedsearch.runs.folder import RunFolder
    from schedsearch.search.runners.contracts import Observer
    from schedsearch.settings import StudySettings
    from schedsearch.settings.rows import Row

__all__ = [
    "NetworkQueue",
    "RowQueue",
    "network_jobs",
    "rivals_in",
    "row_jobs",
    "rows_there",
    "seeds_of",
    "training_seeds",
]


def training_seeds(settings: StudySettings) -> list[int]:
    """Training seeds of a comparison: the search's, and further ones where retraining is on."""
    first, num = settings.search.seed, settings.evaluation.confirm_training_seeds
    return list(range(first, first + max(1, num)))


def seeds_of(row: Row, settings: StudySettings) -> list[int | None]:
    """Training seeds of a row: None without a network, one where nothing is trained."""
    if row.net is None:
        return [None]
    seeds: list[int | None] = [*training_seeds(settings)]
    recipe = merged_recipe(settings.recipe, entry_in(settings, maker_in(settings, row)))
    return seeds if recipe["num_steps"] else seeds[:1]


def network_jobs(
    rows: Sequence[Row], settings: StudySettings, settings_text: str, run_dir: str
) -> list[NetworkJob]:
    """One job per network that some rows need, and training seed."""
    makers = {row.net: maker_in(settings, row) for row in rows if row.net is not None}
    return [
        NetworkJob(settings=settings_text, run_dir=run_dir, row=maker, training_seed=seed)
        for seed in training_seeds(settings)
        for maker in makers.values()
        if seed in seeds_of(maker, settings)
    ]


def row_jobs(
    rows: Sequence[Row],
    settings: StudySettings,
    settings_text: str,
    run_dir: str,
    done: Sequence[RivalRecord],
) -> list[RowJob]:
    """Rows to measure: new ones, those without their twin, or of other settings.

    Args:
        rows: The rows wanted.
        settings: The search space.
        settings_text: The same as text.
        run_dir: The run folder.
        done: What was recorded.
    """
    known = {(r.name, r.training_seed, r.config_sha256) for r in newest(done) if r.failed is None}
    jobs = []
    seeds = {row.name: seeds_of(row, settings) for row in rows}
    for index in range(len(training_seeds(settings))):  # all rows with one seed, then the next
        for row in rows:
            for seed in seeds[row.name][index : index + 1]:
                digest = digest_of(settings, row, seed)
                names = (row.name, row.name + TWIN) if row.dynamic else (row.name,)
                if not {(name, seed, digest) for name in names} <= known:
                    job = RowJob(
                        settings=settings_text, run_dir=run_dir, row=row, training_seed=seed
                    )
                    jobs.append(job)
    return jobs


def rows_there(folder: RunFolder, settings: StudySettings) -> list[RivalRecord]:
    """What was recorded of rows that still have their method file."""
    records = MethodJournals(folder, settings).read()
    return [record for record in records if (folder.method(record.name) / METHOD).is_file()]


class NetworkQueue(JobQueue):
    """Trains the networks; one that fails makes its rows fail."""

    def __init__(self, jobs: Sequence[NetworkJob], max_retries: int, observer: Observer) -> None:
        super().__init__(
            "training the networks of the methods",
            jobs,
            max_retries=max_retries,
            observer=observer,
        )

    def name_of(self, job: Job) -> str:
        """What the job is called in a message."""
        assert isinstance(job, NetworkJob)
        return f"The network of {job.row.net} with training seed {job.training_seed}"

    def keep(self, job: Job, outcome: Done) -> None:
        """Say that it is there; its files are written already."""
        self._observer.message(f"{self.name_of(job)} is ready")


class RowQueue(JobQueue):
    """Measures the rows and records each as it comes.

    Args:
        jobs: From :func:`row_jobs`.
        settings: The search space.
        folder: The run folder.
        max_retries: New attempts for a job whose worker died.
        observer: Is told what happens.
    """

    def __init__(
        self,
        jobs: Sequence[RowJob],
        *,
        settings: StudySettings,
        folder: RunFolder,
        max_retries: int,
        observer: Observer,
    ) -> None:
        super().__init__(
            "calibrating and measuring the methods",
            jobs,
            max_retries=max_retries,
            observer=observer,
        )
        self._settings = settings
        self._journal = MethodJournals(folder, settings)
        self.num_failed = 0

    def next_job_but(self, entry: str) -> Job | None:
        """The next row that does not belong to an entry, or None."""
        for index, job in enumerate(self._waiting):
            assert isinstance(job, RowJob)
            if job.row.entry != entry:
                return self._waiting.pop(index)
        return None

    def name_of(self, job: Job) -> str:
        """What the job is called in a message."""
        assert isinstance(job, RowJob)
        return f"The row {job.row.name}"

    def keep(self, job: Job, outcome: Done) -> None:
        """Record the row, and its twin."""
        assert isinstance(outcome.result, tuple)
        for record in outcome.result:
            assert isinstance(record, RivalRecord)
            self._journal.append(record)
            note = f"; {record.note}" if record.note else ""
            self._observer.message(
                f"{record.name}: FID {rounded(record.mean_fid)}, {record.share:.0%} of the "
                f"blocks, {record.seconds:.0f} s{note}"
            )

    def give_up(self, job: Job, failure: Failed) -> None:
        """Record why there is no result."""
        assert isinstance(job, RowJob)
        super().give_up(job, failure)
        self.num_failed += 1
        self._journal.append(
            RivalRecord(
                name=job.row.name,
                entry=job.row.entry,
                kind=entry_in(self._settings, job.row).kind,
                training_seed=job.training_seed,
                config_sha256=digest_of(self._settings, job.row, job.training_seed),
                failed=failure.reason,
                seconds=failure.seconds,
                worker=failure.worker,
            )
        )
