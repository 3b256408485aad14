"""Checkpoint settings that are more than the path of one file."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from schedsearch.config import read_settings
from schedsearch.config.checkpoint_paths import locate_weights, split_choice
from schedsearch.exceptions import CheckpointError, ConfigError


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


@pytest.mark.parametrize("suffix", ["", "#ema", "#model", "#state_dict"])
def test_a_suffix_stays_with_the_absolute_path(
    good: Path, edited: Callable[..., Path], suffix: str
) -> None:
    edited(("weights.pt", f"weights.pt{suffix}"))
    checkpoint = read_settings(good).backbone.checkpoint
    assert checkpoint == f"{good.parent / 'weights.pt'}{suffix}"
    location = locate_weights(checkpoint)
    assert location.path == good.parent / "weights.pt"
    assert location.choice == (suffix.removeprefix("#") or None)


def test_folders_are_valid(good: Path, edited: Callable[..., Path]) -> None:
    touch(good.parent / "9.ckpt" / "nnet_ema.pth")
    edited(("weights.pt", "9.ckpt#ema"))
    checkpoint = read_settings(good).backbone.checkpoint
    assert checkpoint is not None
    assert locate_weights(checkpoint).path == good.parent / "9.ckpt" / "nnet_ema.pth"


@pytest.mark.parametrize(
    ("files", "checkpoint", "message"),
    [
        ([], "nowhere.pt#ema", "the file nowhere.pt does not exist"),
        (["9.ckpt/nnet.pth"], "9.ckpt", "is incomplete: it has no nnet_ema.pth"),
        (["ckpts/8.ckpt/nnet.pth", "ckpts/10.ckpt/nnet.pth"], "ckpts", "newest is ckpts/10.ckpt"),
        (["dit/config.json"], "dit", "has no diffusion_pytorch_model.safetensors"),
        (["dit/x.pt"], "dit", "is a folder, but neither"),
    ],
)
def test_what_is_missing_is_found_by_check(
    good: Path, edited: Callable[..., Path], files: list[str], checkpoint: str, message: str
) -> None:
    touch(*(good.parent / name for name in files))
    edited(("weights.pt", checkpoint))
    with pytest.raises(ConfigError) as caught:
        read_settings(good)
    text = str(caught.value).replace(f"{good.parent}/", "")
    assert "backbone.checkpoint: " in text
    assert message in text
    assert text.count("\n") == 0


def test_the_choice_is_only_a_known_word(tmp_path: Path) -> None:
    assert split_choice("a#b.pt") == (Path("a#b.pt"), None)
    assert split_choice("a#b.pt#model") == (Path("a#b.pt"), "model")
    touch(tmp_path / "net#ema")
    assert split_choice(str(tmp_path / "net#ema")) == (tmp_path / "net#ema", None)


def test_weights_that_ship_and_what_is_missing(tmp_path: Path) -> None:
    shipped = locate_weights("package:digits_dit.safetensors")
    assert shipped.path.is_file()
    with pytest.raises(CheckpointError, match=r"No weights named .*digits_dit\.safetensors"):
        locate_weights("package:nothing.safetensors")
    with pytest.raises(CheckpointError, match=r"nowhere\.pt does not exist"):
        locate_weights(tmp_path / "nowhere.pt")
    with pytest.raises(CheckpointError, match="is a folder, but neither"):
        locate_weights(tmp_path)


def test_no_torch_is_needed() -> None:
    code = "import sys, schedsearch.config.checkpoint_paths; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n"
