"""Rules for the backbone section: which network, its arguments and its weights."""

from __future__ import annotations

from collections.abc import Iterator

from schedsearch.config.backbone_arguments import (
    FAMILIES,
    REGISTRY,
    Arguments,
    merged_arguments,
    overridden,
)
from schedsearch.config.checkpoint_paths import locate_weights, split_choice
from schedsearch.config.paths import PACKAGE_PREFIX, is_import_string, why_not_importable
from schedsearch.exceptions import CheckpointError
from schedsearch.files.content import why_not_a_file
from schedsearch.files.problems import FROM_FOLDER, Findings, Mistake, nearest, nearest_or_list
from schedsearch.files.validation import validate
from schedsearch.settings import BackboneSettings


def shipped_family(backbone: BackboneSettings) -> str | None:
    """``dit``, ``sit`` or ``uvit``, also by a registry name; None for a custom class."""
    family = backbone.family if backbone.name is None else REGISTRY[backbone.name][0]
    return family if family in FAMILIES else None


def known_arguments(backbone: BackboneSettings) -> Arguments | None:
    """All arguments of a network that ships, or None for a custom class.

    The section must have passed :func:`check_network`.
    """
    family = shipped_family(backbone)
    if family is None:
        return None
    if backbone.name is None:
        return FAMILIES[family](**backbone.config)
    return FAMILIES[family](**merged_arguments(backbone.name, backbone.config))


def num_exit_blocks_of(backbone: BackboneSettings) -> int | None:
    """Blocks that a schedule may skip; None for a custom class."""
    arguments = known_arguments(backbone)
    return None if arguments is None else arguments.num_exit_blocks


def num_blocks_of(backbone: BackboneSettings) -> int | None:
    """All blocks of a network, encoder of a U-ViT included; None for a custom class."""
    arguments = known_arguments(backbone)
    return None if arguments is None else arguments.num_blocks


def check_network(backbone: BackboneSettings, findings: Findings) -> bool:
    """Check the choice of the network and its arguments; return whether both are valid."""
    before = len(findings.problems)
    findings.add_all(_choice(backbone), ("backbone",))
    if len(findings.problems) == before and (family := shipped_family(backbone)) is not None:
        config = dict(backbone.config)
        if backbone.name is not None:
            config = merged_arguments(backbone.name, config)
        validate(FAMILIES[family], config, ("backbone", "config"), findings)
    return len(findings.problems) == before


def _choice(backbone: BackboneSettings) -> Iterator[Mistake]:
    name, family = backbone.name, backbone.family
    if name is None and family is None:
        remedy = "write name: DiT-XL/2, or family: dit with config"
        yield "", "needs exactly one of name and family, got neither", remedy
    elif name is not None and family is not None:
        reason = f"needs exactly one of name and family, got name {name!r} and family {family!r}"
        yield "family", reason, "remove one of them"
    elif name is not None and name not in REGISTRY:
        yield "name", f"unknown backbone {name!r}", nearest_or_list(name, list(REGISTRY))
    elif name is not None:
        remedy = f"remove the key, or use family: {REGISTRY[name][0]} instead of name"
        for key, rule in overridden(name, backbone.config):
            yield f"config.{key}", rule, remedy
    elif family not in FAMILIES and not is_import_string(str(family)):
        known = f"write {', '.join(FAMILIES)}, or package.module:Class"
        yield "family", f"unknown family {family!r}", nearest(family, FAMILIES) or known


def missing_class(backbone: BackboneSettings) -> Iterator[Mistake]:
    """The module of a custom class exists."""
    family = backbone.family
    if family is None or family in FAMILIES:
        return
    if (broken := why_not_importable(family)) is not None:
        yield "backbone.family", *broken


def missing_weights(backbone: BackboneSettings) -> Iterator[Mistake]:
    """The checkpoint exists."""
    checkpoint, at = backbone.checkpoint, "backbone.checkpoint"
    if checkpoint is None:
        return
    path = split_choice(checkpoint)[0]
    if checkpoint.startswith(PACKAGE_PREFIX) or path.is_dir():
        try:
            locate_weights(checkpoint)
        except CheckpointError as error:
            yield at, str(error).removesuffix("."), None
    elif (missing := why_not_a_file(path)) is not None:
        yield at, missing, FROM_FOLDER
