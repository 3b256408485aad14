"""Rules for the backbone section: which network, its arguments and its weights."""

from __future__ import annotations

from importlib import resources

from schedsearch.config.backbone_arguments import (
    FAMILIES,
    REGISTRY,
    Arguments,
    merged_arguments,
    overridden,
)
from schedsearch.config.checkpoint_paths import locate_weights, split_choice
from schedsearch.config.import_strings import looks_like_import_string, why_not_importable
from schedsearch.config.paths import FROM_FOLDER, Paths, why_not_a_file
from schedsearch.exceptions import CheckpointError
from schedsearch.files.problems import Findings, nearest, nearest_or_list
from schedsearch.files.validation import validate
from schedsearch.settings import BackboneSettings

PACKAGE_PREFIX = "package:"
"""Marks a checkpoint that ships in ``schedsearch/pretrained``."""


def shipped_family(backbone: BackboneSettings) -> str | None:
    """``dit`` or ``uvit``, also by a registry name; None for a class of someone else."""
    family = backbone.family if backbone.name is None else REGISTRY[backbone.name][0]
    return family if family in FAMILIES else None


def known_arguments(backbone: BackboneSettings) -> Arguments | None:
    """All arguments of a network that ships, or None for a class of someone else.

    The section must have passed :func:`check_backbone`, here and in the functions below.
    """
    family = shipped_family(backbone)
    if family is None:
        return None
    if backbone.name is None:
        return FAMILIES[family](**backbone.config)
    return FAMILIES[family](**merged_arguments(backbone.name, backbone.config))


def num_exit_blocks_of(backbone: BackboneSettings) -> int | None:
    """Blocks that a schedule may skip; None where only the class itself can tell."""
    arguments = known_arguments(backbone)
    return None if arguments is None else arguments.num_exit_blocks


def input_shape_of(backbone: BackboneSettings) -> tuple[int, int, int] | None:
    """Shape (C, H, W) of one input; None where only the class itself can tell."""
    arguments = known_arguments(backbone)
    return None if arguments is None else arguments.input_shape


def num_classes_of(backbone: BackboneSettings) -> int | None:
    """Classes, 0 for an unconditional network; None where only the class itself can tell."""
    arguments = known_arguments(backbone)
    return None if arguments is None else arguments.real_classes


def has_null_class_of(backbone: BackboneSettings) -> bool | None:
    """Whether a label means "no class"; None where only the class itself can tell."""
    arguments = known_arguments(backbone)
    return None if arguments is None else arguments.has_null_class


def learns_variance_of(backbone: BackboneSettings) -> bool | None:
    """Whether the network predicts variances; None where only the class itself can tell."""
    arguments = known_arguments(backbone)
    return None if arguments is None else arguments.learns_variance


def check_backbone(backbone: BackboneSettings, findings: Findings, paths: Paths) -> None:
    """Check that the section names one network, fitting arguments and existing weights."""
    if _check_choice(backbone, findings, paths):
        _check_arguments(backbone, findings)
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
        for key, rule in overridden(name, backbone.config):
            findings.add(
                ("backbone", "config", key),
                rule,
                f"remove the key, or use family: {REGISTRY[name][0]} instead of name",
            )
        return True
    assert family is not None
    if family in FAMILIES:
        return True
    if not looks_like_import_string(family):
        remedy = nearest(family, FAMILIES) or (
            f"write {', '.join(FAMILIES)}, or package.module:Class"
        )
        findings.add(("backbone", "family"), f"unknown family {family!r}", remedy)
        return False
    if paths.check_disk and (broken := why_not_importable(family)) is not None:
        findings.add(("backbone", "family"), *broken)
    return True


def _check_arguments(backbone: BackboneSettings, findings: Findings) -> None:
    """Check the arguments of a network that ships, one by one and then together."""
    at = ("backbone", "config")
    family = shipped_family(backbone)
    if family is None:
        return
    valid, _ = validate(FAMILIES[family], dict(backbone.config), at, findings)
    if not valid or findings.touches(at):
        return
    arguments = known_arguments(backbone)
    assert arguments is not None
    for names, reason, remedy in arguments.size_mistakes():
        # Where the mistake stands: at the first of the arguments that the file sets.
        key = next((name for name in names if name in backbone.config), "")
        findings.add((*at, key), reason, remedy)


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
    path, _ = split_choice(str(paths.absolute(at, checkpoint)))
    if not path.is_dir():
        if (reason := why_not_a_file(path)) is not None:
            findings.add(at, reason, FROM_FOLDER)
        return
    try:
        locate_weights(paths.absolute(at, checkpoint))
    except CheckpointError as error:
        findings.add(at, str(error).removesuffix("."))


def shipped_weights() -> list[str]:
    """Names of the weights in ``schedsearch/pretrained``."""
    folder = resources.files("schedsearch") / "pretrained"
    return sorted(p.name for p in folder.iterdir() if p.name.endswith(".safetensors"))
