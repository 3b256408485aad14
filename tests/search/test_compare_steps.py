"""Rows with fewer solver steps, plain and fitted, from the command to the exported file."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from tiny_runs import Done, run_cli, write_space

import schedsearch
from schedsearch.evaluation.method_latency import MethodLatency, TimedMethod
from schedsearch.exceptions import ConfigError
from schedsearch.methods.method_file import read_method_file
from schedsearch.protocols import Backbone, Solver
from schedsearch.runs.methods.records import RivalRecord
from schedsearch.search import method_rows

SOLVER: dict[str, Any] = {"name": "dpm_solver", "num_steps": 9}
RIVALS: dict[str, Any] = {
    "steps": {"kind": "steps", "num_steps": [4]},
    "fitted": {"kind": "fitted_steps", "num_steps": [9, 4], "calibration_samples": 40},
}


def latencies_by_calls(
    methods: Mapping[str, TimedMethod], net: Backbone, solver: Solver, *_: Any, **__: Any
) -> dict[str, MethodLatency]:
    """A latency for every method: one millisecond per call of its solver, in each batch."""
    found = {}
    for name, timed in methods.items():
        timed.method.begin(timed.net, timed.solver.times, guided=False)  # they fit each other
        ms, full_ms = (float(len(s.times)) for s in (timed.solver, solver))
        found[name] = MethodLatency(
            ms=ms,
            half_width_ms=0.0,
            ratio=ms / full_ms,
            half_width=0.0,
            p95_ms=ms,
            num_batches=timed.num_batches,
            repeats=3,
            full_ms=full_ms,
        )
    return found


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compared")
    space = write_space(folder, rivals=RIVALS, solver=SOLVER, warm_start=["full"])
    only = ("--only", "steps", "--only", "fitted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(method_rows, "measure_methods", latencies_by_calls)
        done = run_cli("compare", space, *only, "--output", folder / "run")
    assert done.code == 0, done.err
    return folder


@pytest.fixture(scope="module")
def rows(compared: Path) -> dict[str, RivalRecord]:
    lines = (compared / "run" / "rivals.jsonl").read_text().splitlines()
    return {record.name: record for record in map(RivalRecord.from_json, lines)}


@pytest.fixture(scope="module")
def exported(compared: Path) -> Path:
    """The file of four fitted steps."""
    file = compared / "fitted.yaml"
    done = run_cli("export", compared / "run", "--method", "fitted-4", "-o", file)
    assert done.code == 0, done.err
    return file


def test_fitted_rows_are_measured_with_their_own_solver(
    compared: Path, rows: dict[str, RivalRecord]
) -> None:
    assert set(rows) == {"full", "steps-4", "fitted-9", "fitted-4"}
    few, plain, full = rows["fitted-4"], rows["steps-4"], rows["full"]
    assert few.kind == "fitted_steps"
    assert few.share == plain.share == pytest.approx(4 / 9)
    assert few.macs == plain.macs < full.macs
    assert few.training_samples == few.extra_parameters == few.held_bytes == 0
    assert few.calibration_samples > 1
    assert few.calibration_seconds > 0
    assert "from those of 9 steps" in few.note
    latency = json.loads((compared / "run" / "methods" / "latency.json").read_text())["rows"]
    assert latency["fitted-4"]["ratio"] == latency["steps-4"]["ratio"] == 4 / 9
    assert latency["fitted-4"]["num_batches"] == 1, "it is not dynamic"


def test_fitted_steps_are_nearer_to_the_full_run(rows: dict[str, RivalRecord]) -> None:
    full = rows["full"].fid
    assert rows["fitted-9"].fid == pytest.approx(full, abs=1e-3)
    assert abs(rows["fitted-4"].fid - full) < 0.5 * abs(rows["steps-4"].fid - full)


def test_the_file_holds_times_and_coefficients(exported: Path) -> None:
    file = read_method_file(exported)
    assert (file.kind, file.solver, file.num_steps) == ("fitted_steps", "dpm_solver", 9)
    assert file.weights is None
    assert len(file.numbers["times"]) == len(file.numbers["coefficients"]) == 4
    assert file.numbers["coefficients"][0][2] == 0.0
    assert file.measured["calibration_seconds"] > 0


def sample(folder: Path, file: Path, *argv: object) -> tuple[Done, Any]:
    out = folder / "images.npz"
    words = ("--method", file, "--raw", "--num", 6, "--out", out)
    done = run_cli("sample", folder / "space.yaml", *words, *argv)
    return done, np.load(out)["samples"] if done.code == 0 else None


def test_the_file_samples_from_the_command_and_from_python(compared: Path, exported: Path) -> None:
    done, images = sample(compared, exported, "--seed", 3)
    assert done.code == 0, done.err
    assert "method fitted-4, dpm_solver with 4 steps" in done.err
    net = schedsearch.load_backbone(compared / "space.yaml")
    method = schedsearch.load_method(exported)
    ours = schedsearch.sample(net, method, num=6, seed=3)
    np.testing.assert_allclose(ours.numpy(), images, atol=1e-5)
    flat, seed = schedsearch.ExitSchedule.flat(10), 3
    full, plain = (
        schedsearch.sample(net, flat, solver="dpm_solver", num_steps=steps, num=6, seed=seed)
        for steps in (9, 4)
    )
    assert (ours - full).norm() < 0.7 * (plain - full).norm()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"solver": {"num_steps": 8}}, "is for 9 solver steps, but the solver takes 8. Make one"),
        ({"solver": {"name": "ddim"}}, "is for the solver dpm_solver, but got ddim. Make one"),
    ],
)
def test_another_solver_is_refused(
    exported: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    solver = {**SOLVER, **changes["solver"]}
    write_space(tmp_path, solver=solver)
    done, _ = sample(tmp_path, exported)
    assert done.code == 2
    assert message in done.err
    net, method = schedsearch.load_backbone(tmp_path / "space.yaml"), schedsearch.load_method
    with pytest.raises(ConfigError, match=message):
        schedsearch.sample(
            net, method(exported), solver=solver["name"], num_steps=solver["num_steps"], num=1
        )


def _drop_step(numbers: dict[str, Any]) -> None:
    numbers["coefficients"].pop()


def _spoil(numbers: dict[str, Any]) -> None:
    numbers["coefficients"][1][0] = float("inf")


def _swap(numbers: dict[str, Any]) -> None:
    numbers["times"].reverse()


@pytest.mark.parametrize("damage", [_drop_step, _spoil, _swap])
def test_damaged_numbers_are_refused_in_one_line(
    compared: Path, exported: Path, tmp_path: Path, damage: Callable[[dict[str, Any]], None]
) -> None:
    content = yaml.safe_load(exported.read_text())
    damage(content["numbers"])
    damaged = tmp_path / "damaged.yaml"
    damaged.write_text(yaml.safe_dump(content))
    done, _ = sample(compared, damaged)
    assert done.code == 2
    assert len(done.err.strip().splitlines()) == 1
    assert "damaged.yaml" in done.err
