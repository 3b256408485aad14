"""Weights of SiT and REPA: strict loading, other layouts, and what a DiT file may hint at."""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import schedsearch
from schedsearch.backbones.dit import DiT
from schedsearch.backbones.sit import SiT
from schedsearch.backbones.weights.checkpoint import load_weights, save_weights
from schedsearch.backbones.weights.conversion import convert
from schedsearch.backbones.weights.recognition import recognise
from schedsearch.backbones.weights.sit_files import (
    LAST_WEIGHT,
    PATCHES,
    TIME,
    file_looks_like_sit,
    has_variances,
    variances_are_zero,
)
from schedsearch.backbones.weights.weight_files import Weights
from schedsearch.exceptions import CheckpointError, ConfigError
from schedsearch.settings import BackboneSettings

CONFIG: dict[str, Any] = {
    "input_size": 4,
    "patch_size": 2,
    "in_channels": 4,
    "hidden_size": 16,
    "depth": 4,
    "num_heads": 2,
    "num_classes": 3,
}


def make_state(*, learn_sigma: bool = True, zero_variances: bool = True) -> dict[str, Tensor]:
    """Weights of a small SiT as its training leaves them: rows for variances are zero."""
    torch.manual_seed(0)
    net = SiT(**CONFIG, learn_sigma=learn_sigma)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    if learn_sigma and zero_variances:
        with torch.no_grad():
            net.final_layer.linear.weight.view(4, 8, 16)[:, 4:] = 0
            net.final_layer.linear.bias.view(4, 8)[:, 4:] = 0
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def section(path: Path, **config: Any) -> dict[str, Any]:
    return {"family": "sit", "config": {**CONFIG, **config}, "checkpoint": str(path)}


def run(net: Any) -> Tensor:
    x = torch.randn(3, 4, 4, 4, generator=torch.Generator().manual_seed(2))
    t, y = torch.tensor([0.0, 0.3, 1.0]), torch.tensor([0, 1, 3])
    with torch.inference_mode():
        output: Tensor = net(x, t, y, exit_depth=4)
    return output


@pytest.mark.parametrize("learn_sigma", [True, False])
@pytest.mark.parametrize("kind", ["release", "training", "safetensors"])
def test_files_load_strictly_and_say_whether_they_have_variances(
    tmp_path: Path, kind: str, learn_sigma: bool
) -> None:
    state = make_state(learn_sigma=learn_sigma)
    dit = DiT(**CONFIG, learn_sigma=learn_sigma)
    dit.load_state_dict(state)
    path = tmp_path / ("net.safetensors" if kind == "safetensors" else "net.pt")
    if kind == "release":
        torch.save(state, path)
    elif kind == "safetensors":
        save_file(state, path)
    else:
        args = argparse.Namespace(path_type="Linear", prediction="velocity", model="SiT-XL/2")
        other = {name: value + 1 for name, value in state.items()}
        torch.save({"model": other, "ema": state, "opt": {"state": {}}, "args": args}, path)
    net = schedsearch.load_backbone(section(path))
    assert torch.equal(run(net), run(dit.eval())[:, :4])
    wrong = section(path, learn_sigma=not learn_sigma)
    with pytest.raises(CheckpointError, match=f"learn_sigma: {str(learn_sigma).lower()} "):
        schedsearch.load_backbone(wrong)


def repa_state(encoder_depth: int | None) -> dict[str, Tensor]:
    """The same weights in REPA's layout, split behind a block in its older files."""
    state = make_state(learn_sigma=False)
    found = {f"projectors.0.{i}.weight": torch.ones(2, 2) for i in (0, 2)}
    for name, value in state.items():
        parts = name.split(".")
        if encoder_depth is not None and parts[0] == "blocks" and int(parts[1]) >= encoder_depth:
            parts[:2] = ["decoder_blocks", str(int(parts[1]) - encoder_depth)]
        found[".".join(parts)] = value
    return found


@pytest.mark.parametrize("encoder_depth", [None, 1, 3])
def test_repa(tmp_path: Path, encoder_depth: int | None) -> None:
    path = tmp_path / "repa.pt"
    args = argparse.Namespace(path_type="linear", prediction="x0")
    torch.save({"ema": repa_state(encoder_depth), "args": argparse.Namespace()}, path)
    net = SiT(**CONFIG, learn_sigma=False)
    note = load_weights(net, path)
    assert note is not None
    assert "2 tensors of REPA's projectors were left out" in note
    assert ("decoder_blocks became blocks" in note) == (encoder_depth is not None)
    for name, value in make_state(learn_sigma=False).items():
        assert torch.equal(net.state_dict()[name], value)
    repa = {"backbone": section(path), "diffusion": {"process": "flow", "time": "sigma"}}
    assert torch.equal(run(schedsearch.load_backbone(repa)), run(net.eval()))
    torch.save({"ema": repa_state(encoder_depth), "args": args}, path)
    assert "trained to predict the x0" in str(load_weights(net, path))


def test_repa_is_not_run_with_the_time_of_sit(tmp_path: Path) -> None:
    source, target = tmp_path / "repa.pt", tmp_path / "net.safetensors"
    torch.save({"ema": repa_state(None)}, source)
    sit = BackboneSettings(family="sit", config=CONFIG)
    done = convert(str(source), target, "safetensors", backbone=sit)
    assert "REPA's, not the official SiT; set diffusion.time to sigma" in str(done.note)
    for path in (source, target):
        with pytest.raises(
            CheckpointError, match=r"time: sigma, as REPA.* diffusion\.time: sit\."
        ):
            schedsearch.load_backbone(section(path))
        sigma = {"process": "flow", "time": "sigma"}
        net = schedsearch.load_backbone({"backbone": section(path), "diffusion": sigma})
        with pytest.raises(CheckpointError, match=r"as REPA.* diffusion\.time: sit\."):
            schedsearch.sample(
                net, schedsearch.ExitSchedule.flat(4), diffusion={**sigma, "time": "sit"}
            )
    note = convert(str(source), tmp_path / "plain.pt", "official", backbone=sit).note
    assert "plain.pt does not say that it is REPA's" in str(note)


