"""DiT in diffusers' layout, against diffusers' own class."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiTTransformer2DModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.weights.checkpoint import fingerprint, load_weights
from schedsearch.backbones.weights.conversion import convert
from schedsearch.backbones.weights.diffusers_dit import (
    diffusers_state,
    official_state,
    patch_time_embedding,
    transformer_config,
)
from schedsearch.exceptions import CheckpointError, ConfigError
from schedsearch.settings import BackboneSettings

CONFIG: dict[str, Any] = {
    "input_size": 8,
    "patch_size": 2,
    "in_channels": 4,
    "hidden_size": 32,
    "depth": 3,
    "num_heads": 4,
    "num_classes": 5,
}


def make_net(seed: int = 0, **overrides: Any) -> DiT:
    """A DiT whose outputs are of size 1 and depend on everything, as adaLN-zero's do not."""
    torch.manual_seed(seed)
    net = DiT(**{**CONFIG, **overrides}).eval()
    for name, parameter in net.named_parameters():
        nn.init.normal_(parameter, std=0.5 if "embedder" in name else 0.15)
    return net


def export(net: DiT, folder: Path, **overrides: Any) -> Path:
    """Write the folder that ``convert`` makes of a network."""
    source = folder.with_name(f"{folder.name}.pt")
    torch.save(net.state_dict(), source)
    backbone = BackboneSettings(family="dit", config={**CONFIG, **overrides})
    convert(str(source), folder, "diffusers", backbone=backbone)
    return folder


def load_diffusers(folder: Path, **options: Any) -> Any:
    return DiTTransformer2DModel.from_pretrained(folder, low_cpu_mem_usage=False, **options)


def outputs(net: Any, t: float, num_classes: int = 5) -> Tensor:
    """Either library's output for the same batch at time t, labels "no class" included."""
    channels, size = (net.in_shape[0], 8) if isinstance(net, DiT) else (net.config.in_channels, 8)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, channels, size, size, generator=generator)
    y = torch.arange(6) % (num_classes + 1)
    times = torch.full((6,), t)
    with torch.no_grad():
        if isinstance(net, DiT):
            return net(x, times, y, exit_depth=net.num_exit_blocks)
        result: Tensor = net(x, timestep=times, class_labels=y).sample
        return result


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("learn_sigma", [True, False])
@pytest.mark.parametrize("t", [0, 1, 250, 500.5, 999])
def test_diffusers_computes_the_same_once_patched(
    tmp_path: Path, t: float, *, learn_sigma: bool
) -> None:
    net = make_net(learn_sigma=learn_sigma)
    folder = export(net, tmp_path / "dit", learn_sigma=learn_sigma)
    transformer = load_diffusers(folder)
    patch_time_embedding(transformer)
    assert outputs(net, t).shape == (6, 8 if learn_sigma else 4, 8, 8)
    assert relative_error(outputs(transformer, t), outputs(net, t)) < 1e-5


def test_how_far_off_diffusers_is_without_the_patch(tmp_path: Path) -> None:
    """Why exports need the patch: the frequencies of the time embedding differ.

    Found here, relative: 0 at t = 0, 0.31 at t = 50, 0.58 at t = 500 and 1.15 at t = 999, where
    two unrelated outputs would differ by about 1.4.
    """
    net = make_net()
    transformer = load_diffusers(export(net, tmp_path / "dit"))
    errors = [relative_error(outputs(transformer, t), outputs(net, t)) for t in (0, 50, 500, 999)]
    assert errors[0] < 1e-5
    assert 0.05 < errors[1] < errors[2]
    assert min(errors[2:]) > 0.3


def test_the_folder_is_what_diffusers_writes_itself(tmp_path: Path) -> None:
    folder = export(make_net(), tmp_path / "dit")
    transformer, info = load_diffusers(folder, output_loading_info=True)
    assert not any(info.values())  # nothing missing, unexpected or of another shape
    transformer.save_pretrained(tmp_path / "theirs")
    ours, theirs = (
        load_file(path / "diffusion_pytorch_model.safetensors")
        for path in (folder, tmp_path / "theirs")
    )
    assert ours.keys() == theirs.keys()
    assert all(ours[name].equal(theirs[name]) for name in ours)
    configs = []
    for path in (folder, tmp_path / "theirs"):
        configs.append(json.loads((path / "config.json").read_text()))
        configs[-1].pop("_name_or_path", None)
    assert configs[0] == configs[1]
    assert configs[0]["_class_name"] == "DiTTransformer2DModel"
    readme = (folder / "README.md").read_text()
    assert "downscale_freq_shift = 0" in readme
    assert str(tmp_path) not in readme


