"""Backbones recognised by their shapes; on the meta device, so that size costs nothing."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DiTTransformer2DModel

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.registry import build_backbone
from schedsearch.backbones.weights.diffusers_dit import diffusers_state, transformer_config
from schedsearch.backbones.weights.recognition import recognise
from schedsearch.backbones.weights.weight_files import Weights
from schedsearch.config.backbone_arguments import REGISTRY
from schedsearch.exceptions import CheckpointError, ConfigError
from schedsearch.settings import BackboneSettings


def weights_of(settings: BackboneSettings, **more: Any) -> Weights:
    with torch.device("meta"):
        state = build_backbone(settings).state_dict()
    return Weights(path=Path("net.pt"), state=dict(state), **more)


@pytest.mark.parametrize("name", REGISTRY)
def test_every_registry_name_is_recognised(name: str) -> None:
    """The released weights' arguments are the defaults of their name, so nothing else is said."""
    config = {"img_size": 32} if name.startswith("U-ViT") else {}
    settings = BackboneSettings(name=name, config=config)
    found = recognise(weights_of(settings), name)
    assert found.name == name
    assert found.config.items() <= config.items()
    # A SiT has the shapes of a DiT.
    alone = recognise(weights_of(settings))
    assert alone.name == name.replace("SiT", "DiT")
    assert alone.config == found.config


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("DiT-XL/2", {"input_size": 64}),  # the released 512 x 512 model
        ("DiT-S/4", {"in_channels": 3, "num_classes": 10, "learn_sigma": False}),
        ("DiT-S/4", {"num_classes": 0}),
        ("U-ViT-S/2", {"num_classes": 10, "mlp_time_embed": True}),
        ("U-ViT-M/4", {"img_size": 32, "in_chans": 4, "conv": False, "skip": False}),
    ],
)
def test_arguments_that_a_name_leaves_open_are_read_off(name: str, config: dict[str, Any]) -> None:
    found = recognise(weights_of(BackboneSettings(name=name, config=config)))
    assert found == BackboneSettings(name=name, config=config)


def test_another_name_is_refused() -> None:
    weights = weights_of(BackboneSettings(name="DiT-S/2"))
    with pytest.raises(
        CheckpointError, match=r"not a DiT-B/2: .*DiT with hidden_size 384, depth 12"
    ):
        recognise(weights, "DiT-B/2")
    with pytest.raises(ConfigError, match="no backbone 'DiT-S/3'"):
        recognise(weights, "DiT-S/3")


def test_sizes_without_a_name_need_the_number_of_heads() -> None:
    config = {"hidden_size": 32, "depth": 2, "num_heads": 4, "input_size": 8}
    settings = BackboneSettings(family="dit", config=config)
    with pytest.raises(ConfigError, match=r"has no registry name.*--space.*number of heads"):
        recognise(weights_of(settings))
    found = recognise(weights_of(settings, stated={"num_heads": 4}))
    assert found.family == "dit"
    assert found.config.items() >= config.items()


def test_diffusers_weights_alone_leave_the_input_size_open() -> None:
    """DiT-XL/2 of 256 and of 512 pixels have the same ones."""
    state = weights_of(BackboneSettings(name="DiT-S/2")).state
    del state["pos_embed"]
    weights = Weights(path=Path("dit.pt"), state=state, is_diffusers=True)
    with pytest.raises(ConfigError, match="do not say which backbone"):
        recognise(weights)
    stated = {"num_heads": 6, "input_size": 64}
    found = recognise(Weights(path=Path("dit.pt"), state=state, is_diffusers=True, stated=stated))
    assert found == BackboneSettings(name="DiT-S/2", config={"input_size": 64})


def test_other_networks() -> None:
    weights = Weights(path=Path("net.pt"), state={"conv.weight": torch.zeros(2, 2)})
    with pytest.raises(ConfigError, match="do not say which backbone"):
        recognise(weights)


def test_a_whole_dit_xl_keeps_its_shapes_through_diffusers() -> None:
    """675 million values as on the hub: every key and shape of diffusers' own class."""
    with torch.device("meta"):
        net = DiT()
        theirs = DiTTransformer2DModel(**transformer_config(net)).state_dict()
    ours = diffusers_state(net.state_dict())
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}
