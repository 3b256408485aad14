"""Which shared fine-tunes are handed out, and what becomes of failures."""

import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from driving import settings_of
from rich.console import Console

from schedsearch.exceptions import NoResultError, StorageError
from schedsearch.planning.error_table import ErrorTable
from schedsearch.report.live import RunView
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.profile_files import ProfileFiles
from schedsearch.runs.results import hypervolume_of
from schedsearch.search.stages.profile import ProfileStage
from schedsearch.workers.failures import DISK_STAGE
from schedsearch.workers.jobs import ProfileJob

TABLE = ErrorTable(
    depths=(2, 3),
    losses=((0.5, 0.4), (0.3, 0.2)),
    standard_errors=((0.1, 0.0), (0.1, 0.0)),
    exits="uniform",
    num_steps=3,
    num_images=4,
    seed=0,
    seconds=1.5,
)


class Stage:
    """A stage with what it told."""

    def __init__(self, root: Path, profile: dict[str, Any] | None) -> None:
        self.settings = settings_of(profile=profile, search={"max_retries": 1})
        self.folder = RunFolder(root)
        self.told = io.StringIO()
        view = RunView(Console(file=self.told, width=200), hypervolume_of)
        self.source = ProfileStage(self.settings, "settings", self.folder, view)

    def take(self) -> ProfileJob:
        job = self.source.next_job()
        assert job is not None
        return job

    def answer(self, job: ProfileJob) -> None:
        """What a worker does."""
        files = ProfileFiles(self.folder, job.exits, self.settings)
        files.begin("sha256:0")
        assert self.settings.profile is not None
        if self.settings.profile.num_steps:
            files.weights.write_text("weights")
        TABLE.save(files.table)
        self.source.finish(job, {"record": json.dumps(asdict(TABLE))})


@pytest.mark.parametrize(
    ("profile", "exits"),
    [
        (None, []),
        ({"num_steps": 0}, ["uniform"]),
        ({"num_steps": 3}, ["uniform"]),
        ({"num_steps": 3, "start": "shared"}, ["schedules"]),
    ],
    ids=["off", "pretrained", "table", "start"],
)
def test_what_is_needed(tmp_path: Path, profile: dict[str, Any] | None, exits: list[str]) -> None:
    stage = Stage(tmp_path, profile)
    assert stage.source.num_jobs == len(exits)
    jobs = []
    while (job := stage.source.next_job()) is not None:
        jobs.append(job)
    assert [job.exits for job in jobs] == exits
    assert {(job.settings, job.run_dir) for job in jobs} <= {("settings", str(tmp_path))}
    for job in jobs:
        stage.answer(job)
    assert stage.source.error_table() == (TABLE if exits else None)
    assert stage.source.seconds == 1.5 * len(exits)
    assert Stage(tmp_path, profile).source.num_jobs == 0  # what is done is not done again


def test_another_profile_needs_another_table(tmp_path: Path) -> None:
    stage = Stage(tmp_path, {"num_steps": 3})
    stage.answer(stage.take())
    assert Stage(tmp_path, {"num_steps": 4}).source.num_jobs == 1
    assert Stage(tmp_path, {"num_steps": 3, "num_images": 5}).source.num_jobs == 1
    assert Stage(tmp_path, {"num_steps": 3}).source.num_jobs == 0


def test_weights_that_are_gone_are_made_again(tmp_path: Path) -> None:
    stage = Stage(tmp_path, {"num_steps": 3})
    stage.answer(stage.take())
    stage.folder.shared_weights("uniform").unlink()
    assert Stage(tmp_path, {"num_steps": 3}).source.num_jobs == 1


def test_a_failure_is_no_silent_fallback(tmp_path: Path) -> None:
    stage = Stage(tmp_path, {"num_steps": 3})
    stage.source.finish(stage.take(), {"error": "loss is nan at step 1", "stage": "fine-tune"})
    assert "warning: no error table" in stage.told.getvalue()
    with pytest.raises(NoResultError, match=r"loss is nan at step 1\. Its log is .*log\.txt"):
        stage.source.error_table()


def test_a_full_disk_is_a_storage_error(tmp_path: Path) -> None:
    stage = Stage(tmp_path, {"num_steps": 3})
    stage.source.finish(stage.take(), {"error": "OSError: full", "stage": DISK_STAGE})
    with pytest.raises(StorageError, match=r"OSError: full\. Free space"):
        stage.source.error_table()


def test_a_table_that_is_not_there_yet_is_no_table(tmp_path: Path) -> None:
    stage = Stage(tmp_path, {"num_steps": 3})
    with pytest.raises(NoResultError, match="not there yet"):
        stage.source.error_table()


def test_lost_workers_get_another_chance_and_not_for_ever(tmp_path: Path) -> None:
    stage = Stage(tmp_path, {"num_steps": 3})
    job = stage.take()
    stage.source.lose(job, "the worker died", retry=True)
    assert stage.take() == job
    stage.source.lose(job, "the worker died", retry=True)
    assert stage.source.next_job() is None
    with pytest.raises(NoResultError, match="the worker died"):
        stage.source.error_table()


def test_a_time_out_is_final(tmp_path: Path) -> None:
    stage = Stage(tmp_path, {"num_steps": 3})
    stage.source.lose(stage.take(), "no result within 3 s", retry=False)
    assert stage.source.next_job() is None
    with pytest.raises(NoResultError, match="no result within 3 s"):
        stage.source.error_table()


def test_announcement(tmp_path: Path) -> None:
    stage = Stage(tmp_path, {"num_steps": 3})
    stage.source.announce()
    assert "tuning 3 steps with random exits, and measuring" in stage.told.getvalue()
    other = Stage(tmp_path, {"num_steps": 0})
    other.source.announce()
    assert "tuning" not in other.told.getvalue()