def test_the_readme_s_own_lines_patch_the_model(tmp_path: Path) -> None:
    net = make_net()
    folder = export(net, tmp_path / "dit")
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(code.replace("THIS FOLDER", str(folder)), names)
    assert relative_error(outputs(names["transformer"], 500), outputs(net, 500)) < 1e-5


def test_there_and_back_is_bit_identical(tmp_path: Path) -> None:
    net, other = make_net(0), make_net(1)
    note = load_weights(other, export(net, tmp_path / "dit"))
    assert fingerprint(other) == fingerprint(net)
    assert note is not None
    assert "has diffusers' layout" in note
    assert "downscale_freq_shift" not in note  # the file says that it needs the official one


@pytest.mark.parametrize("inside", ["", "transformer"])
@pytest.mark.parametrize("pickled", [False, True])
def test_folders_of_diffusers_load(tmp_path: Path, inside: str, *, pickled: bool) -> None:
    """As on the hub: older ones hold a .bin and call the class Transformer2DModel."""
    net, other = make_net(0), make_net(1)
    folder = tmp_path / "pipeline" / inside
    load_diffusers(export(net, tmp_path / "dit")).save_pretrained(
        folder, safe_serialization=not pickled
    )
    if pickled:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(
            json.dumps({**config, "_class_name": "Transformer2DModel"})
        )
    note = load_weights(other, tmp_path / "pipeline")
    assert fingerprint(other) == fingerprint(net)
    assert note is not None
    assert "diffusers itself computes 1" in note


def test_a_state_dict_alone_is_known_by_its_keys(tmp_path: Path) -> None:
    net, other = make_net(0), make_net(1)
    torch.save(
        {f"module.{k}": v for k, v in diffusers_state(net.state_dict()).items()},
        tmp_path / "dit.pt",
    )
    note = load_weights(other, tmp_path / "dit.pt")
    assert note is not None
    assert "dit.pt has diffusers' layout" in note
    assert "the prefix 'module.' of its keys was removed" in note
    assert fingerprint(other) == fingerprint(net)


def test_copies_that_differ_are_refused(tmp_path: Path) -> None:
    """As after a fine-tune in diffusers: there is no one embedder any more."""
    state = diffusers_state(make_net().state_dict())
    name = "transformer_blocks.2.norm1.emb.timestep_embedder.linear_2.bias"
    state[name] = state[name] + 1e-3
    torch.save(state, tmp_path / "dit.pt")
    other = make_net(1)
    before = fingerprint(other)
    with pytest.raises(
        CheckpointError, match=r"one t_embedder\.mlp\.2\.bias, .*block 0 and block 2"
    ):
        load_weights(other, tmp_path / "dit.pt")
    assert fingerprint(other) == before


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        (
            "transformer_blocks.1.attn1.to_k.bias",
            r"1 missing: blocks\.1\.attn\.qkv\.bias; 2 unexp",
        ),
        (
            "transformer_blocks.1.norm1.emb.class_embedder.embedding_table.weight",
            "1 missing: y_em",
        ),
        ("proj_out_1.weight", r"1 missing: final_layer\.adaLN_modulation\.1\.weight"),
    ],
)
def test_lost_keys_are_named(tmp_path: Path, lost: str, message: str) -> None:
    state = diffusers_state(make_net().state_dict())
    del state[lost]
    torch.save(state, tmp_path / "dit.pt")
    with pytest.raises(CheckpointError, match=message):
        load_weights(make_net(1), tmp_path / "dit.pt")


