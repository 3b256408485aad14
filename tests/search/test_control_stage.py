"""Which control images are handed out, and what becomes of failures."""

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from driving import settings_of
from rich.console import Console

from schedsearch.evaluation.control import save_part
from schedsearch.exceptions import NoResultError, StorageError
from schedsearch.report.live import RunView
from schedsearch.search.control_stage import ControlStage
from schedsearch.search.failures import DISK_STAGE
from schedsearch.search.jobs import ControlJob
from schedsearch.search.results import hypervolume_of
from schedsearch.search.run_folder import RunFolder


class Stage:
    """A stage with what it told; its files are named by their seeds."""

    def __init__(self, root: Path, **evaluation: int) -> None:
        self.root = root
        self.settings = settings_of(
            evaluation={"num_samples": 64, "confirm_seeds": 2, "runoff_seeds": 1, **evaluation},
            search={"max_retries": 1},
        )
        bench: Any = SimpleNamespace(settings=self.settings, control_file=self.file)
        self.told = io.StringIO()
        view = RunView(Console(file=self.told, width=200), hypervolume_of)
        self.source = ControlStage(bench, "settings", RunFolder(root), view)

    def file(self, seed: int) -> Path:
        return self.root / f"{seed}"

    def jobs(self) -> list[ControlJob]:
        found = []
        while (job := self.source.next_job()) is not None:
            found.append(job)
        return found


def test_the_trials_noise_and_then_seeds_that_measure_nothing_else(tmp_path: Path) -> None:
    stage = Stage(tmp_path, control_samples=256)
    stage.source.announce()
    jobs = stage.jobs()
    assert [job.seed for job in jobs] == [0, 4, 5, 6]  # 1 to 3 confirm and run off
    assert {(job.settings, job.run_dir, job.number) for job in jobs} == {
        ("settings", str(tmp_path), -1)
    }
    assert "sampling control images at full depth (4)" in stage.told.getvalue()


def test_plain_fids_need_none(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    assert stage.settings.evaluation.control_seeds_used == ()
    assert stage.source.num_jobs == 0


def test_what_is_there_is_not_sampled_again(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    save_part(torch.rand(64, 3), stage.file(4), whole=False)
    assert [job.seed for job in Stage(tmp_path, control_samples=192).jobs()] == [0, 5]
    stage.file(4).write_text("damaged")
    assert [job.seed for job in Stage(tmp_path, control_samples=192).jobs()] == [0, 4, 5]


def test_a_lost_worker_gets_another_chance_and_no_more(tmp_path: Path) -> None:
    stage = Stage(tmp_path, control_samples=128)
    first, second = stage.jobs()
    stage.source.lose(first, "the worker died", retry=True)
    assert stage.jobs() == [first]
    with pytest.raises(NoResultError, match="cannot be sampled: the worker died"):
        stage.source.lose(first, "the worker died", retry=True)
    with pytest.raises(NoResultError, match="no result within 3 s"):
        stage.source.lose(second, "no result within 3 s", retry=False)


def test_failures_end_the_run_with_a_remedy(tmp_path: Path) -> None:
    stage = Stage(tmp_path, control_samples=128)
    first, second = stage.jobs()
    with pytest.raises(StorageError, match=r"cannot be kept: OSError: no space. Free space"):
        stage.source.finish(first, {"error": "OSError: no space.", "stage": DISK_STAGE})
    with pytest.raises(NoResultError, match=r"TrialError: nan.*evaluation.control_samples to 0"):
        stage.source.finish(second, {"error": "TrialError: nan."})
