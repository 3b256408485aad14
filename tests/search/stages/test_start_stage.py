"""When a run checks the start of its fine-tunes, and what becomes of the outcome."""

import io
from dataclasses import dataclass
from pathlib import Path

import pytest
from made_up_starts import adapters_settings, leave
from rich.console import Console

from schedsearch.config import dump_settings
from schedsearch.exceptions import NoResultError, StorageError
from schedsearch.report.live import RunView
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.results import hypervolume_of
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.search.preflight import Preflight
from schedsearch.search.stages.latency import open_table
from schedsearch.search.stages.start import StartStage, checked_schedule, with_decided_start
from schedsearch.search.study.warm_starts import WarmStart, read_warm_starts
from schedsearch.settings import SpaceSettings, StudySettings
from schedsearch.workers.jobs import WORKER_STAGE, Done, Failed, StartJob
from schedsearch.workers.workbench import open_workbench

VISITS = [0, 0, 0, 1, 0, 0, 1, 0, 0, 1]


def preflight(settings: StudySettings, folder: RunFolder) -> Preflight:
    bench = open_workbench(dump_settings(settings), str(folder.reference))
    table, latency, _ = open_table(bench, folder)
    warm_starts = read_warm_starts(settings, 10)
    return Preflight(bench=bench, warm_starts=warm_starts, table=table, latency=latency)


@dataclass
class Stage:
    """A stage with what it told."""

    root: Path
    settings: StudySettings

    def __post_init__(self) -> None:
        self.folder, self.told = RunFolder(self.root), io.StringIO()
        self.folder.create()
        view = RunView(Console(file=self.told, width=300), hypervolume_of)
        self.ready = preflight(self.settings, self.folder)
        self.source = StartStage(self.ready, self.folder, view)


def test_both_starts_are_judged_once(tmp_path: Path) -> None:
    settings = adapters_settings(warm_start=["full", "D2-DiT", "D4-DiT"])
    stage = Stage(tmp_path, settings)
    assert stage.source.is_due
    stage.source.announce()
    assert "fitting exit adapters, and checking them on D4-DiT (2)" in stage.told.getvalue()
    jobs = [stage.source.next_job(), stage.source.next_job()]
    assert [job.start for job in jobs if isinstance(job, StartJob)] == ["adapters", "plain"]
    for job in jobs:
        assert isinstance(job, StartJob)
        assert (job.label, job.schedule.depths[-1]) == ("D4-DiT", 3)
        stage.source.finish(job, Done(result=None))
    assert stage.source.next_job() is None
    leave(tmp_path, settings, 1.0, 0.5)
    assert not stage.source.is_due
    stage.source.report()
    assert "Fine-tunes start from exit adapters: D4-DiT gets FID 1.0" in stage.told.getvalue()


def test_a_plain_run_needs_nothing(tmp_path: Path) -> None:
    stage = Stage(tmp_path, adapters_settings(recipe={"start": "plain"}))
    assert not stage.source.is_due
    assert stage.source.next_job() is None
    stage.source.report()
    assert stage.told.getvalue() == ""
    assert with_decided_start(stage.ready, stage.folder) is stage.ready


@pytest.mark.parametrize(("fid", "keeps"), [(1.0, True), (3.0, False)])
def test_latencies_count_adapters_where_they_are_used(
    tmp_path: Path, fid: float, keeps: bool
) -> None:
    settings = adapters_settings()
    stage = Stage(tmp_path, settings)
    assert stage.ready.latency.adapters  # as long as nothing is decided
    leave(tmp_path, settings, fid, 0.5)
    ready = with_decided_start(stage.ready, stage.folder)
    assert ready.latency.adapters is keeps
    assert (ready.table == stage.ready.table) is keeps  # measured again without
    assert with_decided_start(ready, stage.folder).table == ready.table


def test_trials_refuse_another_check(tmp_path: Path) -> None:
    settings = adapters_settings()
    stage = Stage(tmp_path, settings)
    with pytest.raises(StorageError, match=r"started by one check.*Restore it, or name a new"):
        stage.source.refuse_to_decide_again()
    leave(tmp_path, settings, 1.0, 0.5)
    stage.folder.adapters.unlink()  # they are fitted again
    assert stage.source.is_due
    stage.source.refuse_to_decide_again()


def test_a_failed_check_ends_the_run(tmp_path: Path) -> None:
    stage = Stage(tmp_path, adapters_settings(search={"max_retries": 1}))
    died = Failed(stage=WORKER_STAGE, reason="the worker died", retry=True)
    job = stage.source.next_job()
    assert isinstance(job, StartJob)
    stage.source.finish(job, died)
    with pytest.raises(NoResultError, match=r"adapters failed: the worker died\. Its log is .*or"):
        stage.source.finish(job, died)


@pytest.mark.parametrize(
    ("depths", "max_depth", "expected"),
    [
        ({"full": [10], "one": [9], "two": [8], "three": [9]}, 10, ("two", 8)),
        ({"full": [10]}, 10, ("flat-7", 7)),
        ({"also full": [10]}, 10, ("flat-7", 7)),
        ({}, 6, ("flat-6", 6)),
    ],
)
def test_the_schedule_that_is_checked(
    depths: dict[str, list[int]], max_depth: int, expected: tuple[str, int]
) -> None:
    warm = [WarmStart(label, ExitSchedule(tuple(d * 10))) for label, d in depths.items()]
    space = SpaceSettings(num_intervals=10, min_depth=2, max_depth=max_depth)
    label, schedule = checked_schedule(warm, space, VISITS, num_exit_blocks=10)
    assert (label, schedule.depths) == (expected[0], (expected[1],) * 10)
