"""A whole comparison on the real digits: its rows, its files, and how it resumes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from tiny_runs import Done, run_cli, write_space

from schedsearch.methods.method_file import read_method_file
from schedsearch.runs.methods.records import RivalRecord

LAYERWISE = "trainers.layerwise:LayerwiseTrainer"
RIVALS: dict[str, Any] = {
    "steps": {"kind": "steps", "num_steps": [2]},
    "flat": {"kind": "schedule", "schedules": ["flat-7"]},
    "adapted": {
        "kind": "schedule",
        "schedules": ["D7-DiT"],
        "recipe": {"start": "adapters", "num_steps": 0},
    },
    "deediff": {
        "kind": "uncertainty",
        "trainer": "trainers.deediff:DeeDiffTrainer",
        "targets": [0.7],
    },
    "calm": {"kind": "similarity", "trainer": LAYERWISE, "thresholds": [0.99]},
    "every1": {"kind": "block_cache", "every": [1]},
    "fora": {"kind": "block_cache", "every": [2]},
    "caching": {"kind": "block_cache", "thresholds": [0.3], "scale_shift": "closed_form"},
    "l2c": {"kind": "router", "penalties": [1e-3], "iterations": 2, "calibration_samples": 8},
    "teacache": {"kind": "residual_cache", "signal": "input", "first": 0, "targets": [0.7]},
    "tome": {"kind": "tome", "ratios": [0.4]},
    "pruned": {"kind": "pruned", "depth": [8], "calibration_samples": 8},
    "stitch": {"kind": "stitch", "small": "pruned-8", "shares": [0.4]},
}
ROWS = [
    "full", "D3-DiT", "steps-2", "flat-7", "adapted-D7-DiT", "deediff-0.7",
    "deediff-0.7-twin", "calm-t0.99", "calm-t0.99-twin", "every1-1", "fora-2", "caching-t0.3",
    "l2c-0.001", "teacache-0.7", "tome-0.4",
    "pruned-8", "stitch-0.4",
]  # fmt: skip
SMALL = {
    "warm_start": ["full", "D3-DiT"],
    "solver": {"name": "dpm_solver", "num_steps": 7},
    "evaluation": {
        "num_samples": 64,
        "confirm_seeds": 2,
        "latency_repeats": 3,
        "latency_batches": 2,
        "auditor": "digits_mlp",
    },
    "recipe": {"num_steps": 1, "batch_size": 16},
}


def rows_of(run: Path) -> dict[str, RivalRecord]:
    lines = (run / "rivals.jsonl").read_text().splitlines()
    return {record.name: record for record in map(RivalRecord.from_json, lines)}


def compare(folder: Path, *more: object, **changes: Any) -> Done:
    space = write_space(folder, **{"rivals": RIVALS, **SMALL, **changes})
    return run_cli("compare", space, "--output", folder / "run", *more)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Done]:
    folder = tmp_path_factory.mktemp("compared")
    return folder / "run", compare(folder)


def test_every_row_is_measured(compared: tuple[Path, Done]) -> None:
    run, done = compared
    assert done.code == 0, done.err
    rows = rows_of(run)
    assert sorted(rows) == sorted(ROWS)
    for name, record in rows.items():
        assert [quality.seed for quality in record.qualities] == [0, 1, 2]
        assert all(np.isfinite(quality.fid) for quality in record.qualities), name
        assert record.qualities[0].audit_fid is not None
        assert all(quality.near_copies is not None for quality in record.qualities), name
        assert record.reference_std == pytest.approx(0.752, abs=0.001)
        assert record.macs > 0
    for name in ROWS:
        assert name in done.out
    assert (run / "methods" / "front.png").stat().st_size > 10_000


def test_a_cache_that_never_reuses_is_full_depth(compared: tuple[Path, Done]) -> None:
    rows = rows_of(compared[0])
    assert rows["every1-1"].qualities == rows["full"].qualities
    assert rows["every1-1"].share == rows["full"].share == 1.0
    assert rows["every1-1"].macs == rows["full"].macs == rows["full"].full_macs


def test_the_account_of_a_row_says_what_it_costs(compared: tuple[Path, Done]) -> None:
    rows = rows_of(compared[0])
    assert rows["steps-2"].share == pytest.approx(2 / 7)
    assert rows["flat-7"].share == pytest.approx(0.7)
    assert rows["fora-2"].share == pytest.approx(4 / 7)
    assert rows["fora-2"].held_bytes == 2 * 10 * 16 * 64 * 4
    assert rows["l2c-0.001"].share == pytest.approx(1.0)  # two steps of training change little
    assert rows["pruned-8"].share == pytest.approx(0.8)
    assert rows["pruned-8"].extra_parameters < 0 < rows["stitch-0.4"].extra_parameters
    assert rows["stitch-0.4"].share == pytest.approx((3 * 8 + 4 * 10) / 70)
    assert rows["deediff-0.7"].extra_parameters == 10 * (2 * 64 + 1) * 4
    assert rows["flat-7"].training_samples == 16
    assert rows["deediff-0.7"].calibration_samples >= 48
    assert rows["tome-0.4"].training_samples == rows["tome-0.4"].calibration_samples == 0


def test_a_schedule_may_start_from_exit_adapters(compared: tuple[Path, Done]) -> None:
    run, _ = compared
    row = rows_of(run)["adapted-D7-DiT"]
    file = read_method_file(run / "methods" / "adapted-D7-DiT" / "method.yaml")
    exits = sorted(set(file.numbers["depths"]) - {10})
    assert file.network == {"adapters": {"exits": exits}}
    assert row.extra_parameters == len(exits) * (64 + 1) * 64
    assert row.training_samples == 0
    # Untuned, D7's first row has four times this FID.
    assert row.qualities[0].fid < 2 * rows_of(run)["full"].qualities[0].fid


def test_a_dynamic_method_has_its_static_twin(compared: tuple[Path, Done]) -> None:
    run = compared[0]
    rows = rows_of(run)
    twin = read_method_file(run / "methods" / "deediff-0.7-twin" / "method.yaml")
    assert twin.kind == "schedule"
    dynamic = rows["deediff-0.7"]
    assert dynamic.time_share is not None
    assert dynamic.macs / dynamic.full_macs == pytest.approx(dynamic.share, abs=0.03)
    assert rows["deediff-0.7-twin"].share == pytest.approx(rows["deediff-0.7"].share, abs=0.06)


def test_a_row_names_the_batch_that_decides_together(compared: tuple[Path, Done]) -> None:
    rows = rows_of(compared[0])
    by_batch = {name for name, row in rows.items() if row.decision_batch is not None}
    assert by_batch == {"teacache-0.7"}
    assert rows["teacache-0.7"].decision_batch == 250
    assert "Batches of 250 decide together in teacache-0.7." in compared[1].out


def test_the_study_has_an_attribute_and_no_trial(compared: tuple[Path, Done]) -> None:
    run = compared[0]
    url = f"sqlite:///{run / 'study.db'}"
    (summary,) = optuna.get_all_study_summaries(url)
    study = optuna.load_study(study_name=summary.study_name, storage=url)
    assert study.trials == []
    assert {row["name"] for row in study.user_attrs["rivals"]} == set(ROWS)


def test_a_second_start_measures_nothing(compared: tuple[Path, Done]) -> None:
    run, _ = compared
    before = (run / "rivals.jsonl").read_bytes(), (run / "methods" / "latency.json").read_bytes()
    done = run_cli("compare", run.parent / "space.yaml", "--output", run)
    assert done.code == 0
    after = (run / "rivals.jsonl").read_bytes(), (run / "methods" / "latency.json").read_bytes()
    assert after == before


def test_commands_read_what_was_compared(compared: tuple[Path, Done], tmp_path: Path) -> None:
    run = compared[0]
    front = json.loads(run_cli("front", run, "--methods", "all", "--format", "json").out)
    assert "full" in {row["name"] for row in front}
    assert [row["latency_ms"] for row in front] == sorted(row["latency_ms"] for row in front)
    assert all(row["trial"] is None and 0 < row["share"] <= 1 for row in front)
    rows = json.loads(run_cli("compare", run, "--format", "json").out)
    assert {row["name"] for row in rows} == set(ROWS)
    assert "method:" in run_cli("pick", run, "--methods", "all", "--knee").out
    assert run_cli("compare", run, "--format", "markdown").out.startswith("| method |")
    for name in ("deediff-0.7", "caching-t0.3", "stitch-0.4", "steps-2"):
        file = tmp_path / f"{name}.yaml"
        weights = tmp_path / f"{name}.safetensors"
        done = run_cli("export", run, "--method", name, "-o", file, "--weights", weights)
        assert done.code == 0, done.err
        out = tmp_path / "x.npz"
        done = run_cli("sample", run.parent / "space.yaml", "--method", file, "--out", out)
        assert done.code == 0, done.err
        assert np.load(out)["images"].shape == (16, 8, 8, 1)


def test_what_cannot_be_exported_or_sampled(compared: tuple[Path, Done], tmp_path: Path) -> None:
    run, file = compared[0], tmp_path / "m.yaml"
    done = run_cli("export", run, "--method", "deediff-0.7", "-o", file)
    assert done.code == 2
    assert "does not work without its weights; add --weights" in done.err
    assert run_cli("export", run, "--method", "no", "-o", file).code == 4
    weights = tmp_path / "m.safetensors"
    run_cli("export", run, "--method", "caching-t0.3", "-o", file, "--weights", weights)
    space = write_space(tmp_path / "other", solver={"name": "dpm_solver", "num_steps": 5})
    done = run_cli("sample", space, "--method", file, "--out", tmp_path / "x.npz")
    assert done.code == 2
    assert "the method is for 7 solver steps, but the solver takes 5" in done.err


def test_a_failed_row_is_recorded_and_tried_again(tmp_path: Path) -> None:
    rivals = {
        "deediff": {**RIVALS["deediff"], "extra": {"betta": 1}},
        "steps": RIVALS["steps"],
        "flat": RIVALS["flat"],
    }
    done = compare(tmp_path, rivals=rivals)
    assert done.code == 3
    failed = rows_of(tmp_path / "run")["deediff-0.7"]
    assert failed.failed is not None
    assert not failed.qualities
    assert "betta" in done.err
    assert "failed" in done.out
    done = compare(tmp_path, rivals={**rivals, "deediff": RIVALS["deediff"]})
    assert done.code == 0
    assert rows_of(tmp_path / "run")["deediff-0.7"].failed is None


def test_a_network_of_other_settings_is_not_used(tmp_path: Path) -> None:
    """A changed entry whose training fails must not be measured on the old network."""
    few = {"deediff": RIVALS["deediff"], "steps": RIVALS["steps"], "flat": RIVALS["flat"]}
    assert compare(tmp_path, "--only", "deediff", rivals=few).code == 0
    network = tmp_path / "run" / "methods" / "networks" / "deediff" / "seed-0"
    trained = (network / "weights.safetensors").stat().st_mtime_ns
    more = {**few, "deediff": {**RIVALS["deediff"], "targets": [0.7, 0.9]}}
    assert compare(tmp_path, "--only", "deediff", rivals=more).code == 0
    assert (network / "weights.safetensors").stat().st_mtime_ns == trained
    broken = {**few, "deediff": {**RIVALS["deediff"], "extra": {"betta": 1}}}
    assert compare(tmp_path, "--only", "deediff", rivals=broken).code == 3
    assert rows_of(tmp_path / "run")["deediff-0.7"].failed is not None


def test_only_some_rows(tmp_path: Path) -> None:
    done = compare(tmp_path, "--only", "steps", "--only", "fora-2")
    assert done.code == 0, done.err
    assert sorted(rows_of(tmp_path / "run")) == ["fora-2", "full", "steps-2"]
    done = compare(tmp_path, "--only", "stepz")
    assert done.code == 2
    assert "did you mean 'steps'?" in done.err


def test_runs_of_unequal_protocols_are_refused(tmp_path: Path) -> None:
    for index, steps in enumerate((7, 5)):
        solver = {"name": "dpm_solver", "num_steps": steps}
        assert compare(tmp_path / str(index), "--only", "steps", solver=solver).code == 0
    done = run_cli("compare", tmp_path / "0" / "run", tmp_path / "1" / "run")
    assert done.code == 2
    assert "differ in their quality protocol" in done.err


def test_a_dry_run_prints_rows_and_time_and_writes_nothing(tmp_path: Path) -> None:
    done = compare(tmp_path, "--dry-run")
    assert done.code == 0, done.err
    assert "deediff-0.7" in done.out
    assert "with its static twin" in done.out
    assert "time, roughly:" in done.out
    assert not (tmp_path / "run").exists()
