"""The shared fine-tune in a worker: what it leaves, that it resumes, and how it fails."""

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import write_space

from schedsearch.config import dump_settings, read_settings
from schedsearch.planning.error_table import ErrorTable
from schedsearch.runs.profile_files import SEED_OFFSET, shared_recipe
from schedsearch.workers import profile as profile_worker
from schedsearch.workers.failures import DISK_STAGE
from schedsearch.workers.jobs import ProfileJob
from schedsearch.workers.profile import run_profile
from schedsearch.workers.progress import FileProgress
from trainers.ase import AseTrainer

SMALL = {
    "space": {"num_intervals": 2, "min_depth": 8, "max_depth": 10},
    "warm_start": ["full"],
    "recipe": {"batch_size": 4, "save_every": 1},
}


def job_of(tmp_path: Path, exits: str = "uniform", steps: int = 3, **changes: Any) -> ProfileJob:
    profile = {"num_steps": steps, "num_images": 4, **changes.pop("profile", {})}
    space = write_space(tmp_path / "space", **{**SMALL, "profile": profile, **changes})
    settings = dump_settings(read_settings(space, []))
    return ProfileJob(exits=exits, settings=settings, run_dir=str(tmp_path / "run"))  # type: ignore[arg-type]


def table_of(outcome: dict[str, str]) -> ErrorTable:
    assert "error" not in outcome, outcome
    return ErrorTable.from_dict(json.loads(outcome["record"]))


