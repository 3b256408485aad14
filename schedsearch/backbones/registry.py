"""Builds a backbone from a registry name, a family or an import string."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from schedsearch.config.backbone_rules import check_network, known_arguments, shipped_family
from schedsearch.exceptions import ConfigError
from schedsearch.files.problems import Findings, nearest
from schedsearch.memory import within_memory
from schedsearch.settings import BackboneSettings

INIT_SEED = 0
"""Seed of random weights, so that all workers start from the same ones."""


def build_backbone(settings: BackboneSettings) -> nn.Module:
    """Build a backbone with random weights, equal in every process.

    Raises:
        ConfigError: If the settings name no backbone, the backbone cannot be built, or it does
            not meet the Backbone protocol.
    """
    findings = Findings("backbone settings")
    check_network(settings, findings)
    findings.raise_if_any()
    family, arguments = family_of(settings), known_arguments(settings)
    build = _constructor(family)
    if arguments is None:
        config = dict(settings.config)
        _check_arguments(build, config, family)
    else:
        config = dataclasses.asdict(arguments)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(INIT_SEED)
        try:
            with within_memory("the sizes of the section backbone"):
                net = build(**config)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"backbone: {family} cannot be built: {error}") from error
    return _checked(net, family)


def family_of(settings: BackboneSettings) -> str:
    """Return the family of a valid section: ``dit``, ``sit``, ``uvit`` or an import string."""
    return shipped_family(settings) or str(settings.family)


def _constructor(family: str) -> Callable[..., Any]:
    if family == "dit":
        from schedsearch.backbones.dit import DiT

        return DiT
    if family == "sit":
        from schedsearch.backbones.sit import SiT

        return SiT
    if family == "uvit":
        from schedsearch.backbones.uvit import UViT

        return UViT
    module_name, _, class_name = family.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"backbone.family {family!r}: the module {module_name!r} cannot be imported "
            f"({error}). It must be installed or on PYTHONPATH."
        ) from error
    if not hasattr(module, class_name):
        raise ConfigError(
            f"backbone.family {family!r}: {module_name} has no {class_name!r}"
            f"{_near(class_name, vars(module))}."
        )
    build: Callable[..., Any] = getattr(module, class_name)
    return build


def _check_arguments(build: Callable[..., Any], config: Mapping[str, Any], family: str) -> None:
    """Report an unknown argument together with the nearest known one."""
    try:
        parameters = inspect.signature(build).parameters
    except (TypeError, ValueError):  # NOTE: a class written in C has no signature to check
        return
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for key in config:
        if key not in parameters:
            raise ConfigError(
                f"backbone.config: {family} has no argument {key!r}{_near(key, parameters)}."
            )


def _checked(net: object, family: str) -> nn.Module:
    """Check the attributes of the Backbone protocol early, with clear messages."""
    rule = f"backbone.family {family!r} must give"
    if not isinstance(net, nn.Module):
        raise ConfigError(f"{rule} a torch.nn.Module, not a {type(net).__name__}.")
    num_exit_blocks = getattr(net, "num_exit_blocks", None)
    if not isinstance(num_exit_blocks, int) or num_exit_blocks < 1:
        raise ConfigError(f"{rule} num_exit_blocks, an integer >= 1, not {num_exit_blocks!r}.")
    in_shape = getattr(net, "in_shape", None)
    if not (
        isinstance(in_shape, tuple)
        and len(in_shape) == 3
        and all(isinstance(size, int) and size > 0 for size in in_shape)
    ):
        raise ConfigError(f"{rule} in_shape, three integers (C, H, W), not {in_shape!r}.")
    num_classes = getattr(net, "num_classes", "missing")
    if num_classes is not None and not isinstance(num_classes, int):
        raise ConfigError(f"{rule} num_classes, an integer or None, not {num_classes!r}.")
    parameters = inspect.signature(net.forward).parameters
    if "exit_depth" not in parameters and not any(
        parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()
    ):
        raise ConfigError(f"{rule} forward(x, t, y, *, exit_depth); exit_depth is missing.")
    return net


def _near(value: str, known: Iterable[str]) -> str:
    remedy = nearest(value, known)
    return f"; {remedy}" if remedy else ""
