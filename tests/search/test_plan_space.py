"""``schedsearch plan`` and the plans of a run, on the real digits with tiny numbers."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import Done, run_cli, write_space

from schedsearch.files.digest import sha256_of
from schedsearch.methods.method_file import read_method_file
from schedsearch.methods.plans.steps import PlanStep
from schedsearch.runs.methods.records import RivalRecord
from schedsearch.workers.plans.table import PlanTable

PLAN = {
    "targets": [0.7],
    "num_steps": [5],
    "fit_images": 16,
    "table_images": 8,
    "weight_images": 8,
}
SMALL: dict[str, Any] = {
    "plan": PLAN,
    "rivals": {"steps": {"kind": "steps", "num_steps": [4]}},
    "solver": {"name": "dpm_solver", "num_steps": 8},
    "evaluation": {"num_samples": 64, "confirm_seeds": 2, "auditor": "digits_mlp"},
}
ROWS = {"full", "steps-4", "plan-0.7", "plan-b0.5", "plan-0.7-5steps", "plan-b0.5-5steps"}


def records(run: Path, name: str) -> dict[str, RivalRecord]:
    lines = (run / name).read_text().splitlines()
    return {record.name: record for record in map(RivalRecord.from_json, lines)}


def plan(folder: Path, *more: object, **changes: Any) -> Done:
    space = write_space(folder, **{**SMALL, **changes})
    targets = ("--target-latency", 0.7, "--target-blocks", 0.5)
    return run_cli("plan", space, "--output", folder / "run", *targets, *more)


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    folder = tmp_path_factory.mktemp("planned")
    return folder / "run", plan(folder)


def test_plans_are_measured_beside_full_depth_and_fewer_steps(
    planned: tuple[Path, Done],
) -> None:
    run, done = planned
    assert done.code == 0, done.err
    plans = records(run, "plans.jsonl")
    assert set(plans) | set(records(run, "rivals.jsonl")) == ROWS
    for record in plans.values():
        assert [quality.seed for quality in record.qualities] == [0, 1, 2]
        assert all(np.isfinite(quality.fid) for quality in record.qualities)
        assert record.calibration_seconds > 0
        assert record.training_samples == 0
    for name in ROWS:
        assert name in done.out
    assert "of full depth's time; FID" in done.out
    assert (run / "methods" / "front.png").stat().st_size > 10_000


def test_a_share_of_blocks_is_kept(planned: tuple[Path, Done]) -> None:
    plans = records(planned[0], "plans.jsonl")
    for name in ("plan-b0.5", "plan-b0.5-5steps"):
        assert plans[name].share <= 0.5 + 1e-9
        blocks = [10 if s == "F" else PlanStep.parse(s).blocks for s in plans[name].steps]
        assert sum(blocks) / 80 == pytest.approx(plans[name].share)
    assert len(plans["plan-b0.5"].steps) == 8
    assert len(plans["plan-b0.5-5steps"].steps) == 5


def test_the_calibration_is_kept_and_used_again(
    planned: tuple[Path, Done], tmp_path: Path
) -> None:
    shutil.copytree(planned[0], tmp_path / "run")
    path = tmp_path / "run" / "methods" / "plans" / "8-steps" / "table.json"
    before = path.stat().st_mtime_ns
    again = plan(tmp_path, "--target-latency", 0.6, "--format", "json")
    assert again.code == 0, again.err
    assert path.stat().st_mtime_ns == before
    names = {row["name"] for row in json.loads(again.out)}
    assert names == ROWS | {"plan-0.6", "plan-0.6-5steps"}


@pytest.mark.parametrize(
    "gone", [["table.json"], ["table.json", "maps.safetensors", "costs.json", "map_errors.json"]]
)
def test_an_interrupted_calibration_continues(
    planned: tuple[Path, Done], tmp_path: Path, gone: list[str]
) -> None:
    run = Path(shutil.copytree(planned[0], tmp_path / "run"))
    folder = run / "methods" / "plans" / "8-steps"
    before = PlanTable.read(folder)
    assert before is not None
    for name in gone:
        (folder / name).unlink()
    fits = (folder / "fits.safetensors").stat().st_mtime_ns
    (run / "plans.jsonl").unlink()
    assert plan(tmp_path).code == 0
    assert (folder / "fits.safetensors").stat().st_mtime_ns == fits
    after = PlanTable.read(folder)
    assert after is not None
    assert after.weights == before.weights
    assert after.exits == before.exits
    if gone == ["table.json"]:
        assert after.reuse == before.reuse
        assert records(run, "plans.jsonl")["plan-0.7"].steps


def test_an_exported_plan_samples_what_was_measured(
    planned: tuple[Path, Done], tmp_path: Path
) -> None:
    run = planned[0]
    file, weights = tmp_path / "plan.yaml", tmp_path / "plan.safetensors"
    done = run_cli("export", run, "--method", "plan-b0.5", "-o", file, "--weights", weights)
    assert done.code == 0, done.err
    content = read_method_file(file)
    assert content.kind == "plan"
    assert content.num_steps == 8
    assert content.weights_sha256 == sha256_of(weights)
    assert len(content.numbers["times"]) == 8
    out = tmp_path / "images.npz"
    space = run.parent / "space.yaml"
    done = run_cli("sample", space, "--method", file, "--num", 4, "--out", out)
    assert done.code == 0, done.err
    assert np.load(out)["images"].shape == (4, 8, 8, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"solver": {"name": "ddim"}}, "for the solver dpm_solver, but got ddim"),
        ({"solver": {"spacing": "leading"}}, "other times"),
        ({"solver": {"num_steps": 4}}, "for 8 solver steps, but solver.num_steps is 4"),
        ({"backbone": {"checkpoint": "other.safetensors"}}, "other weights"),
    ],
)
def test_a_plan_for_another_setting_is_refused(
    planned: tuple[Path, Done], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    run = planned[0]
    solver = {"solver": {**SMALL["solver"], **changes.get("solver", {})}}
    if "backbone" in changes:
        _other_weights(tmp_path / "other.safetensors")
    space = write_space(tmp_path, **{**SMALL, **changes, **solver})
    file = run / "methods" / "plan-b0.5" / "method.yaml"
    out = tmp_path / "images.npz"
    done = run_cli("sample", space, "--method", file, "--num", 2, "--out", out)
    assert done.code == 2, done.out
    assert message in done.err
    assert len(done.err.strip().splitlines()) == 1


def test_a_plan_with_fewer_steps_than_its_space_samples_there_alone(
    planned: tuple[Path, Done], tmp_path: Path
) -> None:
    """It may take 5 steps for a full run of 8, or where the space has 5."""
    file = planned[0] / "methods" / "plan-b0.5-5steps" / "method.yaml"
    for num_steps, code in ((8, 0), (5, 0), (6, 2)):
        changes = {**SMALL, "solver": {**SMALL["solver"], "num_steps": num_steps}}
        space, out = write_space(tmp_path, **changes), tmp_path / "images.npz"
        done = run_cli("sample", space, "--method", file, "--num", 2, "--out", out)
        assert done.code == code, done.err


def _other_weights(path: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    import schedsearch

    package = Path(schedsearch.__file__).parent / "pretrained"
    state = load_file(package / "digits_dit.safetensors")
    state["pos_embed"] = state["pos_embed"] + torch.ones(1) if "pos_embed" in state else None
    save_file({name: tensor for name, tensor in state.items() if tensor is not None}, path)


@pytest.mark.parametrize("damage", ["flip", "gone", "short"])
def test_damaged_numbers_are_refused(
    planned: tuple[Path, Done], tmp_path: Path, damage: str
) -> None:
    folder = Path(
        shutil.copytree(planned[0] / "methods" / "plan-b0.5-5steps", tmp_path / "method")
    )
    weights = folder / "plan.safetensors"
    content = bytearray(weights.read_bytes())
    if damage == "gone":
        weights.unlink()
    elif damage == "short":
        weights.write_bytes(content[:-8])
    else:
        content[-3] ^= 1
        weights.write_bytes(content)
    space = planned[0].parent / "space.yaml"
    out = tmp_path / "images.npz"
    done = run_cli("sample", space, "--method", folder / "method.yaml", "--num", 2, "--out", out)
    assert done.code == 2, done.out
    assert "plan.safetensors" in done.err
    assert not out.exists()


def test_a_run_measures_plans_before_it_trains(tmp_path: Path) -> None:
    space = write_space(
        tmp_path, **{**SMALL, "plan": {**PLAN, "num_steps": []}, "search": {"n_trials": 2}},
        warm_start=["full", "D3-DiT"],
    )  # fmt: skip
    run = tmp_path / "run"
    done = run_cli("run", space, "--output", run)
    assert done.code == 0, done.err
    assert set(records(run, "plans.jsonl")) == {"plan-0.7"}
    calibrated = done.err.index("The calibration of plans for 8 steps is ready")
    assert calibrated < done.err.index("fine-tuning and measuring")
    assert "plan-0.7" in done.out
    front = json.loads(run_cli("front", run, "--methods", "all", "--format", "json").out)
    others = [entry for entry in front if entry["name"] != "full"]  # none on a busy machine
    assert (f"Of {len(others)} points on the front of all methods" in done.out) == bool(others)
    assert len((run / "results.jsonl").read_text().splitlines()) == 2
    shown = run_cli("compare", run, "--format", "json")
    assert {"plan-0.7", "steps-4", "D3-DiT"} <= {row["name"] for row in json.loads(shown.out)}
    # A second start has nothing left to do.
    again = run_cli("run", space, "--output", run)
    assert again.code == 0
    assert "calibrating" not in again.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--target-latency", "1.5"), "above 0 and below 1"),
        (("-o", "plan.num_steps=[8]"), "below the solver's 8"),
        (("-o", "plan.max_age=0"), "plan.max_age"),
    ],
)
def test_impossible_plans_are_refused(
    tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    space = write_space(tmp_path, **SMALL)
    done = run_cli("plan", space, "--output", tmp_path / "run", *words)
    assert done.code == 2
    assert message in done.err
    assert not (tmp_path / "run").exists()


def test_fewer_steps_of_any_entry_stand_beside_plans(tmp_path: Path) -> None:
    rivals = {"fewer": SMALL["rivals"]["steps"], "flat": {"kind": "schedule", "schedules": ["5"]}}
    done = plan(tmp_path, "--dry-run", rivals=rivals)
    assert done.code == 0, done.err
    assert "fewer-4" in done.out
    assert "flat" not in done.out


def test_a_run_killed_before_the_latencies_of_plans_measures_them(tmp_path: Path) -> None:
    space = write_space(
        tmp_path,
        **{**SMALL, "plan": {**PLAN, "num_steps": []}, "search": {"n_trials": 1}},
        warm_start=["full"],
    )
    run = tmp_path / "run"
    assert run_cli("run", space, "--output", run).code == 0
    before = (run / "plans.jsonl").read_bytes()
    (run / "methods" / "latency.json").unlink()
    assert run_cli("run", space, "--output", run).code == 0
    assert "plan-0.7" in json.loads((run / "methods" / "latency.json").read_text())["rows"]
    assert (run / "plans.jsonl").read_bytes() == before
