"""The networks that ship: their arguments, their registry names, and what both say about them.

The one source for the rules of search space files and for building; imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import Field

from schedsearch.settings import Count, Positive

SizeMistake = tuple[tuple[str, ...], str, str | None]
"""Arguments that do not fit together, the rule with their values, and a remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DitArguments:
    """Arguments of a DiT by their official names, with the official defaults (DiT-XL/2)."""

    input_size: Count = 32
    patch_size: Count = 2
    in_channels: Count = 4
    hidden_size: Count = 1152
    depth: Count = 28
    num_heads: Count = 16
    mlp_ratio: Positive = 4.0
    class_dropout_prob: Annotated[float, Field(ge=0, lt=1)] = 0.1
    num_classes: Annotated[int, Field(ge=0)] = 1000
    learn_sigma: bool = True

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of one input."""
        return self.in_channels, self.input_size, self.input_size

    @property
    def shape_keys(self) -> tuple[str, str]:
        """The arguments that hold the channels and the side of an input."""
        return "in_channels", "input_size"

    @property
    def num_exit_blocks(self) -> int:
        """Blocks that a schedule may skip."""
        return self.depth

    @property
    def real_classes(self) -> int:
        """Classes without "no class"; 0 for an unconditional model."""
        return self.num_classes

    @property
    def has_null_class(self) -> bool:
        """Whether a label means "no class", as guidance and label dropout need."""
        return self.num_classes > 0 and self.class_dropout_prob > 0

    @property
    def null_class_remedy(self) -> str:
        """Arguments that give the model a label for "no class"."""
        return "num_classes and class_dropout_prob above 0"

    @property
    def learns_variance(self) -> bool:
        """Whether the model predicts a variance beside the noise."""
        return self.learn_sigma

    def size_mistakes(self) -> Iterator[SizeMistake]:
        """The sizes that do not fit together."""
        yield from _not_dividing("patch_size", self.patch_size, "input_size", self.input_size)
        yield from _not_dividing("num_heads", self.num_heads, "hidden_size", self.hidden_size)
        if self.hidden_size % 4:
            yield (
                ("hidden_size",),
                f"hidden_size must be divisible by 4, got {self.hidden_size}",
                "the position embedding holds sine and cosine for each of two axes",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class UvitArguments:
    """Arguments of a U-ViT by their official names and defaults; ``null_class`` is ours."""

    img_size: Count = 224
    patch_size: Count = 16
    in_chans: Count = 3
    embed_dim: Count = 768
    depth: Annotated[int, Field(ge=2)] = 12
    num_heads: Count = 12
    mlp_ratio: Positive = 4.0
    qkv_bias: bool = False
    qk_scale: Positive | None = None
    mlp_time_embed: bool = False
    num_classes: Annotated[int, Field(ge=-1)] = -1
    use_checkpoint: bool = False
    conv: bool = True
    skip: bool = True
    null_class: bool = False

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of one input."""
        return self.in_chans, self.img_size, self.img_size

    @property
    def shape_keys(self) -> tuple[str, str]:
        """The arguments that hold the channels and the side of an input."""
        return "in_chans", "img_size"

    @property
    def num_exit_blocks(self) -> int:
        """Blocks that a schedule may skip: those of the decoder."""
        return self.depth // 2

    @property
    def real_classes(self) -> int:
        """Classes without "no class"; 0 for an unconditional model."""
        return max(0, self.num_classes) - self.has_null_class

    @property
    def has_null_class(self) -> bool:
        """Whether a label means "no class", as guidance and label dropout need."""
        return self.null_class

    @property
    def null_class_remedy(self) -> str:
        """Arguments that give the model a label for "no class"."""
        return "null_class: true and its row counted in num_classes"

    @property
    def learns_variance(self) -> bool:
        """Whether the model predicts a variance beside the noise."""
        return False

    def size_mistakes(self) -> Iterator[SizeMistake]:
        """The sizes that do not fit together."""
        yield from _not_dividing("patch_size", self.patch_size, "img_size", self.img_size)
        yield from _not_dividing("num_heads", self.num_heads, "embed_dim", self.embed_dim)
        if self.null_class and self.num_classes < 2:
            yield (
                ("null_class",),
                f"needs num_classes >= 2, because one row is 'no class', got {self.num_classes}",
                "set num_classes to the number of classes + 1, or remove null_class",
            )


