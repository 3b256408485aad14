"""The papers' numbers that need no trained weights, with their models.

Accelerations of the hand-made schedules (ASE, Tables 1 and 2) are in
``schedsearch.schedules.hand_made``.
"""

from __future__ import annotations

from dataclasses import dataclass

from schedsearch.settings import BackboneSettings

DIT_XL = BackboneSettings(name="DiT-XL/2")
U_VIT_CELEBA = BackboneSettings(name="U-ViT-S/4")
U_VIT_CIFAR = BackboneSettings(name="U-ViT-S/2")

DIT_SCHEDULES = ("D2-DiT", "D3-DiT", "D4-DiT", "D7-DiT")
U_VIT_SCHEDULES = ("D1-U-ViT", "D2-U-ViT", "D3-U-ViT", "D6-U-ViT")


@dataclass(frozen=True, slots=True)
class Size:
    """A model with its number of parameters in a paper, in millions."""

    name: str
    backbone: BackboneSettings
    source: str
    parameters_m: float


_DEEP = BackboneSettings(name="U-ViT-S-deep/2", config={"img_size": 32, "in_chans": 4})
"""The paper's is a text-to-image model; this one has no text tokens."""

SIZES = (
    Size("DiT-S/2", BackboneSettings(name="DiT-S/2"), "DiT, Table 4", 33),
    Size("DiT-B/2", BackboneSettings(name="DiT-B/2"), "DiT, Table 4", 130),
    Size("DiT-L/2", BackboneSettings(name="DiT-L/2"), "DiT, Table 4", 458),
    Size("DiT-XL/2", DIT_XL, "DiT, Table 4", 675),
    Size("U-ViT-S", U_VIT_CIFAR, "U-ViT, Table 1", 44),
    Size("U-ViT-S-deep", _DEEP, "U-ViT, Table 1", 58),
    Size("U-ViT-M", BackboneSettings(name="U-ViT-M/4"), "U-ViT, Table 1", 131),
    Size("U-ViT-L", BackboneSettings(name="U-ViT-L/2"), "U-ViT, Table 1", 287),
    Size("U-ViT-H", BackboneSettings(name="U-ViT-H/2"), "U-ViT, Table 1", 501),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """A model with its "GFLOPs" in a paper."""

    name: str
    backbone: BackboneSettings
    source: str
    giga: float


COSTS = (
    Cost("DiT-S/2", BackboneSettings(name="DiT-S/2"), "DiT, Table 4", 6.06),
    Cost("DiT-B/2", BackboneSettings(name="DiT-B/2"), "DiT, Table 4", 23.01),
    Cost("DiT-L/2", BackboneSettings(name="DiT-L/2"), "DiT, Table 4", 80.71),
    Cost("DiT-XL/2", DIT_XL, "DiT, Table 4", 118.64),
    Cost("U-ViT-S/2 CIFAR-10", U_VIT_CIFAR, "DeeDiff, Table 1", 22.86),
    Cost("U-ViT-S/4 CelebA-64", U_VIT_CELEBA, "DeeDiff, Table 1", 23.01),
    Cost("U-ViT-L/2 ImageNet-256", BackboneSettings(name="U-ViT-L/2"), "DeeDiff, Table 2", 142.20),
)
