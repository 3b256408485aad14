"""The fine-tune of a worker: what it hands to the study's trainer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from trial_jobs import DEPTHS, job_of

from schedsearch.exceptions import TrialError
from schedsearch.runs.folder import RunFolder
from schedsearch.schedules.exit_rules import RandomScheduleExits, ScheduleExits
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.workers.finetune import DIVERGED, finetune
from schedsearch.workers.progress import FileProgress
from schedsearch.workers.workbench import Workbench, open_workbench
from trainers.ase import AseTrainer


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    job = job_of(tmp_path)
    return open_workbench(job.settings, str(RunFolder(tmp_path / "run").reference))


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the trainer was called with; it gives its network back untrained."""
    calls: list[tuple[Any, ...]] = []

    def note(_trainer: AseTrainer, *arguments: Any) -> Any:
        calls.append(arguments)
        return arguments[0]

    monkeypatch.setattr("faulty_trainers.Faulty.finetune", note)
    return calls


def test_a_copy_is_tuned_for_the_schedule(
    bench: Workbench, given: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    progress = FileProgress(tmp_path, save_every=1)
    net: Any = finetune(bench, ExitSchedule(DEPTHS), progress, 5)
    ((copy, exits, data, process, recipe, kept, seed),) = given
    assert net is copy is not bench.pretrained
    assert isinstance(exits, ScheduleExits)
    assert exits.schedule.depths == DEPTHS
    assert (data, process, recipe) == (bench.source, bench.process, bench.settings.recipe)
    assert (kept, seed) == (progress, 5)


def test_without_a_schedule_exits_are_drawn_from_the_space(
    bench: Workbench, given: list[tuple[Any, ...]], tmp_path: Path
) -> None:
    finetune(bench, None, FileProgress(tmp_path, save_every=1), 5)
    exits = given[0][1]
    assert isinstance(exits, RandomScheduleExits)
    depths = exits(torch.rand(500) * 999, torch.Generator().manual_seed(0))
    space = bench.settings.space
    assert set(depths.tolist()) == set(range(space.min_depth, space.max_depth + 1))


@pytest.mark.parametrize("is_finite", [True, False])
def test_the_last_finite_ema_is_kept(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, is_finite: bool
) -> None:
    net = bench.fresh_backbone() if is_finite else None

    def diverges(*_: Any) -> None:
        raise TrialError("loss is nan at step 3", stage="fine-tune", network=net)

    monkeypatch.setattr("faulty_trainers.Faulty.finetune", diverges)
    with pytest.raises(TrialError, match="step 3"):
        finetune(bench, ExitSchedule(DEPTHS), FileProgress(tmp_path, save_every=1), 5)
    assert (tmp_path / DIVERGED).exists() == is_finite
    said = "the last finite EMA is kept" if is_finite else "no finite EMA is left"
    assert said in (tmp_path / "log.txt").read_text()


def test_the_log_keeps_the_traceback(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("it broke")

    monkeypatch.setattr("faulty_trainers.Faulty.finetune", broken)
    with pytest.raises(RuntimeError, match="it broke"):
        finetune(bench, ExitSchedule(DEPTHS), FileProgress(tmp_path, save_every=1), 5)
    assert "RuntimeError: it broke" in (tmp_path / "log.txt").read_text()
