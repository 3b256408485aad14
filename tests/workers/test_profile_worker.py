"""Shared weights and the error table: what a worker leaves, and how it goes on."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import write_space

from schedsearch.config import dump_settings, read_settings
from schedsearch.planning.error_table import ErrorTable
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.profile_files import SEED_OFFSET
from schedsearch.schedules.exit_rules import RandomScheduleExits
from schedsearch.workers.jobs import DISK_STAGE, Failed, ProfileJob
from schedsearch.workers.profile import run_profile
from schedsearch.workers.progress import FileProgress
from schedsearch.workers.run_job import run_job

RECIPE = {"batch_size": 4, "save_every": 1, "num_steps": 3, "weights": "shared"}
SMALL = {
    "space": {"num_intervals": 2, "min_depth": 8, "max_depth": 10},
    "warm_start": ["full"],
    "recipe": RECIPE,
    "profile": {"num_images": 4},
}


def job_of(tmp_path: Path, **changes: Any) -> ProfileJob:
    recipe = {**RECIPE, **changes.pop("recipe", {})}
    space = write_space(tmp_path / "space", **{**SMALL, **changes, "recipe": recipe})
    settings = dump_settings(read_settings(space, []))
    return ProfileJob(settings=settings, run_dir=str(tmp_path / "run"))


def table_of(job: ProfileJob) -> ErrorTable:
    table = run_profile(job)
    assert table is not None
    return table


def folder_of(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def stop_after(monkeypatch: pytest.MonkeyPatch, last: int) -> None:
    """Stop a fine-tune as Ctrl-C does, once the state of a step was saved."""
    save = FileProgress.save

    def stopped(self: FileProgress, step: int, state: Any) -> None:
        save(self, step, state)
        if step == last:
            raise KeyboardInterrupt

    monkeypatch.setattr(FileProgress, "save", stopped)


def test_shared_weights_are_tuned_on_random_schedules(
    tmp_path: Path, given: list[tuple[Any, ...]]
) -> None:
    table = table_of(job_of(tmp_path))
    assert (table.exits, table.num_steps, table.num_images) == ("schedules", 3, 4)
    assert (table.depths, table.num_intervals) == ((8, 9, 10), 2)
    folder = folder_of(tmp_path)
    assert ErrorTable.load(folder.error_table) == table
    ((before, _, exits, _, _, recipe, _, seed),) = given
    weights = load_file(folder.shared_weights)
    assert all(bool(torch.isfinite(value).all()) for value in weights.values())
    changed = {name for name in before if not weights[name].equal(before[name])}
    assert {"blocks.0.mlp.fc1.weight", "final_layer.linear.weight"} <= changed
    names = {"log.txt", "made_from.json", "error_table.json", "shared.safetensors"}
    assert {path.name for path in folder.profile.iterdir()} == names
    assert isinstance(exits, RandomScheduleExits)
    assert recipe.num_steps == 3
    assert seed == SEED_OFFSET  # the batches of no trial


def test_trials_with_weights_of_their_own_need_the_table_alone(
    tmp_path: Path, given: list[tuple[Any, ...]]
) -> None:
    table = table_of(job_of(tmp_path, recipe={"weights": "own"}))
    assert (table.exits, table.num_steps) == ("pretrained", 0)
    assert not given
    assert not folder_of(tmp_path).shared_weights.exists()


def test_weights_are_tuned_without_a_table_where_none_is_asked_for(tmp_path: Path) -> None:
    assert run_profile(job_of(tmp_path, profile=None)) is None
    folder = folder_of(tmp_path)
    assert folder.shared_weights.is_file()
    assert not folder.error_table.exists()


def test_it_is_done_once_for_equal_settings(tmp_path: Path, given: list[tuple[Any, ...]]) -> None:
    first = table_of(job_of(tmp_path))
    assert table_of(job_of(tmp_path)) == first
    # What the numbers do not depend on changes nothing, everything else does.
    table_of(job_of(tmp_path, search={"n_trials": 3}))
    assert len(given) == 1
    table_of(job_of(tmp_path, recipe={"lr": 1.0e-4}))
    assert len(given) == 2


def test_tuning_goes_on_from_its_saved_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = table_of(job_of(tmp_path / "whole"))
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            run_profile(job_of(tmp_path))
    profile = folder_of(tmp_path).profile
    assert (profile / "progress.pt").exists()
    assert table_of(job_of(tmp_path)).losses == whole.losses
    assert "resumed after step 2 of 3" in (profile / "log.txt").read_text()
    assert not (profile / "progress.pt").exists()


def test_nothing_is_continued_that_began_with_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            run_profile(job_of(tmp_path))
    run_profile(job_of(tmp_path, search={"seed": 5}))
    log = (folder_of(tmp_path).profile / "log.txt").read_text()
    assert "resumed" not in log
    assert log.count("step=1 ") == 1


def test_finished_weights_are_not_tuned_again_for_their_table(
    tmp_path: Path, given: list[tuple[Any, ...]]
) -> None:
    first, folder = table_of(job_of(tmp_path)), folder_of(tmp_path)
    folder.error_table.write_text("{")  # torn
    assert table_of(job_of(tmp_path)).losses == first.losses
    assert len(given) == 1
    folder.shared_weights.unlink()
    assert table_of(job_of(tmp_path)).losses == first.losses
    assert len(given) == 2


def test_a_failure_is_an_outcome(tmp_path: Path) -> None:
    outcome = run_job(job_of(tmp_path, recipe={"lr": 1.0e30}))
    assert isinstance(outcome, Failed)
    assert outcome.stage == "fine-tune"
    assert "recipe.lr" in outcome.reason
    assert "\n" not in outcome.reason
    folder = folder_of(tmp_path)
    assert "Traceback" in (folder.profile / "log.txt").read_text()
    assert not folder.error_table.exists()


def test_a_full_disk_is_named(tmp_path: Path, fill_disk: Any) -> None:
    job = job_of(tmp_path, recipe={"weights": "own"})
    table_of(job)
    folder_of(tmp_path).error_table.unlink()
    fill_disk()
    outcome = run_job(job)
    assert isinstance(outcome, Failed)
    assert outcome.stage == DISK_STAGE
    assert "No space left" in outcome.reason