class Calls:
    """Counts fine-tunes and keeps what they were given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.given: list[tuple[Any, ...]] = []
        self.pretrained: list[dict[str, torch.Tensor]] = []
        finetune = AseTrainer.finetune

        def counted(trainer: AseTrainer, *args: Any) -> Any:
            self.given.append(args)
            self.pretrained.append({k: v.clone() for k, v in args[0].state_dict().items()})
            return finetune(trainer, *args)

        monkeypatch.setattr(AseTrainer, "finetune", counted)


@pytest.mark.parametrize("exits", ["uniform", "schedules"])
def test_what_it_leaves(tmp_path: Path, exits: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    table = table_of(run_profile(job_of(tmp_path, exits)))
    assert (table.exits, table.num_steps, table.num_images) == (exits, 3, 4)
    assert (table.depths, table.num_intervals) == ((8, 9, 10), 2)
    profile = tmp_path / "run" / "profile"
    assert ErrorTable.load(profile / f"{exits}.json") == table
    weights = load_file(profile / f"{exits}.safetensors")
    assert all(bool(torch.isfinite(value).all()) for value in weights.values())
    before = calls.pretrained[0]
    changed = {name for name in before if not weights[name].equal(before[name])}
    assert {"blocks.0.mlp.fc1.weight", "final_layer.linear.weight"} <= changed
    assert {path.name for path in (profile / exits).iterdir()} == {"log.txt", "made_from.json"}
    rule, recipe, seed = calls.given[0][1], calls.given[0][4], calls.given[0][6]
    assert (
        type(rule).__name__
        == {
            "uniform": "UniformExits",
            "schedules": "RandomScheduleExits",
        }[exits]
    )
    assert recipe.lambda_weighting.kind == "none"
    assert seed >= SEED_OFFSET  # the batches of no trial


def test_it_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = Calls(monkeypatch)
    first = table_of(run_profile(job_of(tmp_path)))
    assert table_of(run_profile(job_of(tmp_path))) == first
    assert len(calls.given) == 1
    # What the numbers do not depend on changes nothing, everything else does.
    table_of(run_profile(job_of(tmp_path, search={"n_trials": 3})))
    assert len(calls.given) == 1
    table_of(run_profile(job_of(tmp_path, recipe={**SMALL["recipe"], "lr": 1.0e-4})))
    assert len(calls.given) == 2


def test_no_steps_measure_the_pretrained_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(monkeypatch)
    table = table_of(run_profile(job_of(tmp_path, steps=0)))
    assert (table.exits, table.num_steps) == ("pretrained", 0)
    assert not calls.given
    assert not (tmp_path / "run" / "profile" / "uniform.safetensors").exists()
    assert table_of(run_profile(job_of(tmp_path, steps=0))) == table


def test_a_killed_fine_tune_continues_as_if_nothing_had_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = table_of(run_profile(job_of(tmp_path / "whole")))
    save = FileProgress.save

    def killed(self: FileProgress, step: int, state: Any) -> None:
        save(self, step, state)
        if step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(FileProgress, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            run_profile(job_of(tmp_path))
    work = tmp_path / "run" / "profile" / "uniform"
    assert (work / "progress.pt").exists()
    resumed = table_of(run_profile(job_of(tmp_path)))
    assert resumed.losses == whole.losses
    assert "resumed after step 2 of 3" in (work / "log.txt").read_text()
    assert not (work / "progress.pt").exists()


def test_nothing_is_continued_that_began_with_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: FileProgress, step: int, state: Any) -> None:
        save(self, step, state)
        raise KeyboardInterrupt

    save = FileProgress.save
    with monkeypatch.context() as patch:
        patch.setattr(FileProgress, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            run_profile(job_of(tmp_path))
    run_profile(job_of(tmp_path, search={"seed": 5}))
    log = (tmp_path / "run" / "profile" / "uniform" / "log.txt").read_text()
    assert "resumed" not in log
    assert log.count("step=1 ") == 1


def test_a_finished_fine_tune_is_not_repeated_for_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls(monkeypatch)
    first = table_of(run_profile(job_of(tmp_path)))
    table_file = tmp_path / "run" / "profile" / "uniform.json"
    table_file.write_text("{")  # torn
    assert table_of(run_profile(job_of(tmp_path))).losses == first.losses
    assert len(calls.given) == 1
    table_file.with_suffix(".safetensors").unlink()
    assert table_of(run_profile(job_of(tmp_path))).losses == first.losses
    assert len(calls.given) == 2


def test_a_failure_is_an_answer(tmp_path: Path) -> None:
    outcome = run_profile(job_of(tmp_path, recipe={**SMALL["recipe"], "lr": 1.0e30}))
    assert set(outcome) == {"error", "stage"}
    assert "recipe.lr" in outcome["error"]
    assert "\n" not in outcome["error"]
    assert outcome["stage"] == "fine-tune"
    work = tmp_path / "run" / "profile" / "uniform"
    assert "Traceback" in (work / "log.txt").read_text()
    assert not (tmp_path / "run" / "profile" / "uniform.json").exists()


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ErrorTable, "save", full)
    outcome = run_profile(job_of(tmp_path, steps=0))
    assert outcome["stage"] == DISK_STAGE
    assert "No space left" in outcome["error"]


@pytest.mark.parametrize(("start", "kind"), [("shared", "linear"), ("pretrained", "none")])
def test_the_shared_recipe_is_the_study_s_otherwise(tmp_path: Path, start: str, kind: str) -> None:
    """Weights to start from get lambda(t); losses to compare across the intervals do not."""
    space = write_space(tmp_path, **{**SMALL, "profile": {"num_steps": 7, "start": start}})
    settings = read_settings(space, [])
    recipe = shared_recipe(settings)
    assert (recipe.num_steps, recipe.lr) == (7, settings.recipe.lr)
    assert recipe.lambda_weighting.kind == kind
    assert settings.recipe.lambda_weighting.kind == "linear"


def test_exits_stay_inside_the_space(tmp_path: Path) -> None:
    class Bench:
        settings = read_settings(write_space(tmp_path, **SMALL), [])

    t = torch.rand(500) * 999
    for exits in ("uniform", "schedules"):
        rule = profile_worker.exit_rule(exits, Bench)  # type: ignore[arg-type]
        depths = rule(t, torch.Generator().manual_seed(0))
        assert set(depths.tolist()) == {8, 9, 10}
