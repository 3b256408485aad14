"""Rules for the backbone section: which network, its arguments and its weights."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Annotated

from pydantic import Field

from schedsearch.config.import_strings import looks_like_import_string, why_not_importable
from schedsearch.config.paths import Paths, why_not_a_file
from schedsearch.config.problems import Findings, nearest, nearest_or_list
from schedsearch.config.validation import validate
from schedsearch.settings import BackboneSettings, Count

FAMILIES = ("dit",)
"""Families that need no import string."""

PACKAGE_PREFIX = "package:"
"""Marks a checkpoint that ships in ``schedsearch/pretrained``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DitArguments:
    """Arguments of a DiT by their official names, with the official defaults (DiT-XL/2)."""

    input_size: Count = 32
    patch_size: Count = 2
    in_channels: Count = 4
    hidden_size: Count = 1152
    depth: Count = 28
    num_heads: Count = 16
    mlp_ratio: Annotated[float, Field(gt=0)] = 4.0
    class_dropout_prob: Annotated[float, Field(ge=0, lt=1)] = 0.1
    num_classes: Annotated[int, Field(ge=0)] = 1000
    learn_sigma: bool = True


REGISTRY: dict[str, dict[str, int]] = {  # DiT, Table 1
    f"DiT-{size}/{patch}": {
        "depth": depth,
        "hidden_size": width,
        "patch_size": patch,
        "num_heads": heads,
    }
    for size, (depth, width, heads) in {
        "S": (12, 384, 6),
        "B": (12, 768, 12),
        "L": (24, 1024, 16),
        "XL": (28, 1152, 16),
    }.items()
    for patch in (2, 4, 8)
}
"""Arguments that a registry name fixes."""


def dit_arguments(backbone: BackboneSettings) -> DitArguments | None:
    """All arguments of a DiT, or None for a class of someone else.

    The section must have passed :func:`check_backbone`.
    """
    if backbone.name is None and backbone.family != "dit":
        return None
    fixed = {} if backbone.name is None else REGISTRY[backbone.name]
    return DitArguments(**{**backbone.config, **fixed})


def num_exit_blocks_of(backbone: BackboneSettings) -> int | None:
    """Blocks that a schedule may skip; None where only the class itself can tell."""
    arguments = dit_arguments(backbone)
    return None if arguments is None else arguments.depth


def check_backbone(backbone: BackboneSettings, findings: Findings, paths: Paths) -> None:
    """Check that the section names one network, fitting arguments and existing weights."""
    if _check_choice(backbone, findings, paths) and (
        backbone.name is not None or backbone.family == "dit"
    ):
        _check_dit(backbone, findings)
    _check_checkpoint(backbone, findings, paths)


def _check_choice(backbone: BackboneSettings, findings: Findings, paths: Paths) -> bool:
    name, family = backbone.name, backbone.family
    if (name is None) == (family is None):
        findings.add(
            ("backbone",) if name is None else ("backbone", "family"),
            "needs exactly one of name and family, got "
            + ("neither" if name is None else f"name {name!r} and family {family!r}"),
            "write name: DiT-XL/2, or family: dit with config",
        )
        return False
    if name is not None:
        if name not in REGISTRY:
            remedy = nearest_or_list(name, list(REGISTRY))
            findings.add(("backbone", "name"), f"unknown backbone {name!r}", remedy)
            return False
        for key in backbone.config:
            if key in REGISTRY[name]:
                findings.add(
                    ("backbone", "config", key),
                    f"{name} fixes {key} to {REGISTRY[name][key]}",
                    "remove the key, or use family: dit instead of name",
                )
        return True
    assert family is not None
    if family in FAMILIES:
        return True
    if not looks_like_import_string(family):
        remedy = nearest(family, FAMILIES) or "write dit, or package.module:Class"
        findings.add(("backbone", "family"), f"unknown family {family!r}", remedy)
        return False
    if paths.check_disk and (broken := why_not_importable(family)) is not None:
        findings.add(("backbone", "family"), *broken)
    return True


def _check_dit(backbone: BackboneSettings, findings: Findings) -> None:
    at = ("backbone", "config")
    valid, _ = validate(DitArguments, dict(backbone.config), at, findings)
    if not valid or findings.touches(at):
        return
    dit = dit_arguments(backbone)
    assert dit is not None

    def key_of(*names: str) -> tuple[str, ...]:
        """Where the mistake stands: the first of the arguments that the file sets."""
        return (*at, next((name for name in names if name in backbone.config), ""))

    if dit.input_size % dit.patch_size:
        findings.add(
            key_of("patch_size", "input_size"),
            f"patch_size must divide input_size, got {dit.patch_size} and {dit.input_size}",
        )
    if dit.hidden_size % dit.num_heads:
        findings.add(
            key_of("num_heads", "hidden_size"),
            f"num_heads must divide hidden_size, got {dit.num_heads} and {dit.hidden_size}",
        )
    if dit.hidden_size % 4:
        findings.add(
            key_of("hidden_size"),
            f"hidden_size must be divisible by 4, got {dit.hidden_size}",
            "the position embedding holds sine and cosine for each of two axes",
        )


def _check_checkpoint(backbone: BackboneSettings, findings: Findings, paths: Paths) -> None:
    checkpoint, at = backbone.checkpoint, ("backbone", "checkpoint")
    if checkpoint is None or not paths.check_disk:
        return
    if checkpoint.startswith(PACKAGE_PREFIX):
        name = checkpoint.removeprefix(PACKAGE_PREFIX)
        if name not in (shipped := shipped_weights()):
            remedy = nearest_or_list(name, shipped) if shipped else None
            findings.add(at, f"no weights named {name!r} ship with schedsearch", remedy)
        return
    if (reason := why_not_a_file(paths.absolute(at, checkpoint))) is not None:
        findings.add(at, reason, "a relative path counts from the folder of the file")


def shipped_weights() -> list[str]:
    """Names of the weights in ``schedsearch/pretrained``."""
    folder = resources.files("schedsearch") / "pretrained"
    return sorted(p.name for p in folder.iterdir() if p.name.endswith(".safetensors"))
