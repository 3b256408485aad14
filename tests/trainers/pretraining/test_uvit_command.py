from pathlib import Path

import numpy as np
import pytest
from mnist_files import write_split
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_runs import same_weights

from schedsearch.backbones.uvit import UViT
from schedsearch.backbones.weights.checkpoint import load_weights
from schedsearch.data import mnist
from trainers.pretraining import loop as pretraining
from trainers.pretraining.uvit import build_parser, main

NETWORK = ["--embed-dim", "16", "--depth", "4", "--num-heads", "2", "--patch-size", "2"]
ARGUMENTS = [*NETWORK, "--data=digits", "--steps=3", "--prediction", "v", "--betas", "vp"]


@pytest.fixture
def mnist_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A torchvision root with 12 random images, taken for the published ones."""
    images = np.random.default_rng(0).integers(0, 256, (12, 28, 28))
    digests = write_split(tmp_path / "root", "train", images, np.arange(12) % 10)
    monkeypatch.setattr(mnist, "CONTENTS", digests)
    return tmp_path / "root"


def test_the_default_network_fits_the_default_data(
    mnist_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = mnist_root / "net.safetensors"
    small = ["--steps", "1", "--batch-size", "2", "--output", str(path)]
    assert main([*small, "--path", str(mnist_root)]) == 0, capsys.readouterr().err
    load_weights(UViT(28, 7, 1, 96, 12, 4, num_classes=11, null_class=True), path)
    assert main(small) == 2
    assert "--data mnist needs --path" in capsys.readouterr().err


def test_help_names_the_default_data() -> None:
    text = build_parser().format_help()
    assert "(default: mnist)" in text
    assert "MNIST, which is also the default data" in text


def test_writes_weights_that_load(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    assert main([*ARGUMENTS, "--output", str(path)]) == 0
    load_weights(UViT(8, 2, 1, 16, 4, 2, num_classes=11, null_class=True), path)
    with safe_open(path, "pt") as file:
        assert file.metadata()["diffusion"] == "betas vp, prediction v"
        assert file.metadata()["command"].startswith("python -m trainers.pretraining.uvit --embed")


def test_variants(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    main([*ARGUMENTS, "--unconditional", "--no-conv", "--mlp-time-embed", "--output", str(path)])
    load_weights(UViT(8, 2, 1, 16, 4, 2, mlp_time_embed=True, conv=False), path)
    main([*ARGUMENTS, "--label-dropout", "0", "--output", str(path)])
    assert load_file(path)["label_emb.weight"].shape == (10, 16)  # no row for "no class"


def test_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*ARGUMENTS, "--save-minutes", "0", "--output"]
    whole, cut = tmp_path / "whole.safetensors", tmp_path / "cut.safetensors"
    main([*arguments, str(whole)])
    capsys.readouterr()
    assert main([*arguments, str(whole / "under a file")]) == 5
    assert "whole.safetensors" in capsys.readouterr().err

    def dies(run: pretraining.Pretraining) -> float:
        if run.step == 2:
            raise KeyboardInterrupt
        return original(run)

    original = pretraining.Pretraining.train_step
    monkeypatch.setattr(pretraining.Pretraining, "train_step", dies)
    assert main([*arguments, str(cut)]) == 130
    assert "repeat the command to resume" in capsys.readouterr().err
    assert not cut.exists()
    monkeypatch.undo()
    assert main([*arguments[:-1], "--lr", "0.5", "--output", str(cut)]) == 2
    assert "lr was 0.002 and is 0.5" in capsys.readouterr().err
    assert main([*arguments, str(cut)]) == 0
    assert "resuming after step 2 of 3" in capsys.readouterr().err
    assert same_weights(whole, cut)
    assert sorted(file.name for file in tmp_path.iterdir()) == [cut.name, whole.name]
