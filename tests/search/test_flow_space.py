"""A whole run on a space of flow matching: table, adapters, plans, fitted steps, trials."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tiny_runs import records_of, run_cli, write_space

from schedsearch.methods.method_file import read_method_file
from schedsearch.runs.methods.records import RivalRecord

# The shipped weights are no velocity. That is nothing to a test of how the parts fit together.
FLOW: dict[str, Any] = {
    "diffusion": {"process": "flow", "time": "sigma1000", "times": "logit_normal", "shift": 2.0},
    "recipe": {"start": "adapters"},
    "profile": {"num_images": 8},
    "plan": {"targets": [0.7], "fit_images": 8, "table_images": 8, "weight_images": 8},
    "rivals": {"fitted": {"kind": "fitted_steps", "num_steps": [1], "calibration_samples": 8}},
    "solver": {"name": "flow_heun", "num_steps": 4},
    "warm_start": ["full", "D3-DiT@flow"],
    "evaluation": {"num_samples": 24, "auditor": "digits_mlp", "confirm_seeds": 2},
    "search": {"n_trials": 2},
}


@pytest.fixture(scope="module")
def flow_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("flow")
    done = run_cli("run", write_space(folder, **FLOW), "--output", folder / "run")
    assert done.code == 0, done.err
    assert "plan-0.7" in done.out
    return folder / "run"


def test_a_run_on_flow_matching_ends_with_results(flow_run: Path) -> None:
    records = records_of(flow_run)
    assert len({record.depths for record in records if record.complete}) == 2
    for record in records:
        assert record.evaluation is not None
        assert np.isfinite(record.evaluation.fid)
        assert record.evaluation.nfe == 4
    assert {"front.yaml", "front.csv", "front.png", "confirmation.jsonl"} <= {
        path.name for path in flow_run.iterdir()
    }
    stored = yaml.safe_load((flow_run / "space.yaml").read_text())["diffusion"]
    assert (stored["process"], stored["prediction"], stored["betas"]) == ("flow", "velocity", None)
    table = json.loads((flow_run / "latency.json").read_text())
    # Heun's calls at 1000, 500, 500 and 0.
    assert table["visits"] == [1, 0, 0, 0, 0, 2, 0, 0, 0, 1]


def test_its_schedules_say_how_they_were_measured(flow_run: Path, tmp_path: Path) -> None:
    weights = ("--weights", tmp_path / "w.safetensors")
    done = run_cli("export", flow_run, "--trial", 1, "-o", tmp_path / "one.yaml", *weights)
    assert done.code == 0, done.err
    measured = yaml.safe_load((tmp_path / "one.yaml").read_text())["measured"]
    assert measured["solver"] == "flow_heun"
    assert (measured["process"], measured["time"]) == ("flow", "sigma1000")
    assert "spacing" not in measured


def test_fitted_steps_follow_heun_and_run_by_themselves(flow_run: Path, tmp_path: Path) -> None:
    space = flow_run.parent / "space.yaml"
    done = run_cli("compare", space, "--only", "fitted", "--output", flow_run)
    assert done.code == 0, done.err
    lines = (flow_run / "rivals.jsonl").read_text().splitlines()
    (row,) = [r for r in map(RivalRecord.from_json, lines) if r.name == "fitted-1"]
    assert row.share == pytest.approx(0.25)  # one of four calls
    file = tmp_path / "fitted.yaml"
    assert run_cli("export", flow_run, "--method", "fitted-1", "-o", file).code == 0
    numbers = read_method_file(file).numbers
    assert numbers["times"] == [1000.0]
    assert numbers["output"] in ("velocity", "data")
    sampled = run_cli("sample", space, "--method", file, "--num", 2, "--out", tmp_path / "o.npz")
    assert sampled.code == 0, sampled.err