def _not_dividing(small: str, part: int, large: str, whole: int) -> Iterator[SizeMistake]:
    if whole % part:
        yield (small, large), f"{small} must divide {large}, got {part} and {whole}", None


Arguments = DitArguments | UvitArguments

FAMILIES: Mapping[str, type[DitArguments] | type[UvitArguments]] = MappingProxyType(
    {"dit": DitArguments, "uvit": UvitArguments}
)
"""Families that ship; anything else is ``package.module:Class``."""

_DIT_SIZES = {  # depth, hidden_size, num_heads: DiT, Table 1
    "S": (12, 384, 6),
    "B": (12, 768, 12),
    "L": (24, 1024, 16),
    "XL": (28, 1152, 16),
}

_UVIT_SIZES = {  # depth without the middle block, embed_dim, num_heads: U-ViT, Table 1
    "S": (12, 512, 8),
    "S-deep": (16, 512, 8),
    "M": (16, 768, 12),
    "L": (20, 1024, 16),
    "H": (28, 1152, 16),
}


def _named(
    family: str, prefix: str, sizes: Mapping[str, tuple[int, int, int]], width: str, sides: str
) -> dict[str, tuple[str, Mapping[str, Any]]]:
    return {
        f"{prefix}-{size}/{side}": (
            family,
            MappingProxyType(
                {"depth": depth, width: dim, "num_heads": heads, "patch_size": int(side)}
            ),
        )
        for size, (depth, dim, heads) in sizes.items()
        for side in sides
    }


REGISTRY: Mapping[str, tuple[str, Mapping[str, Any]]] = MappingProxyType(
    _named("dit", "DiT", _DIT_SIZES, "hidden_size", "248")
    | _named("uvit", "U-ViT", _UVIT_SIZES, "embed_dim", "24")
)
"""Registry name -> family and the arguments that the name fixes."""

_IMAGENET_LATENTS = {"in_chans": 4, "num_classes": 1001, "null_class": True}

RELEASED: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "U-ViT-S/2": {"img_size": 32},  # CIFAR-10
        "U-ViT-S/4": {"img_size": 64},  # CelebA
        "U-ViT-M/4": {"img_size": 64, "num_classes": 1000},  # ImageNet-64
        "U-ViT-L/2": {"img_size": 32, **_IMAGENET_LATENTS},  # ImageNet-256
        "U-ViT-H/2": {"img_size": 32, **_IMAGENET_LATENTS, "conv": False},
        "U-ViT-L/4": {"img_size": 64, **_IMAGENET_LATENTS},  # ImageNet-512
        "U-ViT-H/4": {"img_size": 64, **_IMAGENET_LATENTS, "conv": False},
    }
)
"""What a name stands for where ``config`` is silent: the weights that U-ViT's authors released.

The released ImageNet-64 model of size L/4 needs ``img_size: 64, in_chans: 3, num_classes: 1000``.
"""


def merged_arguments(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a registry name: what it fixes, ``config``, and the released model's."""
    defaults = dict(RELEASED.get(name, {}))
    if config.get("num_classes", defaults.get("num_classes")) != defaults.get("num_classes"):
        # Another label table says itself whether its last row is "no class".
        defaults.pop("null_class", None)
    return {**defaults, **config, **REGISTRY[name][1]}


def overridden(name: str, config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Keys of ``config`` that a registry name fixes, each with the rule that they break."""
    fixed = REGISTRY[name][1]
    return [(key, f"{name} fixes {key} to {fixed[key]}") for key in config if key in fixed]
