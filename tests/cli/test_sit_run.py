"""A search on a small SiT: run, front, export, sample; intervals with edges all the way."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from tiny_runs import only_once, records_of, run_cli, write_space
from torch import nn

import schedsearch
from schedsearch.backbones.sit import SiT
from schedsearch.exceptions import ConfigError
from schedsearch.schedules.edges import shifted_edges
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.hand_made import preset_for

CONFIG: dict[str, Any] = {
    "input_size": 8,
    "patch_size": 2,
    "in_channels": 1,
    "hidden_size": 32,
    "depth": 4,
    "num_heads": 2,
    "num_classes": 10,
}
EDGES = shifted_edges(10, 3.0)
CHANGES: dict[str, Any] = {
    "diffusion": {"process": "flow", "time": "sit"},
    "space": {"min_depth": 1, "max_depth": 4, "edges": {"shift": 3.0}},
    "warm_start": ["full", "D3-DiT@flow", "D7-DiT@flow"],
    "profile": {"num_images": 16},
    "solver": {"name": "flow_heun", "num_steps": 8},
    "search": {"n_trials": 5, "sampler": "additive", "dp_seeds": 1},
}


@pytest.fixture(scope="module")
def sit_run(shared_folder: Path) -> Path:
    """A finished run; the space and the weights lie beside it."""
    with only_once(shared_folder, "sit") as (folder, is_new):
        if is_new:
            torch.manual_seed(0)
            net = SiT(**CONFIG)
            for parameter in net.parameters():
                nn.init.normal_(parameter, std=0.1)
            folder.mkdir(parents=True, exist_ok=True)
            save_file(net.state_dict(), folder / "sit.safetensors")
            backbone = {"family": "sit", "config": CONFIG, "checkpoint": "sit.safetensors"}
            space = write_space(folder, backbone=backbone, **CHANGES)
            data = yaml.safe_load(space.read_text())
            data["backbone"] = backbone
            space.write_text(yaml.safe_dump(data, sort_keys=False))
            done = run_cli("run", space, "--output", folder / "run")
            assert done.code == 0, done.err
            again = run_cli("run", space, "--output", folder / "run")
            assert again.code == 0, again.err
        return folder / "run"


def test_every_record_has_the_edges_of_the_space(sit_run: Path) -> None:
    records = records_of(sit_run)
    assert len(records) == 5
    assert {record.edges for record in records} == {EDGES}
    by_label = {record.label: record.schedule for record in records}
    assert by_label["D3-DiT@flow"] == preset_for("D3-DiT@flow", 4, edges=EDGES)
    latency = json.loads((sit_run / "latency.json").read_text())
    # Heun's times 1000, 750, 750, 500, 500, 250, 250, 0 by the edges 0, 250, 429, 562, ...
    assert latency["visits"] == [1, 2, 2, 0, 0, 2, 0, 0, 0, 1]


def test_the_front_says_them(sit_run: Path) -> None:
    rows = json.loads(run_cli("front", sit_run, "--format", "json").out)
    front = {str(record.number): list(record.depths) for record in records_of(sit_run)}
    assert rows
    for row in rows:
        assert row["edges"] == list(EDGES)
        assert row["depths"] == front[str(row["trial"])]
    table = csv.DictReader(io.StringIO(run_cli("front", sit_run, "--format", "csv").out))
    for row in table:
        assert [float(edge) for edge in row["edges"].split()] == pytest.approx(EDGES, abs=0.01)
    (line,) = re.findall("^edges: +(.*)$", run_cli("pick", sit_run, "--knee").out, re.MULTILINE)
    assert [float(edge) for edge in line.split()] == pytest.approx(EDGES, abs=1)


def test_an_exported_schedule_says_edges_and_clock_and_samples(
    sit_run: Path, tmp_path: Path
) -> None:
    space = sit_run.parent / "space.yaml"
    file = tmp_path / "schedule.yaml"
    weights = tmp_path / "ema.safetensors"
    done = run_cli("export", sit_run, "--trial", 1, "-o", file, "--weights", weights)
    assert done.code == 0, done.err
    data = yaml.safe_load(file.read_text())
    assert data["schema"] == "schedsearch.schedule/2"
    assert data["clock"] == "flow"
    assert data["edges"] == pytest.approx(EDGES)
    assert data["backbone"]["family"] == "sit"
    out = tmp_path / "images.npz"
    sampling = ("--num", 4, "--raw", "--out", out)
    assert run_cli("sample", space, "--schedule", file, *sampling).code == 0
    from_file = np.load(out)["samples"]
    net = schedsearch.load_backbone(space, weights=weights)
    schedule = schedsearch.load_schedule(file)
    assert schedule.clock == "flow"
    images = schedsearch.sample(net, schedule, solver="flow_heun", num_steps=8, num=4)
    np.testing.assert_allclose(images.numpy(), from_file, atol=1e-5)
    # The preset on the command line takes the edges of the space.
    preset = ("--schedule", "D3-DiT@flow", "--weights", weights)
    assert run_cli("sample", space, *preset, *sampling).code == 0
    moved = preset_for("D3-DiT@flow", 4, edges=EDGES)
    expected = schedsearch.sample(net, moved, solver="flow_heun", num_steps=8, num=4)
    np.testing.assert_allclose(np.load(out)["samples"], expected.numpy(), atol=1e-5)


def test_a_schedule_of_the_other_clock_is_refused(sit_run: Path, tmp_path: Path) -> None:
    net = schedsearch.load_backbone(sit_run.parent / "space.yaml")
    ddpm = ExitSchedule((4,) * 10, clock="ddpm")
    preset = preset_for("D3-DiT", 4)
    for schedule in (ddpm, preset):
        with pytest.raises(ConfigError, match="written for the clock ddpm"):
            schedsearch.sample(net, schedule, num=1)
    assert schedsearch.sample(net, ExitSchedule((4,) * 10), num=1, num_steps=2).shape[0] == 1
    file = tmp_path / "old.yaml"
    file.write_text(
        "schema: schedsearch.schedule/1\nname: old\n"
        f"backbone: {{family: sit, num_exit_blocks: 4}}\ndepths: {[4] * 10}\n"
    )
    done = run_cli(
        "sample", sit_run.parent / "space.yaml", "--schedule", file, "--out", tmp_path / "x.npz"
    )
    assert done.code == 2
    assert "the clock ddpm, but the model's process has the clock flow" in done.err


def test_check_shows_edges_and_hints(sit_run: Path, tmp_path: Path) -> None:
    space = yaml.safe_load((sit_run.parent / "space.yaml").read_text())
    space["backbone"]["checkpoint"] = str(sit_run.parent / "sit.safetensors")
    space["warm_start"] = ["full", "D3-DiT"]
    path = tmp_path / "plain.yaml"
    path.write_text(yaml.safe_dump(space, sort_keys=False))
    done = run_cli("check", path)
    assert done.code == 2
    assert "D3-DiT is for the clock ddpm, not flow; write D3-DiT@flow" in done.err
    space["warm_start"] = ["full", "D3-DiT@flow"]
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(space, sort_keys=False))
    done = run_cli("check", path)
    assert done.code == 0, done.err
    assert "edges       0 250 428.57" in done.out
    assert "looks like a SiT" not in done.out
    # The same weights as a DiT, with rows for variances that nothing trained.
    state = SiT(**CONFIG).state_dict()
    state["final_layer.linear.weight"].view(4, 2, -1)[:, 0] = 1.0
    save_file(state, tmp_path / "zero.safetensors")
    space["backbone"].update(family="dit", checkpoint="zero.safetensors")
    space["diffusion"] = {"betas": "linear"}
    space["warm_start"] = ["full", "D3-DiT"]
    space["solver"] = {"name": "ddim", "num_steps": 4}
    path.write_text(yaml.safe_dump(space, sort_keys=False))
    done = run_cli("check", path)
    assert done.code == 0, done.err
    assert "looks like a SiT" in done.out
