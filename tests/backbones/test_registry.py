import pytest
import torch
from torch import Tensor, nn

from schedsearch.backbones.checkpoint import fingerprint
from schedsearch.backbones.registry import REGISTRY, build_backbone
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
    assert len(REGISTRY) == 12
    family, sizes = REGISTRY["DiT-XL/2"]
    assert family == "dit"
    assert dict(sizes) == {"hidden_size": 1152, "depth": 28, "num_heads": 16, "patch_size": 2}
    assert REGISTRY["DiT-S/8"][1]["patch_size"] == 8


def test_name_with_overrides() -> None:
    config = {"depth": 2, "hidden_size": 16, "num_heads": 2, "num_classes": 5}
    net = build_backbone(BackboneSettings(name="DiT-S/4", config=config))
    assert net.num_exit_blocks == 2
    assert net.in_shape == (4, 32, 32)
    assert net.num_classes == 5


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
        (BackboneSettings(), "either a registry name or a family"),
        (BackboneSettings(name="DiT-S/2", family="dit"), "either a registry name or a family"),
        (BackboneSettings(name="DiT-XL2"), "did you mean 'DiT-XL/2'"),
        (BackboneSettings(family="ditt"), "did you mean 'dit'"),
        (BackboneSettings(family="dit", config={"hiden_size": 8}), "did you mean 'hidden_size'"),
        (BackboneSettings(family="dit", config={**TINY, "patch_size": 3}), "patch_size=3 must"),
        (BackboneSettings(family="dit", config={**TINY, "depth": "2"}), "cannot be built"),
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
