"""The checks of a backbone section agree with the network itself."""

import dataclasses
import inspect
import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from schedsearch.backbones.dit import DiT
from schedsearch.backbones.guidance import learns_variance, null_label_of
from schedsearch.backbones.registry import build_backbone
from schedsearch.backbones.sit import SiT
from schedsearch.backbones.uvit import UViT
from schedsearch.config import InvalidFileError, read_settings
from schedsearch.config.backbone_arguments import (
    FAMILIES,
    REGISTRY,
    RELEASED,
    DitArguments,
    merged_arguments,
)
from schedsearch.config.backbone_rules import known_arguments, num_exit_blocks_of
from schedsearch.search.study.warm_starts import read_warm_starts
from schedsearch.settings import BackboneSettings

Edited = Callable[..., Path]
NETS = {"dit": DiT, "sit": SiT, "uvit": UViT}

DIT = (
    "family: dit",
    "input_size: 8, patch_size: 2, in_channels: 1, hidden_size: 64, depth: 10, num_heads: 4, "
    "num_classes: 10",
)
UVIT = (
    "family: uvit",
    "img_size: 8, patch_size: 2, in_chans: 1, embed_dim: 64, depth: 20, num_heads: 4, "
    "num_classes: 11, null_class: true",
)


@pytest.fixture
def uvit(edited: Edited) -> Edited:
    """Replaces pieces of the valid file after its network has become a U-ViT."""
    edited(*zip(DIT, UVIT, strict=True), ("D3-DiT", "D3-U-ViT"))
    return edited


def mistakes(path: Path) -> str:
    with pytest.raises(InvalidFileError) as caught:
        read_settings(path)
    return str(caught.value)


@pytest.mark.parametrize("family", FAMILIES)
def test_arguments_and_defaults_are_those_of_the_network(family: str) -> None:
    parameters = inspect.signature(NETS[family]).parameters.values()
    ours = dataclasses.asdict(FAMILIES[family]())
    assert {p.name: p.default for p in parameters} == ours


def test_registry_names_fix_their_arguments() -> None:
    arguments = known_arguments(BackboneSettings(name="DiT-L/4", config={"in_channels": 3}))
    assert arguments == DitArguments(
        patch_size=4, in_channels=3, hidden_size=1024, depth=24, num_heads=16
    )


def test_a_label_table_of_another_size_has_no_null_class_by_itself() -> None:
    assert set(RELEASED) <= set(REGISTRY)
    assert merged_arguments("U-ViT-L/2", {})["null_class"]
    assert merged_arguments("U-ViT-L/2", {"num_classes": 1001})["null_class"]
    assert "null_class" not in merged_arguments("U-ViT-L/2", {"num_classes": 1000})
    assert merged_arguments("U-ViT-L/2", {"num_classes": 11, "null_class": True})["null_class"]


@pytest.mark.parametrize(
    "backbone",
    [
        *(BackboneSettings(name=name) for name in REGISTRY),
        *(
            BackboneSettings(family="dit", config={"depth": 3, **config})
            for config in ({"num_classes": 0}, {"class_dropout_prob": 0.0}, {"learn_sigma": False})
        ),
        *(
            BackboneSettings(family="uvit", config={"depth": 7, **config})
            for config in (
                {"num_classes": 0},
                {"num_classes": 10},
                {"num_classes": 11, "null_class": True, "in_chans": 1, "img_size": 32},
            )
        ),
    ],
    ids=lambda backbone: backbone.name or str(dict(backbone.config)),
)
def test_what_the_rules_know_is_what_is_built(backbone: BackboneSettings) -> None:
    with torch.device("meta"):
        net = build_backbone(backbone)
    arguments = known_arguments(backbone)
    assert arguments is not None
    assert num_exit_blocks_of(backbone) == net.num_exit_blocks
    assert arguments.input_shape == net.in_shape
    assert arguments.real_classes == (net.num_classes or 0)
    usable = net.num_classes is not None and null_label_of(net) is not None
    assert arguments.has_null_class == usable
    assert arguments.predicts_variance == learns_variance(net)


def test_nothing_is_known_of_a_custom_class() -> None:
    backbone = BackboneSettings(family="my_lab.nets:Net", config={"depth": 3})
    assert known_arguments(backbone) is None
    assert num_exit_blocks_of(backbone) is None


