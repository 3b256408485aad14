"""``schedsearch convert``: what is written, said and refused."""

import argparse
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from tiny_runs import run_cli, write_space
from torch import nn

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.weights import conversion, recognition
from schedsearch.backbones.weights.checkpoint import fingerprint, load_weights, save_weights
from schedsearch.config import backbone_arguments, backbone_rules
from schedsearch.settings import BackboneSettings

SMALL: dict[str, Any] = {"hidden_size": 32, "depth": 2, "num_heads": 4, "patch_size": 2}
"""A new size, registered as DiT-Tiny/2 by the fixture."""

CONFIG: dict[str, Any] = {**SMALL, "input_size": 8, "in_channels": 4, "num_classes": 7}


def make_net(seed: int, **overrides: Any) -> DiT:
    torch.manual_seed(seed)
    net = DiT(**{**CONFIG, **overrides})
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    return net


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {**backbone_arguments.REGISTRY, "DiT-Tiny/2": ("dit", SMALL)}
    for module in (backbone_arguments, backbone_rules, recognition):
        monkeypatch.setattr(module, "REGISTRY", known)


@pytest.fixture
def training_file(tmp_path: Path) -> Path:
    """What train.py writes: raw weights of seed 0, EMA of seed 1."""
    path = tmp_path / "train.pt"
    states = {"model": make_net(0).state_dict(), "ema": make_net(1).state_dict()}
    torch.save({**states, "opt": {}, "args": argparse.Namespace(lr=1)}, path)
    return path


def test_a_training_file_becomes_safetensors(tmp_path: Path, training_file: Path) -> None:
    out = tmp_path / "dit.safetensors"
    done = run_cli("convert", training_file, out)
    assert done.code == 0, done.err
    assert "'ema' was loaded" in done.err
    expected = fingerprint(make_net(1))
    values = sum(value.numel() for value in make_net(1).state_dict().values())
    assert done.out.splitlines() == [
        f"{out}: safetensors layout",
        "  backbone     DiT-Tiny/2 with input_size 8, num_classes 7",
        f"  tensors      {len(make_net(1).state_dict())}, {values:,} values, float32",
        f"  fingerprint  {expected}",
    ]
    net = make_net(2)
    assert load_weights(net, out) is None
    assert fingerprint(net) == expected
    with safe_open(out, "pt") as file:
        metadata = file.metadata()
    assert metadata["source"] == "train.pt"
    assert json.loads(metadata["backbone"])["name"] == "DiT-Tiny/2"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dit.safetensors", "train.pt"]


def test_which(tmp_path: Path, training_file: Path) -> None:
    done = run_cli("convert", training_file, tmp_path / "raw.safetensors", "--which", "model")
    assert done.code == 0, done.err
    assert f"fingerprint  {fingerprint(make_net(0))}" in done.out
    done = run_cli("convert", training_file, tmp_path / "x.pt", "--which", "state_dict", "-q")
    assert done.code == 2
    assert "holds ema, model" in done.err


def test_round_trip_through_every_layout(tmp_path: Path, training_file: Path) -> None:
    """official -> safetensors -> diffusers -> official, bit for bit."""
    steps = ["train.pt", "a.safetensors", "folder", "b.pt"]
    for source, target in itertools.pairwise(steps):
        done = run_cli("convert", tmp_path / source, tmp_path / target)
        assert done.code == 0, done.err
        assert f"fingerprint  {fingerprint(make_net(1))}" in done.out
        assert ("patch the time embedding" in done.out) == (target == "folder")
    state = torch.load(tmp_path / "b.pt", weights_only=True)
    expected = make_net(1).state_dict()
    assert list(state) == list(expected)
    assert all(value.equal(expected[name]) for name, value in state.items())


def test_the_backbone_of_a_space(tmp_path: Path) -> None:
    """Also for weights that the space names before they are there."""
    space = write_space(tmp_path, backbone={"checkpoint": "new.safetensors"})
    shipped = "package:digits_dit.safetensors"
    done = run_cli("convert", shipped, tmp_path / "new.safetensors", "--space", space)
    assert done.code == 0, done.err
    assert "backbone     dit with " in done.out
    save_weights(make_net(0), tmp_path / "other.safetensors")
    out = tmp_path / "x.safetensors"
    done = run_cli("convert", tmp_path / "other.safetensors", out, "--space", space)
    assert done.code == 2
    assert "belongs to another model" in done.err
    assert not out.exists()


