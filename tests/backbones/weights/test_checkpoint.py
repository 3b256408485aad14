import argparse
import logging
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tiny_dit import CONFIG, make_net
from tiny_runs import TINY
from torch import nn

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.weights.checkpoint import (
    fingerprint,
    fingerprint_of,
    link_weights,
    load_backbone_from,
    load_weights,
    save_weights,
)
from schedsearch.config.checkpoint_paths import locate_weights
from schedsearch.exceptions import CheckpointError
from schedsearch.settings import BackboneSettings


def test_round_trip_with_metadata(tmp_path: Path) -> None:
    net, path = make_net(0), tmp_path / "deep" / "weights.safetensors"
    save_weights(net, path, {"steps": "7"})
    other = make_net(1)
    assert fingerprint(other) != fingerprint(net)
    assert load_weights(other, path) is None
    assert fingerprint(other) == fingerprint(net)
    with safe_open(path, "pt") as file:
        assert file.metadata()["steps"] == "7"
    assert [entry.name for entry in path.parent.iterdir()] == ["weights.safetensors"]


def test_a_failed_save_keeps_the_old_file(tmp_path: Path, fill_disk: Callable[[], None]) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(make_net(0), path)
    old = path.read_bytes()
    fill_disk()
    with pytest.raises(OSError, match="No space left"):
        save_weights(make_net(1), path)
    assert path.read_bytes() == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights.safetensors"]


def test_a_file_that_holds_the_same_weights_gets_a_second_name(tmp_path: Path) -> None:
    net, first, second = nn.Linear(3, 2), tmp_path / "a", tmp_path / "b"
    save_weights(net, first, {"by": "hand"})
    assert link_weights(net, first, second)
    assert second.samefile(first)
    assert link_weights(net, first, second)  # a resumed trial does it again
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_other_weights_get_no_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, first, second = nn.Linear(3, 2), tmp_path / "a", tmp_path / "b"
    save_weights(net, first)
    assert not link_weights(nn.Linear(3, 2, bias=False), first, second)
    with torch.no_grad():
        net.bias += 1e-6
    assert not link_weights(net, first, second)
    assert not second.exists()

    def refused(*_: object) -> None:
        raise PermissionError(1, "the file system has no hard links")

    save_weights(net, first)
    monkeypatch.setattr(Path, "hardlink_to", refused)
    assert not link_weights(net, first, second)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def training_file(path: Path) -> dict[str, DiT]:
    """What DiT's and ASE's train.py write."""
    nets = {"model": make_net(0), "ema": make_net(1)}
    optimizer = torch.optim.AdamW(nets["model"].parameters())
    states = {key: net.state_dict() for key, net in nets.items()}
    args = argparse.Namespace(model="DiT-XL/2", lr=1e-4, data_path="/data", ckpt=None)
    torch.save({**states, "opt": optimizer.state_dict(), "args": args}, path)
    return nets


def test_a_training_file_gives_its_ema_and_says_so(tmp_path: Path) -> None:
    nets, other = training_file(tmp_path / "0400000.pt"), make_net(2)
    note = load_weights(other, tmp_path / "0400000.pt")
    assert note == "0400000.pt holds ema, model; 'ema' was loaded (#model takes the other)"
    assert fingerprint(other) == fingerprint(nets["ema"])


@pytest.mark.parametrize("choice", ["ema", "model"])
def test_a_suffix_chooses(tmp_path: Path, choice: str) -> None:
    nets, other = training_file(tmp_path / "net.pt"), make_net(2)
    assert load_weights(other, f"{tmp_path}/net.pt#{choice}") == f"net.pt: {choice!r} was loaded"
    assert fingerprint(other) == fingerprint(nets[choice])


def test_a_suffix_for_what_is_not_there(tmp_path: Path) -> None:
    training_file(tmp_path / "net.pt")
    with pytest.raises(
        CheckpointError, match=r"has no 'state_dict': it holds ema, model\. .*drop"
    ):
        load_weights(make_net(2), f"{tmp_path}/net.pt#state_dict")
    save_weights(make_net(0), tmp_path / "net.safetensors")
    with pytest.raises(CheckpointError, match=r"has no 'ema': it holds one set of weights only"):
        load_weights(make_net(2), f"{tmp_path}/net.safetensors#ema")


def test_any_other_hash_belongs_to_the_name(tmp_path: Path) -> None:
    for name in ("run#3.safetensors", "net.safetensors#ema"):
        save_weights(make_net(0), tmp_path / name)
    assert load_weights(make_net(1), tmp_path / "run#3.safetensors") is None
    assert locate_weights(tmp_path / "net.safetensors#ema").choice is None


def test_lightning_style_nesting(tmp_path: Path) -> None:
    path, net, other = tmp_path / "last.ckpt", make_net(0), make_net(1)
    torch.save({"epoch": 3, "state_dict": net.state_dict()}, path)
    assert load_weights(other, path) == "last.ckpt: 'state_dict' was loaded"
    assert fingerprint(other) == fingerprint(net)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["net.pt", "net.safetensors"])