def test_a_u_vit_is_valid_with_guidance(uvit: Edited) -> None:
    settings = read_settings(uvit(("search:", "solver: {cfg_scale: 2}\nsearch:")))
    assert num_exit_blocks_of(settings.backbone) == 10


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("family: uvit", "family: u-vit", "unknown family 'u-vit'; did you mean 'uvit'?"),
        ("family: uvit", "family: cnn", "write dit, sit, uvit, or package.module:Class"),
        ("family: uvit", "name: U-ViT-S/2", "fixes patch_size to 2; remove the key, or use "
         "family: uvit instead of name"),
        ("family: uvit", "name: U-ViT-S2", "did you mean 'U-ViT-S/2'?"),
        ("in_chans: 1", "in_channels: 1", "in_channels: unknown key; did you mean 'in_chans'?"),
        ("in_chans: 1", "learn_sigma: true", "backbone.config.learn_sigma: unknown key"),
        ("patch_size: 2", "patch_size: 3", "patch_size must divide img_size, got 3 and 8"),
        ("num_heads: 4", "num_heads: 5", "num_heads must divide embed_dim, got 5 and 64"),
        ("depth: 20, num", "depth: 1, num", "backbone.config.depth: must be >= 2, got 1"),
        ("num_classes: 11", "num_classes: -1", "backbone.config.null_class: needs num_classes"),
        ("num_classes: 11", "num_classes: -2", "num_classes: must be >= -1, got -2"),
        ("num_classes: 11", "num_classes: 8", "digits has 10 classes, got 7; set it to 11,"),
        ("in_chans: 1", "in_chans: 3", "so in_chans must be 1, got 3"),
        ("img_size: 8", "img_size: 16", "so img_size must be 8, got 16"),
        ("depth: 20, num", "depth: 19, num", "the backbone has 9 exit blocks, got 10"),
    ],
)  # fmt: skip
def test_rules_of_a_u_vit(uvit: Edited, old: str, new: str, message: str) -> None:
    assert message in mistakes(uvit((old, new)))


def test_guidance_needs_the_null_class_of_a_u_vit(uvit: Edited) -> None:
    path = uvit(
        ("num_classes: 11, null_class: true", "num_classes: 10"),
        ("search:", "solver: {cfg_scale: 2}\nsearch:"),
    )
    assert "needs a backbone with null_class: true" in mistakes(path)


def test_presets_scale_to_the_decoder(uvit: Edited) -> None:
    path = uvit(
        ("depth: 20", "depth: 12"),
        ("min_depth: 2, max_depth: 10", "min_depth: 1, max_depth: 6"),
        ("[full, D3-U-ViT]", "[full, D1-U-ViT, D3-DiT]"),
    )
    starts = {s.label: s.schedule.depths for s in read_warm_starts(read_settings(path), 6)}
    assert starts == {
        "full": (6,) * 10,
        "D1-U-ViT": (6, 6, 4, 4, 2, 2, 2, 2, 1, 1),  # the paper's own, ASE, Table 5
        "D3-DiT": (6, 6, 5, 5, 4, 4, 3, 3, 3, 3),  # the same shares of a DiT's depth
    }
    assert all(a >= b for s in starts.values() for a, b in itertools.pairwise(s))


def test_a_sit_is_a_network_of_flow_matching_and_says_its_time(edited: Edited) -> None:
    path = edited(("family: dit", "family: sit"), ("[full, D3-DiT]", "[full, D3-DiT@flow]"))
    solver = "\nsolver: {name: flow_euler, num_steps: 4}\n"
    text = path.read_text()
    path.write_text(text + solver + "diffusion: {betas: linear}\n")
    assert "diffusion.process: a SiT is trained by flow matching, got ddpm" in mistakes(path)
    path.write_text(text + solver + "diffusion: {process: flow}\n")
    assert "diffusion.time: process: flow must say how" in mistakes(path)
    path.write_text(text + solver + "diffusion: {process: flow, time: sit}\n")
    assert read_settings(path).diffusion.time == "sit"
    path.write_text(text + solver)
    assert read_settings(path).diffusion.time == "sit", "the default of a SiT"
