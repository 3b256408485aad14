"""From a run to a file to images: what the user takes away."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import run_cli

import schedsearch
from schedsearch.schedules.schedule_file import read_schedule_file


def best_of(run: Path) -> int:
    rows = json.loads(run_cli("front", run, "--format", "json").out)
    return int(rows[-1]["trial"])


def test_export_and_sample_agree_with_python(complete_run: Path, tmp_path: Path) -> None:
    """The round trip of a schedule: command line and Python give the same images."""
    trial = best_of(complete_run)
    schedule, weights = tmp_path / "s.yaml", tmp_path / "w.safetensors"
    done = run_cli("export", complete_run, "--trial", trial, "-o", schedule, "--weights", weights)
    assert done.code == 0, done.err
    assert f"trial {trial} [" in done.out
    kept = load_file(complete_run / "trials" / f"{trial:04d}" / "ema.safetensors")
    copied = load_file(weights)
    assert kept.keys() == copied.keys()
    assert all(kept[name].equal(copied[name]) for name in kept)

    noise = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    labels = torch.tensor([9, 8, 7, 6, 5])
    np.save(tmp_path / "noise.npy", noise.numpy())
    np.save(tmp_path / "labels.npy", labels.numpy())
    start = ("--noise", tmp_path / "noise.npy", "--labels", tmp_path / "labels.npy")
    space = complete_run.parent / "space.yaml"
    moved = tmp_path / "moved"
    moved.mkdir()
    shutil.move(schedule, moved)
    shutil.move(weights, moved)  # found beside the schedule, wherever they go
    argv = ("sample", space, "--schedule", moved / "s.yaml", *start)
    done = run_cli(*argv, "--raw", "--out", tmp_path / "raw.npz")
    assert done.code == 0, done.err
    assert "warning" not in done.err
    raw = np.load(tmp_path / "raw.npz")["samples"]

    import dataclasses

    from schedsearch.config import read_model_settings

    backbone = read_model_settings(space).backbone
    net = schedsearch.load_backbone(
        {**dataclasses.asdict(backbone), "checkpoint": str(moved / "w.safetensors")}
    )
    found = schedsearch.load_schedule(moved / "s.yaml")
    images = schedsearch.sample(
        net, found, solver="dpm_solver", num_steps=3, noise=noise, labels=labels
    )
    np.testing.assert_array_equal(images.numpy(), raw)

    assert run_cli(*argv, "--out", tmp_path / "images.npz").code == 0
    pixels = np.load(tmp_path / "images.npz")["images"]
    assert pixels.shape == (5, 8, 8, 1)
    assert pixels.dtype == np.uint8
    expected = np.clip(np.rint((raw + 1) * 127.5), 0, 255).transpose(0, 2, 3, 1)
    assert np.abs(pixels - expected).max() <= 1


def test_a_shared_run_says_that_one_file_serves_the_front(run_copy: Path, tmp_path: Path) -> None:
    space = run_copy / "space.yaml"
    text = space.read_text().partition("\n")[2]  # without the checksum
    assert "weights: own" in text
    space.write_text(text.replace("weights: own", "weights: shared"))
    words = "the same file serves every schedule of this run but full depth"
    for trial, said in ((0, False), (1, True)):  # trial 0 is full depth
        argv = ("-o", tmp_path / "s.yaml", "--weights", tmp_path / "w.safetensors")
        done = run_cli("export", run_copy, "--trial", trial, *argv)
        assert done.code == 0, done.err
        assert (words in done.out) is said


@pytest.mark.parametrize(
    "rule", [("--knee",), ("--max-fid", "1e9"), ("--max-latency-ms", "1e9"), ("--trial", "1")]
)
def test_rules(complete_run: Path, tmp_path: Path, rule: tuple[str, ...]) -> None:
    done = run_cli("export", complete_run, *rule, "-o", tmp_path / "s.yaml")
    assert done.code == 0, done.err
    file = read_schedule_file(tmp_path / "s.yaml")
    picked = (
        rule[1] if rule[0] == "--trial" else run_cli("pick", complete_run, *rule).out.split()[1]
    )
    assert file.provenance["trial"] == int(picked)
    assert file.weights is None


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (("--trial", "99"), 4, "Trial 99 has no complete result; trials that have: "),
        (("--max-fid", "1e-9"), 4, "Nothing has a FID"),
    ],
)
def test_what_is_not_there(
    complete_run: Path, tmp_path: Path, argv: tuple[str, ...], code: int, message: str
) -> None:
    done = run_cli("export", complete_run, *argv, "-o", tmp_path / "s.yaml")
    assert done.code == code
    assert message in done.err
    assert not (tmp_path / "s.yaml").exists()


def test_folders_that_do_not_fit(complete_run: Path, tmp_path: Path) -> None:
    done = run_cli("export", complete_run, "--knee", "-o", tmp_path / "no" / "s.yaml")
    assert done.code == 2
    assert "there is no folder" in done.err
    (tmp_path / "a").mkdir()
    output, weights = tmp_path / "a" / "s.yaml", tmp_path / "w.safetensors"
    done = run_cli("export", complete_run, "--knee", "-o", output, "--weights", weights)
    assert done.code == 2
    assert "must lie in the folder of" in done.err
    assert list((tmp_path / "a").iterdir()) == []