@pytest.mark.parametrize(
    "part", [torch.ones(()), torch.ones(3, 3), torch.ones(16, dtype=torch.float64)]
)
def test_parts_that_cannot_be_joined_are_named(tmp_path: Path, part: torch.Tensor) -> None:
    state = diffusers_state(make_net().state_dict())
    state["transformer_blocks.1.attn1.to_k.bias"] = part
    torch.save(state, tmp_path / "dit.pt")
    with pytest.raises(
        CheckpointError, match=r"1 missing: blocks\.1\.attn\.qkv\.bias; [23] unexp"
    ):
        load_weights(make_net(1), tmp_path / "dit.pt")


def test_extra_keys_are_named() -> None:
    state = {
        **diffusers_state(make_net().state_dict()),
        "caption_projection.weight": torch.ones(1),
    }
    assert "caption_projection.weight" in official_state(state, Path("dit.pt"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"num_heads": 8}, "has num_heads 4, but the model 8. Set num_heads: 4"),
        ({"input_size": 16}, "has input_size 8, but the model 16"),
        ({"depth": 2}, r"depth: 3 \(model: 2\)"),
    ],
)
def test_what_the_config_states_must_fit(
    tmp_path: Path, overrides: dict[str, int], message: str
) -> None:
    """Heads and input size leave no trace in the weights."""
    folder = export(make_net(), tmp_path / "dit")
    with pytest.raises(CheckpointError, match=message):
        load_weights(make_net(1, **overrides), folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "is not a config of a diffusers model"),
        ("[]", "is not a config of a diffusers model"),
        ('{"_class_name": "PixArtTransformer2DModel"}', "describes PixArtTransformer2DModel; of"),
        (
            '{"_class_name": "Transformer2DModel", "norm_type": "layer_norm"}',
            "norm_type layer_norm",
        ),
    ],
)
def test_folders_of_other_models(tmp_path: Path, config: str, message: str) -> None:
    (tmp_path / "config.json").write_text(config)
    save_file({"x": torch.ones(1)}, tmp_path / "diffusion_pytorch_model.safetensors")
    with pytest.raises(CheckpointError, match=message):
        load_weights(make_net(), tmp_path)


def test_incomplete_folders(tmp_path: Path) -> None:
    folder = export(make_net(), tmp_path / "dit")
    weights = folder / "diffusion_pytorch_model.safetensors"
    shutil.copy(weights, folder / "diffusion_pytorch_model.fp16.safetensors")
    weights.unlink()
    with pytest.raises(
        CheckpointError, match=r"name one of its files: .*model\.fp16\.safetensors"
    ):
        load_weights(make_net(1), folder)
    other = make_net(1)
    load_weights(other, folder / "diffusion_pytorch_model.fp16.safetensors")
    assert fingerprint(other) == fingerprint(make_net())
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text("{}")
    with pytest.raises(CheckpointError, match="without a weight_map"):
        load_weights(make_net(1), folder)


def test_models_without_a_null_label(tmp_path: Path) -> None:
    net = make_net(class_dropout_prob=0.0, num_classes=6)
    folder = export(net, tmp_path / "dit", class_dropout_prob=0.0, num_classes=6)
    transformer = load_diffusers(folder)
    patch_time_embedding(transformer)
    assert relative_error(outputs(transformer, 300), outputs(net, 300)) < 1e-5
    assert 'no label for "no class"' in (folder / "README.md").read_text()


def test_models_that_diffusers_does_not_have() -> None:
    with pytest.raises(ConfigError, match="mlp_ratio 4, but this one has 2"):
        transformer_config(make_net(mlp_ratio=2.0))


def test_a_position_embedding_of_its_own_would_be_lost(tmp_path: Path) -> None:
    net = make_net()
    net.pos_embed += 0.1
    with pytest.raises(
        ConfigError, match=r"differs from it by up to 0\.1\. Convert them to safet"
    ):
        export(net, tmp_path / "dit")
    assert not (tmp_path / "dit").exists()
    export(make_net().bfloat16(), tmp_path / "rounded")  # rounding is no difference


@pytest.mark.parametrize("other", [nn.Linear(2, 2), None])
def test_the_patch_refuses_other_models(other: object) -> None:
    with pytest.raises(ValueError, match="no time embedding of a DiT"):
        patch_time_embedding(other)