def test_half_precision_is_said(tmp_path: Path) -> None:
    torch.save(make_net(0).half().state_dict(), tmp_path / "half.pt")
    done = run_cli("convert", tmp_path / "half.pt", tmp_path / "full.safetensors")
    assert done.code == 0, done.err
    assert "weights: converted from float16 to float32" in done.err
    assert "values, float32" in done.out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("nowhere.pt", "x.safetensors"), "nowhere.pt does not exist"),
        (("train.pt", "x.onnx"), "does not say which layout is wanted"),
        (("train.pt", "no/x.pt"), "there is no folder"),
        (("train.pt", "train.pt"), "exists already. Choose another name, or give --force"),
        (("train.pt", ".", "--to", "official"), "it is a folder"),
        (("train.pt", "x.pt", "--to", "safetensors"), ".pt means the layout official"),
        (("train.pt", "train.pt", "--to", "diffusers"), "it is a file, and diffusers needs"),
        (("train.pt", ".", "--to", "diffusers", "--force"), "holds other files (plain.pt)"),
        (
            ("train.pt", "x.pt", "--backbone", "DiT-XL/2"),
            "is not a DiT-XL/2: by its shapes it is a ",
        ),
        (("train.pt", "x.pt", "--backbone", "DiT-XXL/2"), "no backbone 'DiT-XXL/2'"),
        (("package:digits_dit.safetensors", "x.pt"), "depth 10, patch_size 2, which has no regis"),
        (("plain.pt", "x.pt"), "do not say which backbone"),
    ],
)
def test_what_is_refused(
    tmp_path: Path,
    training_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    argv: tuple[str, ...],
    message: str,
) -> None:
    torch.save({"weight": torch.ones(2)}, tmp_path / "plain.pt")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.chdir(tmp_path)
    done = run_cli("convert", *argv)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1
    assert done.out == ""
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt", "folder"])
def test_force_replaces(tmp_path: Path, training_file: Path, name: str) -> None:
    for which in ("model", "ema"):
        argv = ("convert", training_file, tmp_path / name, "--which", which)
        assert run_cli(*argv, "--force").code == 0
        again = run_cli(*argv)
        assert again.code == 2
        assert "exists already" in again.err
    net = make_net(2)
    load_weights(net, tmp_path / name)
    assert fingerprint(net) == fingerprint(make_net(1))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["train.pt", name])


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt", "folder"])
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, training_file: Path, fill_disk: Callable[[], None], name: str
) -> None:
    assert run_cli("convert", training_file, tmp_path / name).code == 0
    fill_disk()
    argv = ("convert", training_file, tmp_path / name, "--which", "model", "--force")
    done = run_cli(*argv)
    assert done.code == 5
    net = make_net(2)
    load_weights(net, tmp_path / name)
    assert fingerprint(net) == fingerprint(make_net(1))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["train.pt", name])


def test_only_a_dit_goes_to_diffusers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from schedsearch.backbones.uvit import UViT

    net = UViT(img_size=8, patch_size=2, in_chans=3, embed_dim=16, depth=2, num_heads=2)
    torch.save(net.state_dict(), tmp_path / "nnet.pth")
    monkeypatch.setattr(conversion, "recognise", lambda *_: BackboneSettings(family="uvit"))
    monkeypatch.setattr(conversion, "build_backbone", lambda _: net)
    done = run_cli("convert", tmp_path / "nnet.pth", tmp_path / "folder")
    assert done.code == 2
    assert "diffusers has no class for a UViT" in done.err


@pytest.mark.parametrize(
    "argv",
    [
        ("in.pt",),
        ("in.pt", "out.pt", "--to", "onnx"),
        ("in.pt", "out.pt", "--backbone", "DiT-XL/2", "--space", "digits_dit"),
    ],
)
def test_wrong_usage(argv: tuple[str, ...]) -> None:
    done = run_cli("convert", *argv)
    assert done.code == 2
    assert done.err.startswith("schedsearch convert: ")
    assert done.err.count("\n") == 1