@pytest.mark.parametrize(
    ("args", "key", "message"),
    [
        ({"path_type": "cosine"}, None, r"path 'cosine' \(path_type\).* linear path"),
        ({"path_type": "GVP"}, None, "path 'gvp'"),
        ({}, "blocks.0.attn.q_norm.weight", r"qk_norm \(blocks\.0\.attn\.q_norm\.weight\)"),
        ({}, "projector.0.weight", "1 unexpected: projector"),
    ],
)
def test_what_sit_does_not_have_is_refused_by_name(
    tmp_path: Path, args: dict[str, str], key: str | None, message: str
) -> None:
    state = make_state(learn_sigma=False)
    if key is not None:
        state[key] = torch.ones(2)
    path = tmp_path / "net.pt"
    torch.save({"ema": state, "args": argparse.Namespace(**args)}, path)
    with pytest.raises(CheckpointError, match=message):
        load_weights(SiT(**CONFIG, learn_sigma=False), path)


def test_a_sit_is_recognised_by_its_name_or_by_repa_alone() -> None:
    with torch.device("meta"):
        plain = SiT(patch_size=8, hidden_size=384, depth=12, num_heads=6).state_dict()
    weights = Weights(path=Path("net.pt"), state=dict(plain))
    assert recognise(weights).name == "DiT-S/8"
    assert recognise(weights, "SiT-S/8").name == "SiT-S/8"
    with pytest.raises(CheckpointError, match="not a SiT-B/8: by its shapes it is a SiT"):
        recognise(weights, "SiT-B/8")
    repa = {**plain, "projectors.0.0.weight": torch.ones(1)}
    assert recognise(Weights(path=Path("net.pt"), state=repa)).name == "SiT-S/8"
    converted = Weights(path=Path("net.pt"), state=dict(plain), claims={TIME: "sigma"})
    assert recognise(converted).name == "SiT-S/8"


# ---- "looks like a SiT" ------------------------------------------------------------------------


def test_zero_variances_are_a_hint_and_no_decision(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "sit.safetensors"
    save_file(make_state(), path)
    with caplog.at_level(logging.WARNING):
        load_weights(net := DiT(**CONFIG), path)
    assert "looks like a SiT" in caplog.text
    assert type(net) is DiT
    assert run(net.eval()).shape[1] == 8, "it stays the DiT that was asked for"
    assert file_looks_like_sit(path)


@pytest.mark.parametrize("shape", [(), (32,), (0, 16)])
def test_a_last_layer_of_another_shape_says_nothing(shape: tuple[int, ...]) -> None:
    state = {LAST_WEIGHT: torch.zeros(shape), PATCHES: torch.zeros(16, 0, 2, 2)}
    assert has_variances(state) is None
    assert not variances_are_zero(state)


@pytest.mark.parametrize("kind", ["trained", "new", "no variances", "sit"])
def test_other_files_give_no_hint(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "net.safetensors"
    states = {
        "trained": make_state(zero_variances=False),
        "new": DiT(**CONFIG).state_dict(),
        "no variances": make_state(learn_sigma=False),
        "sit": make_state(),
    }
    save_file(dict(states[kind]), path)
    arguments = {**CONFIG, "learn_sigma": kind != "no variances"}
    with caplog.at_level(logging.WARNING):
        load_weights(SiT(**arguments) if kind == "sit" else DiT(**arguments), path)
    assert "SiT" not in caplog.text
    assert file_looks_like_sit(path) == (kind == "sit")


def test_files_that_only_torch_reads_are_left_alone(tmp_path: Path) -> None:
    state = make_state()
    torch.save(state, tmp_path / "sit.pt")
    save_file({k: v.bfloat16() for k, v in state.items()}, tmp_path / "bf16.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(b"not a file")
    assert not any(map(file_looks_like_sit, tmp_path.iterdir()))
    assert variances_are_zero(state)


def test_conversion(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = tmp_path / "sit.safetensors"
    state = make_state()
    save_file(state, source)
    dit = BackboneSettings(family="dit", config=CONFIG)
    with caplog.at_level(logging.WARNING):
        convert(str(source), tmp_path / "dit.pt", "official", backbone=dit)
    assert "looks like a SiT" in caplog.text
    sit = BackboneSettings(family="sit", config=CONFIG)
    caplog.clear()
    convert(str(source), tmp_path / "sit.pt", "official", backbone=sit)
    assert caplog.text == ""
    again = torch.load(tmp_path / "sit.pt", weights_only=True)
    assert again.keys() == state.keys()
    with pytest.raises(ConfigError, match="no class for a SiT"):
        convert(str(source), tmp_path / "folder", "diffusers", backbone=sit)


def test_the_module_needs_no_torch() -> None:
    import subprocess

    code = (
        "import sys, schedsearch.backbones.weights.sit_files as s; "
        "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_saved_weights_load_again(tmp_path: Path) -> None:
    net = schedsearch.load_backbone({"family": "sit", "config": CONFIG})
    assert isinstance(net, SiT)
    save_weights(net, tmp_path / "net.safetensors")
    again = schedsearch.load_backbone(section(tmp_path / "net.safetensors"))
    assert torch.equal(run(again), run(net))
