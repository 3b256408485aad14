import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from trainers.pretraining import data as pretraining_data
from trainers.pretraining import loop as pretraining
from trainers.pretraining.dit import build_parser, main

NETWORK = ["--hidden-size", "16", "--depth", "2", "--num-heads", "2"]
ARGUMENTS = [*NETWORK, "--steps", "2", "--batch-size", "2"]
LATENTS = ["--data", "latents", "--input-size", "4", "--in-channels", "4"]


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Two classes of 20 images; the last of class b is no image."""
    rng = np.random.default_rng(0)
    for name in "ab":
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(20):
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{index:02}.png")
    (tmp_path / "images" / "b" / "19.png").write_bytes(b"no image")
    return tmp_path / "images"


def of_folder(folder: Path) -> list[str]:
    shape = ["--input-size", "8", "--in-channels", "3"]
    return [*ARGUMENTS, "--data", "image_folder", "--path", str(folder), *shape]


def save_latents(path: Path, values: torch.Tensor) -> None:
    save_file({"latents": values, "labels": torch.arange(len(values)) % 3}, path)


def random_latents() -> torch.Tensor:
    return torch.randn(12, 4, 4, 4, generator=torch.Generator().manual_seed(0))


def test_latents(tmp_path: Path, vae_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard, out = tmp_path / "latents.safetensors", tmp_path / "net.safetensors"
    save_latents(shard, random_latents())
    arguments = [*ARGUMENTS, *LATENTS, "--path", str(shard), "--vae", str(vae_folder)]
    assert main([*arguments, "--output", str(out)]) == 0
    weights = load_file(out)
    assert weights["x_embedder.proj.weight"].shape == (16, 4, 2, 2)
    assert weights["y_embedder.embedding_table.weight"].shape == (4, 16)  # and "no class"
    with safe_open(out, "pt") as file:
        assert f"--vae {vae_folder.name}" in file.metadata()["command"]
        assert str(vae_folder.parent) not in str(file.metadata())
    assert "standard deviation" not in capsys.readouterr().err

    save_latents(shard, 100 * random_latents())
    assert main([*arguments, "--output", str(out)]) == 0
    assert "The latents have a standard deviation of" in capsys.readouterr().err

    broken = random_latents()
    broken[-1] = torch.nan
    save_latents(shard, broken)
    assert main([*arguments, "--output", str(tmp_path / "broken")]) == 2
    assert "1 of 12 checked latents are not finite" in capsys.readouterr().err


def test_latents_are_decoded_on_the_device_of_the_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(pretraining_data, "load_source", lambda *found: calls.append(found))
    args = build_parser().parse_args([*LATENTS, "--path", "a", "--vae", "b", "--output", "c"])
    pretraining_data.open_source(args, torch.device("meta"))
    ((settings, shape, device),) = calls
    assert (settings.path, settings.vae) == ("a", "b")
    assert (shape, device) == ((4, 4, 4), torch.device("meta"))


def test_damaged_images_are_found_before_training_and_said(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--output", str(tmp_path / "net.safetensors")]
    assert main([*of_folder(image_folder), *out]) == 2
    error = capsys.readouterr().err
    assert "1 of 40 images cannot be read" in error
    assert "step" not in error
    assert main([*of_folder(image_folder), "--max-damaged", "1", *out]) == 0
    note, *rest = capsys.readouterr().err.splitlines()
    assert "1 of 40 images cannot be read" in note
    assert rest[-1].startswith("step 2/2")


def interrupt(arguments: list[str]) -> None:
    """Start a training that is interrupted after its first step."""

    def dies(run: pretraining.Pretraining) -> float:
        if run.step == 1:
            raise KeyboardInterrupt
        return original(run)

    original = pretraining.Pretraining.train_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining.Pretraining, "train_step", dies)
        assert main(arguments) == 130


def test_more_damage_may_be_allowed_when_going_on(
    image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*of_folder(image_folder), "--save-minutes", "0"]
    arguments += ["--output", str(tmp_path / "net.safetensors")]
    interrupt([*arguments, "--max-damaged", "1"])
    assert main([*arguments, "--max-damaged", "2"]) == 0
    assert "resuming after step 1 of 2" in capsys.readouterr().err


def test_on_latents_it_goes_on_with_the_same_autoencoder_wherever_it_lies(
    tmp_path: Path, vae_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_latents(tmp_path / "latents.safetensors", random_latents())
    moved, other = tmp_path / "moved", tmp_path / "other"
    shutil.copytree(vae_folder, moved)
    shutil.copytree(vae_folder, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "scaling_factor": 0.5}))
    arguments = [*ARGUMENTS, *LATENTS, "--path", str(tmp_path / "latents.safetensors")]
    arguments += ["--save-minutes", "0", "--output", str(tmp_path / "net.safetensors")]
    interrupt([*arguments, "--vae", str(vae_folder)])
    assert main([*arguments, "--vae", str(other)]) == 2
    assert "another training: data_fingerprint was" in capsys.readouterr().err
    assert main([*arguments, "--vae", str(moved)]) == 0
    assert "resuming after step 1 of 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--path", "x"], "--data digits ships with scikit-learn and has no path, got --path x"),
        (["--data", "mnist"], "--data mnist needs --path"),
        (["--data", "latents", "--path", "x"], "--data latents needs --vae"),
        (
            ["--data", "latents", "--path", "x", "--vae", "v", "--in-channels", "4"],
            "--data latents has no fixed shape; give --input-size and --in-channels",
        ),
        (
            ["--data", "npz", "--path", "x", "--input-size", "0", "--in-channels", "3"],
            "--input-size and --in-channels must be at least 1, got side 0 and 3 channels",
        ),
        ([*LATENTS, "--path", "x", "--vae", "v", "--flip"], "latents cannot be mirrored"),
        (["--vae", "v"], "Only latents are decoded, got --vae v with --data digits"),
        (["--max-damaged", "-1"], "--max-damaged must be at least 0, got -1"),
        (["--max-damaged", "2"], "Only image_folder skips images, got --max-damaged 2"),
    ],
)
def test_mistakes_end_with_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*ARGUMENTS, *arguments, "--output", str(tmp_path / "x")]) == 2
    line = capsys.readouterr().err
    assert message in line
    assert line.count("\n") == 1
