import argparse
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from schedsearch.backbones import checkpoint
from schedsearch.backbones.checkpoint import (
    fingerprint,
    load_backbone_from,
    load_weights,
    resolve_checkpoint,
    save_weights,
)
from schedsearch.backbones.dit import DiT
from schedsearch.exceptions import CheckpointError
from schedsearch.settings import BackboneSettings

CONFIG = {
    "input_size": 8,
    "patch_size": 4,
    "in_channels": 1,
    "hidden_size": 16,
    "depth": 2,
    "num_heads": 2,
    "num_classes": 3,
    "learn_sigma": False,
}


def make_net(seed: int, **overrides: object) -> DiT:
    torch.manual_seed(seed)
    net = DiT(**{**CONFIG, **overrides})
    for parameter in net.parameters():
        nn.init.normal_(parameter)
    return net


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


def test_a_failed_save_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(make_net(0), path)
    old = path.read_bytes()

    def full_disk(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_weights(make_net(1), path)
    assert path.read_bytes() == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["weights.safetensors"]


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_plain_pt_with_the_prefixes_of_wrappers(tmp_path: Path, prefix: str) -> None:
    net, path = make_net(0), tmp_path / "net.pt"
    torch.save({prefix + name: value for name, value in net.state_dict().items()}, path)
    other = make_net(1)
    assert load_weights(other, path) is None
    assert fingerprint(other) == fingerprint(net)


def test_ema_is_chosen_and_said(tmp_path: Path) -> None:
    raw, ema, path = make_net(0), make_net(1), tmp_path / "net.pt"
    torch.save({"model": raw.state_dict(), "ema": ema.state_dict(), "step": 3}, path)
    other = make_net(2)
    note = load_weights(other, path)
    assert note is not None
    assert "'ema' was loaded" in note
    assert fingerprint(other) == fingerprint(ema)


def test_mismatch_is_counted_and_named(tmp_path: Path) -> None:
    path = tmp_path / "deeper.safetensors"
    save_weights(make_net(0, depth=3, num_classes=4), path)
    with pytest.raises(CheckpointError) as caught:
        load_weights(make_net(1), path)
    text = str(caught.value)
    assert "10 unexpected: blocks.2." in text
    assert "and 5 more" in text
    assert "1 of another shape: y_embedder.embedding_table.weight (file (5, 16), " in text
    save_weights(make_net(0), path)
    with pytest.raises(CheckpointError, match=r"10 missing: blocks\.2\."):
        load_weights(make_net(1, depth=3), path)


def test_nothing_is_loaded_when_one_key_is_wrong(tmp_path: Path) -> None:
    path, net = tmp_path / "net.pt", make_net(1)
    state = make_net(0).state_dict()
    del state["final_layer.linear.bias"]
    torch.save(state, path)
    before = fingerprint(net)
    with pytest.raises(CheckpointError, match=r"1 missing: final_layer\.linear\.bias"):
        load_weights(net, path)
    assert fingerprint(net) == before


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


def test_files_that_could_run_code_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save({"ema": make_net(0).state_dict(), "args": argparse.Namespace(lr=1)}, path)
    with pytest.raises(CheckpointError, match="could run code"):
        load_weights(make_net(1), path)


def test_files_without_weights(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save({"step": 3, "note": "hello"}, path)
    with pytest.raises(CheckpointError, match=r"no tensors.*step, note"):
        load_weights(make_net(1), path)
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="a list, not a state dict"):
        load_weights(make_net(1), path)


def test_resolve(tmp_path: Path) -> None:
    shipped = resolve_checkpoint("package:digits_dit.safetensors")
    assert shipped.is_file()
    with pytest.raises(CheckpointError, match=r"there are .*digits_dit\.safetensors"):
        resolve_checkpoint("package:nothing.safetensors")
    with pytest.raises(CheckpointError, match="is not a file"):
        resolve_checkpoint(str(tmp_path))


def test_fingerprint_sees_values_names_and_dtype() -> None:
    net = make_net(0)
    first = fingerprint(net)
    assert first.startswith("sha256:")
    assert fingerprint(make_net(0)) == first
    with torch.no_grad():
        net.final_layer.linear.bias[0] += 1e-6
    assert fingerprint(net) != first
    assert fingerprint(make_net(0).bfloat16()) != first


def test_shipped_digits_model_predicts_noise() -> None:
    from schedsearch.data.digits import load_digits
    from schedsearch.diffusion.process import DDPMProcess

    settings = BackboneSettings(
        family="dit",
        config={
            "input_size": 8,
            "patch_size": 2,
            "in_channels": 1,
            "hidden_size": 64,
            "depth": 10,
            "num_heads": 4,
            "num_classes": 10,
            "learn_sigma": False,
        },
        checkpoint="package:digits_dit.safetensors",
    )
    net = load_backbone_from(settings)
    assert not net.training
    generator = torch.Generator().manual_seed(0)
    x0, y = load_digits().batch(256, generator)
    noise = torch.randn(x0.shape, generator=generator)
    t = torch.randint(1000, (256,), generator=generator)
    with torch.no_grad():
        x_t = DDPMProcess().q_sample(x0, t, noise)
        error = (net(x_t, t, y, exit_depth=10) - noise).square().mean()
    assert error < 0.09  # 0.07 over the last training steps; 1 is an untrained model