def test_half_precision_files_fill_a_float32_model(
    tmp_path: Path, name: str, dtype: torch.dtype
) -> None:
    half, net = make_net(0).to(dtype), make_net(1)
    if name.endswith(".pt"):
        torch.save(half.state_dict(), tmp_path / name)
    else:
        save_weights(half, tmp_path / name)
    note = load_weights(net, tmp_path / name)
    assert note == f"converted from {str(dtype).removeprefix('torch.')} to float32"
    assert net.final_layer.linear.weight.dtype == torch.float32
    assert fingerprint(net) == fingerprint(half.float())


@pytest.mark.parametrize("name", ["net.safetensors", "net.pt"])
@pytest.mark.parametrize("kept", [0, 5, 0.5, 0.99])
def test_damaged_files(tmp_path: Path, name: str, kept: float) -> None:
    path = tmp_path / name
    if name.endswith(".pt"):
        torch.save(make_net(0).state_dict(), path)
    else:
        save_weights(make_net(0), path)
    content = path.read_bytes()
    path.write_bytes(content[: kept if isinstance(kept, int) else int(kept * len(content))])
    with pytest.raises(CheckpointError, match=r"empty|cannot be read|damaged"):
        load_weights(make_net(1), path)


class RunsCode:
    """Unpickled by the standard library, it would make the folder that it names."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("zipped", [True, False])
def test_files_that_could_run_code_are_refused(tmp_path: Path, *, zipped: bool) -> None:
    path, made = tmp_path / "net.pt", tmp_path / "made"
    content = {"ema": make_net(0).state_dict(), "args": RunsCode(made)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="could run code") as caught:
        load_weights(make_net(1), path)
    assert not made.exists()
    assert ("mkdir" in str(caught.value)) == zipped
    torch.save({"ema": {}, "args": argparse.Namespace(data=tmp_path)}, path)
    with pytest.raises(CheckpointError, match=r"more than tensors \(pathlib\.PosixPath\)"):
        load_weights(make_net(1), path)


def test_the_namespace_is_allowed_only_while_reading(tmp_path: Path) -> None:
    training_file(tmp_path / "net.pt")
    load_weights(make_net(2), tmp_path / "net.pt")
    assert argparse.Namespace not in torch.serialization.get_safe_globals()


def test_archives_of_other_kinds(tmp_path: Path) -> None:
    """Files of TorchScript and of the first torch versions need code to be read."""
    path = tmp_path / "net.pt"
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(CheckpointError, match="is a tar archive"):
        load_weights(make_net(1), path)
    path.write_bytes(pickle.dumps({"w": 1}, protocol=2))
    with pytest.raises(CheckpointError, match=r"damaged or holds more|cannot be read"):
        load_weights(make_net(1), path)


def test_files_without_weights(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save({"step": 3, "note": "hello"}, path)
    with pytest.raises(CheckpointError, match=r"no tensors.*step, note"):
        load_weights(make_net(1), path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="a list, not a state dict"):
        load_weights(make_net(1), path)


def test_what_was_chosen_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    training_file(tmp_path / "net.pt")
    settings = BackboneSettings(family="dit", config=CONFIG, checkpoint=str(tmp_path / "net.pt"))
    with caplog.at_level(logging.INFO, "schedsearch"):
        load_backbone_from(settings)
    assert "'ema' was loaded" in caplog.text


def test_fingerprint_sees_values_names_and_dtype() -> None:
    net = make_net(0)
    first = fingerprint(net)
    assert first.startswith("sha256:")
    assert fingerprint(make_net(0)) == first
    with torch.no_grad():
        net.final_layer.linear.bias[0] += 1e-6
    assert fingerprint(net) != first
    assert fingerprint(make_net(0).bfloat16()) != first
    state = make_net(0).state_dict()
    assert fingerprint_of(dict(reversed(state.items()))) == first  # the order is no matter
    bias = state.pop("final_layer.linear.bias")
    assert fingerprint_of(state) != first
    assert fingerprint_of({**state, "final_layer.linear.offset": bias}) != first
    assert fingerprint_of({**state, "final_layer.linear.bias": bias[None]}) != first


def test_shipped_digits_model_predicts_noise() -> None:
    from schedsearch.data.digits import load_digits
    from schedsearch.diffusion.process import DDPMProcess

    net = load_backbone_from(BackboneSettings(**TINY["backbone"]))
    assert not net.training
    generator = torch.Generator().manual_seed(0)
    x0, y = load_digits().batch(256, generator)
    noise = torch.randn(x0.shape, generator=generator)
    t = torch.randint(1000, (256,), generator=generator)
    with torch.no_grad():
        x_t = DDPMProcess().q_sample(x0, t, noise)
        error = (net(x_t, t, y, exit_depth=10) - noise).square().mean()
    assert error < 0.09  # 0.07 over the last training steps; 1 is an untrained model
