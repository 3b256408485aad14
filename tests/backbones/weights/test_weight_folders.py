"""Training folders of U-ViT, as its ``TrainState.save`` leaves them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from schedsearch.backbones.shape_arguments import arguments_of
from schedsearch.backbones.uvit import UViT
from schedsearch.backbones.weights.checkpoint import fingerprint, load_weights
from schedsearch.exceptions import CheckpointError

CONFIG: dict[str, Any] = {
    "img_size": 8,
    "patch_size": 2,
    "in_chans": 3,
    "embed_dim": 16,
    "depth": 4,
    "num_heads": 2,
    "num_classes": 5,
}


def make_net(seed: int, **overrides: Any) -> UViT:
    torch.manual_seed(seed)
    net = UViT(**{**CONFIG, **overrides})
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    return net


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete training folder; its EMA weights are those of seed 1."""
    folder = tmp_path / "5000.ckpt"
    folder.mkdir()
    raw, ema = make_net(0), make_net(1)
    torch.save(5000, folder / "step.pth")
    torch.save(torch.optim.AdamW(raw.parameters()).state_dict(), folder / "optimizer.pth")
    torch.save({"last_epoch": 5000}, folder / "lr_scheduler.pth")
    torch.save(raw.state_dict(), folder / "nnet.pth")
    torch.save(ema.state_dict(), folder / "nnet_ema.pth")
    return folder


def test_the_ema_of_a_training_folder_loads_and_says_so(folder: Path) -> None:
    net = make_net(2)
    note = load_weights(net, folder)
    assert note is not None
    assert "nnet_ema.pth was loaded (#model takes the other)" in note
    assert fingerprint(net) == fingerprint(make_net(1))


@pytest.mark.parametrize(("suffix", "seed"), [("#ema", 1), ("#model", 0), ("/nnet.pth", 0)])
def test_a_suffix_or_the_file_itself_chooses(folder: Path, suffix: str, seed: int) -> None:
    net = make_net(2)
    load_weights(net, f"{folder}{suffix}")
    assert fingerprint(net) == fingerprint(make_net(seed))


@pytest.mark.parametrize("size", [None, 0, 1000])
def test_a_folder_from_a_crash_while_saving(folder: Path, size: int | None) -> None:
    """Never silently the raw weights: the EMA is written last, so it is what a crash loses."""
    ema, net = folder / "nnet_ema.pth", make_net(2)
    content = ema.read_bytes()
    ema.unlink()
    if size is not None:
        ema.write_bytes(content[:size])
    before = fingerprint(net)
    message = r"incomplete: it has no nnet_ema\.pth.*5000\.ckpt#model for nnet\.pth"
    with pytest.raises(CheckpointError, match=message if size is None else "empty|cut off"):
        load_weights(net, folder)
    assert fingerprint(net) == before
    load_weights(net, f"{folder}#model")
    assert fingerprint(net) == fingerprint(make_net(0))


def test_folders_that_hold_no_weights(folder: Path) -> None:
    for name in ("nnet.pth", "nnet_ema.pth"):
        (folder / name).unlink()
    with pytest.raises(CheckpointError, match=r"incomplete: .* Take an earlier folder\.$"):
        load_weights(make_net(2), folder)
    (folder.parent / "10000.ckpt").mkdir()
    with pytest.raises(CheckpointError, match=r"holds 2 training folders.*newest is .*10000\.ckp"):
        load_weights(make_net(2), folder.parent)
    with pytest.raises(CheckpointError, match="has no 'state_dict'"):
        load_weights(make_net(2), f"{folder}#state_dict")


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        ({"depth": 6}, "depth: 6 (model: 4)"),
        ({"embed_dim": 32}, "embed_dim: 32 (model: 16)"),
        ({"patch_size": 4}, "patch_size: 4 (model: 2)"),
        ({"img_size": 16}, "img_size: 16 (model: 8)"),
        ({"in_chans": 4}, "in_chans: 4 (model: 3)"),
        ({"num_classes": 6}, "num_classes: 6 (model: 5)"),
        ({"num_classes": -1}, "num_classes: -1 (model: 5)"),
        ({"mlp_time_embed": True}, "mlp_time_embed: true (model: false)"),
        ({"qkv_bias": True}, "qkv_bias: true (model: false)"),
        ({"conv": False}, "conv: false (model: true)"),
        ({"skip": False}, "skip: false (model: true)"),
    ],
)
def test_the_argument_to_change_is_named(
    tmp_path: Path, change: dict[str, Any], hint: str
) -> None:
    torch.save(make_net(0, **change).state_dict(), tmp_path / "nnet.pth")
    with pytest.raises(CheckpointError) as caught:
        load_weights(make_net(1), tmp_path / "nnet.pth")
    assert f"By its shapes the file has {hint}." in str(caught.value)


def test_arguments_are_read_off_the_shapes() -> None:
    found = arguments_of(make_net(0, mlp_time_embed=True).state_dict())
    readable = {key: value for key, value in CONFIG.items() if key != "num_heads"}
    assert {key: found[key] for key in readable} == readable
    assert found["mlp_time_embed"] is True
    assert arguments_of(make_net(0).state_dict())["mlp_time_embed"] is False
    assert "num_heads" not in found  # leaves no trace in the weights


def test_a_u_vit_is_not_a_dit(folder: Path) -> None:
    from schedsearch.backbones.dit import DiT

    dit = DiT(input_size=8, in_channels=3, hidden_size=16, depth=2, num_heads=2)
    with pytest.raises(CheckpointError, match="The file holds a U-ViT, the model is a DiT"):
        load_weights(dit, folder)
