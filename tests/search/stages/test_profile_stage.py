"""When a run makes its shared weights and error table, and what becomes of failures."""

import io
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
from schedsearch.workers.jobs import WORKER_STAGE, Done, Failed, ProfileJob

TABLE = ErrorTable(
    depths=(2, 3),
    losses=((0.5, 0.4), (0.3, 0.2)),
    standard_errors=((0.1, 0.0), (0.1, 0.0)),
    exits="pretrained",
    num_steps=0,
    num_images=4,
    seed=0,
    seconds=1.5,
)
ON: dict[str, Any] = {"profile": {"num_images": 4}}
SHARED: dict[str, Any] = {**ON, "recipe": {"weights": "shared"}}


class Stage:
    """A stage with what it told."""

    def __init__(self, root: Path, changes: dict[str, Any]) -> None:
        self.settings = settings_of(**changes, search={"max_retries": 1})
        self.folder = RunFolder(root)
        self.files = ProfileFiles(self.folder, self.settings)
        self.told = io.StringIO()
        view = RunView(Console(file=self.told, width=200), hypervolume_of)
        self.source = ProfileStage(self.settings, "settings", self.folder, view)

    def take(self) -> ProfileJob:
        job = self.source.next_job()
        assert isinstance(job, ProfileJob)
        return job

    def answer(self) -> None:
        """What a worker does."""
        self.files.begin("sha256:0")
        if self.files.tunes:
            self.folder.shared_weights.write_text("weights")
        table = TABLE if self.settings.profile is not None else None
        if table is not None:
            table.save(self.folder.error_table)
        self.source.finish(self.take(), Done(result=table))


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        (ON, "measuring the error table"),
        (SHARED, "tuning shared weights, 2 steps, measuring the error table"),
        ({"profile": None, "recipe": {"weights": "shared"}}, "tuning shared weights, 2 steps"),
    ],
    ids=["table", "both", "weights"],
)
def test_what_is_needed_is_made_once(tmp_path: Path, changes: dict[str, Any], title: str) -> None:
    stage = Stage(tmp_path, changes)
    assert stage.source.is_due
    assert stage.source.error_table() is None
    stage.source.announce()
    assert f"{title} (1)" in stage.told.getvalue()
    stage.answer()
    assert stage.source.next_job() is None
    has_table = stage.settings.profile is not None
    assert stage.source.error_table() == (TABLE if has_table else None)
    said = "error table: 2 depths x 2 intervals, n=4, 2 s"
    assert (said in stage.told.getvalue()) == has_table
    assert not Stage(tmp_path, changes).source.is_due


def test_a_run_without_profile_needs_nothing(tmp_path: Path) -> None:
    stage = Stage(tmp_path, {})
    assert not stage.source.is_due
    assert stage.source.error_table() is None


def test_other_settings_need_another_table(tmp_path: Path) -> None:
    Stage(tmp_path, ON).answer()
    other = Stage(tmp_path, {"profile": {"num_images": 5}})
    assert other.source.is_due
    assert other.source.error_table() is None  # not that of the other settings
    assert not Stage(tmp_path, {**ON, "recipe": {"lr": 1.0}}).source.is_due


def test_trials_of_shared_weights_refuse_others(tmp_path: Path) -> None:
    stage = Stage(tmp_path, SHARED)
    stage.answer()
    stage.folder.error_table.unlink()  # a table can be measured again from the same weights
    assert stage.source.is_due
    stage.source.refuse_other_weights()
    stage.folder.shared_weights.unlink()
    with pytest.raises(StorageError, match=r"shared\.safetensors is gone.*new --output"):
        stage.source.refuse_other_weights()
    Stage(tmp_path, ON).source.refuse_other_weights()  # trials have their own weights here


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [(ON, "or set profile to null"), (SHARED, "run the same command again.")],
)
def test_a_failed_profile_ends_the_run(
    tmp_path: Path, changes: dict[str, Any], remedy: str
) -> None:
    stage = Stage(tmp_path, changes)
    failure = Failed(stage="fine-tune", reason="loss is nan at step 1")
    with pytest.raises(NoResultError, match=r"loss is nan at step 1\. Its log is .*log") as caught:
        stage.source.finish(stage.take(), failure)
    assert remedy in str(caught.value)


def test_a_dead_worker_gets_another_chance_and_not_for_ever(tmp_path: Path) -> None:
    stage = Stage(tmp_path, ON)
    died = Failed(stage=WORKER_STAGE, reason="the worker died", retry=True)
    job = stage.take()
    stage.source.finish(job, died)
    assert stage.take() == job
    with pytest.raises(NoResultError, match="the worker died"):
        stage.source.finish(job, died)
