"""The networks that ship: their arguments, their registry names and the rules for both.

Search space files, the registry and the network classes all use these rules; no torch here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from pydantic import Field

from schedsearch.files.problems import Findings, Mistake
from schedsearch.files.validation import rules, validate
from schedsearch.settings import Count, Positive


class _Shape:
    """Input and sizes, under the argument names of the family."""

    __slots__ = ()
    shape_keys: ClassVar[tuple[str, str]]
    """The arguments that hold the channels and the side of an input."""
    width_key: ClassVar[str]
    null_class_remedy: ClassVar[str]
    """Arguments that give the model a label for "no class"."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of one input."""
        channels, side = (getattr(self, key) for key in self.shape_keys)
        return channels, side, side

    @rules
    def _sizes(self) -> Iterator[Mistake]:
        for part, whole in (("patch_size", self.shape_keys[1]), ("num_heads", self.width_key)):
            divisor, size = getattr(self, part), getattr(self, whole)
            if size % divisor:
                yield whole, f"{part} must divide {whole}, got {divisor} and {size}", None


@dataclass(frozen=True, slots=True, kw_only=True)
class DitArguments(_Shape):
    """Arguments of a DiT by their official names, with the official defaults (DiT-XL/2)."""

    shape_keys: ClassVar = ("in_channels", "input_size")
    width_key: ClassVar = "hidden_size"
    null_class_remedy: ClassVar = "num_classes and class_dropout_prob above 0"

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
    def num_exit_blocks(self) -> int:
        """Blocks that a schedule may skip."""
        return self.depth

    @property
    def num_blocks(self) -> int:
        """All blocks."""
        return self.depth

    @property
    def predicts_variance(self) -> bool:
        """Whether the output holds a variance."""
        return self.learn_sigma

    @property
    def real_classes(self) -> int:
        """Classes without "no class"; 0 for an unconditional model."""
        return self.num_classes

    @property
    def has_null_class(self) -> bool:
        """Whether a label means "no class", as guidance and label dropout need."""
        return self.num_classes > 0 and self.class_dropout_prob > 0

    @rules
    def _width(self) -> Iterator[Mistake]:
        if self.hidden_size % 4:
            reason = f"hidden_size must be divisible by 4, got {self.hidden_size}"
            yield "hidden_size", reason, "positions need a sine and a cosine for each of two axes"


@dataclass(frozen=True, slots=True, kw_only=True)
class SitArguments(DitArguments):
    """Arguments of a SiT: those of a DiT (SiT-XL/2)."""

    @property
    def predicts_variance(self) -> bool:
        """False: rows for variances are never trained, and cut off."""
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class UvitArguments(_Shape):
    """Arguments of a U-ViT by their official names and defaults; ``null_class`` is ours."""

    shape_keys: ClassVar = ("in_chans", "img_size")
    width_key: ClassVar = "embed_dim"
    null_class_remedy: ClassVar = "null_class: true and its row counted in num_classes"

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

    learn_sigma: ClassVar = False
    predicts_variance: ClassVar = False

    @property
    def num_exit_blocks(self) -> int:
        """Blocks that a schedule may skip: those of the decoder."""
        return self.depth // 2

    @property
    def num_blocks(self) -> int:
        """All blocks: encoder, middle and decoder."""
        return 2 * self.num_exit_blocks + 1

    @property
    def real_classes(self) -> int:
        """Classes without "no class"; 0 for an unconditional model."""
        return max(0, self.num_classes) - self.null_class

    @property
    def has_null_class(self) -> bool:
        """Whether a label means "no class", as guidance and label dropout need."""
        return self.null_class

    @rules
    def _rows(self) -> Iterator[Mistake]:
        if self.null_class and self.num_classes < 2:
            reason = (
                f"needs num_classes >= 2, because one row is 'no class', got {self.num_classes}"
            )
            remedy = "set num_classes to the number of classes + 1, or remove null_class"
            yield "null_class", reason, remedy


Arguments = DitArguments | UvitArguments

FAMILIES: Mapping[str, type[DitArguments] | type[UvitArguments]] = MappingProxyType(
    {"dit": DitArguments, "sit": SitArguments, "uvit": UvitArguments}
)
"""Families that ship; anything else is ``package.module:Class``."""

_DIT_SIZES = {  # depth, hidden_size, num_heads: DiT, Table 1; SiT, Table 1
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
    | _named("sit", "SiT", _DIT_SIZES, "hidden_size", "248")
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
"""Arguments of the weights that U-ViT's authors released, for keys that ``config`` leaves out.

The released ImageNet-64 model of size L/4 needs ``img_size: 64, in_chans: 3, num_classes: 1000``.
"""


def check_arguments(kind: type[Arguments], given: Mapping[str, Any]) -> None:
    """Check arguments that come from Python as those of a file are.

    Args:
        kind: The dataclass of the family.
        given: A value per argument; other names are ignored, so that ``locals()`` will do.

    Raises:
        ValueError: With every mistake.
    """
    findings = Findings("")
    names = (field.name for field in dataclasses.fields(kind))
    validate(kind, {name: given[name] for name in names}, (), findings)
    if findings.problems:
        raise ValueError("; ".join(f"{p.key}: {p.reason}" for p in findings.problems) + ".")


def merged_arguments(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments of a registry name: fixed by it, given in ``config``, or as released."""
    defaults = dict(RELEASED.get(name, {}))
    if config.get("num_classes", defaults.get("num_classes")) != defaults.get("num_classes"):
        # NOTE: For another label table the user says whether its last row is "no class".
        defaults.pop("null_class", None)
    return {**defaults, **config, **REGISTRY[name][1]}


def overridden(name: str, config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Keys of ``config`` that a registry name fixes, each with a message."""
    fixed = REGISTRY[name][1]
    return [(key, f"{name} fixes {key} to {fixed[key]}") for key in config if key in fixed]
