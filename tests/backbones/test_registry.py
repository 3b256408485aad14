import pytest
import torch
from torch import Tensor, nn

from schedsearch.backbones.guidance import null_label_of
from schedsearch.backbones.registry import build_backbone, family_of
from schedsearch.backbones.weights.checkpoint import fingerprint
from schedsearch.config.backbone_arguments import REGISTRY
from schedsearch.exceptions import ConfigError
from schedsearch.settings import BackboneSettings

TINY = {
    "input_size": 8,
    "in_channels": 1,
    "hidden_size": 16,
    "depth": 2,
    "num_heads": 2,
    "num_classes": 3,
}


class Foreign(nn.Module):
    """What a user might bring."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        if width > 100:
            raise ValueError("width is at most 100")
        self.num_exit_blocks, self.in_shape, self.num_classes = 3, (1, 8, 8), None
        self.scale = nn.Parameter(torch.randn(width))

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, exit_depth: int | Tensor
    ) -> Tensor:
        return x


class NoExit(Foreign):
    def forward(self, x: Tensor, t: Tensor, y: Tensor | None) -> Tensor:  # type: ignore[override]
        return x


class NoShape(Foreign):
    def __init__(self) -> None:
        super().__init__()
        self.in_shape = 8


class NotAModule:
    pass


def test_registry_holds_the_official_sizes() -> None:
    assert list(REGISTRY) == [
        *(f"DiT-{size}/{patch}" for size in ("S", "B", "L", "XL") for patch in (2, 4, 8)),
        *(f"SiT-{size}/{patch}" for size in ("S", "B", "L", "XL") for patch in (2, 4, 8)),
        *(f"U-ViT-{size}/{patch}" for size in ("S", "S-deep", "M", "L", "H") for patch in (2, 4)),
    ]
    family, sizes = REGISTRY["DiT-XL/2"]
    assert family == "dit"
    assert dict(sizes) == {"hidden_size": 1152, "depth": 28, "num_heads": 16, "patch_size": 2}
    assert REGISTRY["DiT-S/8"][1]["patch_size"] == 8
    family, sizes = REGISTRY["U-ViT-S-deep/2"]
    assert family == "uvit"
    assert dict(sizes) == {"embed_dim": 512, "depth": 16, "num_heads": 8, "patch_size": 2}
    assert REGISTRY["U-ViT-H/4"][1]["patch_size"] == 4


def test_name_with_the_arguments_that_it_leaves_open() -> None:
    with torch.device("meta"):
        net = build_backbone(BackboneSettings(name="DiT-S/4", config={"num_classes": 5}))
    assert net.num_exit_blocks == 12
    assert net.in_shape == (4, 32, 32)
    assert net.num_classes == 5


def test_sizes_beyond_all_memory_are_named() -> None:
    sizes = {"hidden_size": 10**9, "num_heads": 1, "depth": 1}
    with pytest.raises(ConfigError, match="Out of memory with the sizes of the section backbone"):
        build_backbone(BackboneSettings(family="dit", config=sizes))


@pytest.mark.parametrize(
    ("name", "config", "num_exit_blocks", "in_shape", "num_classes", "null_label"),
    [
        ("U-ViT-S/4", {}, 6, (3, 64, 64), None, None),  # CelebA
        ("U-ViT-S/2", {"num_classes": 10}, 6, (3, 32, 32), 10, None),
        ("U-ViT-M/4", {}, 8, (3, 64, 64), 1000, None),  # ImageNet-64
        ("U-ViT-L/2", {}, 10, (4, 32, 32), 1000, 1000),  # ImageNet-256
        ("U-ViT-H/2", {}, 14, (4, 32, 32), 1000, 1000),
        ("U-ViT-L/4", {"in_chans": 3, "num_classes": 1000}, 10, (3, 64, 64), 1000, None),
        ("U-ViT-H/4", {"null_class": False}, 14, (4, 64, 64), 1001, None),
        ("U-ViT-S-deep/2", {"img_size": 32, "in_chans": 4}, 8, (4, 32, 32), None, None),
    ],
)
def test_u_vit_names_stand_for_the_released_models(
    name: str,
    config: dict[str, object],
    num_exit_blocks: int,
    in_shape: tuple[int, int, int],
    num_classes: int | None,
    null_label: int | None,
) -> None:
    with torch.device("meta"):
        net = build_backbone(BackboneSettings(name=name, config=config))
    assert (net.num_exit_blocks, net.in_shape) == (num_exit_blocks, in_shape)
    assert (net.num_classes, null_label_of(net)) == (num_classes, null_label)
    assert ("final_layer.weight" in net.state_dict()) == ("-H/" not in name)


def test_families_build_the_same_everywhere() -> None:
    config = {"img_size": 8, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2}
    settings = BackboneSettings(family="uvit", config=config)
    assert family_of(settings) == family_of(BackboneSettings(name="U-ViT-L/2")) == "uvit"
    net = build_backbone(settings)
    assert fingerprint(net) == fingerprint(build_backbone(settings))
    with torch.no_grad():
        image = net(torch.ones(1, 3, 8, 8), torch.tensor([500.0]), None, exit_depth=0)
    assert image.shape == (1, 3, 8, 8)


def test_random_weights_are_the_same_everywhere_and_leave_the_global_seed_alone() -> None:
    settings = BackboneSettings(family="dit", config=TINY)
    before = torch.random.get_rng_state()
    first = fingerprint(build_backbone(settings))
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(1234)
    assert fingerprint(build_backbone(settings)) == first


def test_import_string() -> None:
    settings = BackboneSettings(family=f"{__name__}:Foreign", config={"width": 6})
    net = build_backbone(settings)
    assert net.scale.shape == (6,)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (BackboneSettings(), "exactly one of name and family, got neither"),
        (BackboneSettings(name="DiT-S/2", family="dit"), "exactly one of name and family"),
        (BackboneSettings(name="DiT-XL2"), "did you mean 'DiT-XL/2'"),
        (BackboneSettings(name="UViT-L/2"), "did you mean 'U-ViT-L/2'"),
        (BackboneSettings(name="DiT-S/4", config={"depth": 2}), "DiT-S/4 fixes depth to 12"),
        (BackboneSettings(family="u-vit"), "did you mean 'uvit'"),
        (BackboneSettings(family="uvit", config={"in_channels": 8}), "did you mean 'in_chans'"),
        (BackboneSettings(family="uvit", config={"null_class": True}), "num_classes >= 2"),
        (BackboneSettings(family="ditt"), "did you mean 'dit'"),
        (BackboneSettings(family="dit", config={"hiden_size": 8}), "did you mean 'hidden_size'"),
        (BackboneSettings(family="dit", config={**TINY, "patch_size": 3}), "must divide"),
        (
            BackboneSettings(family="dit", config={**TINY, "depth": "2"}),
            "depth: must be an integer",
        ),
        (BackboneSettings(family="no_such_package:Net"), "no_such_package.*cannot be imported"),
        (BackboneSettings(family=f"{__name__}:Foreing"), "did you mean 'Foreign'"),
        (BackboneSettings(family=f"{__name__}:Foreign", config={"width": 101}), "at most 100"),
        (BackboneSettings(family=f"{__name__}:NoExit"), "exit_depth is missing"),
        (BackboneSettings(family=f"{__name__}:NoShape"), "in_shape.*not 8"),
        (BackboneSettings(family=f"{__name__}:NotAModule"), "not a NotAModule"),
    ],
)
def test_what_cannot_be_built_says_why(settings: BackboneSettings, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_backbone(settings)
