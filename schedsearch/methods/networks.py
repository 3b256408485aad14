"""Builds the network that a method file describes."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, cast

from pydantic import Field
from torch import nn

from schedsearch.backbones.pruning import keep_blocks, narrow
from schedsearch.backbones.weights.checkpoint import load_weights
from schedsearch.exceptions import ConfigError
from schedsearch.files.problems import Findings
from schedsearch.files.validation import validate
from schedsearch.methods.exits.uncertainty_module import Variant
from schedsearch.methods.exits.with_adapters import WithAdapters
from schedsearch.methods.exits.with_uncertainty import WithUncertainty
from schedsearch.methods.stitch import Stitched
from schedsearch.protocols import Backbone, ExitLayers

Count = Annotated[int, Field(ge=1)]

REMEDY = "Export the method again."
"""What helps against a damaged file."""


def build_network(network: Mapping[str, Any], base: Backbone, weights: Path | None) -> Backbone:
    """Build the network that a method runs on, in eval mode.

    Args:
        network: How it differs from the backbone: ``{}``; ``{keep: [...]}`` of some blocks;
            ``{heads: H, hidden: M}`` of fewer units; ``{uem: {...}}`` with an uncertainty
            module; ``{adapters: {exits: [...]}}`` with a map at some exits; ``{small: {...}}``
            stitched to a small network, whose weights the file holds.
        base: The backbone with its pretrained weights; used up.
        weights: Weights to load; None leaves those of ``base``.

    Raises:
        ConfigError: If the network cannot be built from this backbone, or is not described so.
        CheckpointError: If the weights belong to another network.
    """
    device = next(cast(nn.Module, base).parameters()).device
    wanted = checked(_Network, network, "network", "a method file")
    if set(network) not in _NETWORKS:
        raise ConfigError(
            "The network of a method file takes keep, uem, adapters, small, or heads and hidden, "
            f"but has {', '.join(network)}. {REMEDY}"
        )
    if wanted.small is not None:
        small = build_network(wanted.small, copy.deepcopy(base), weights)
        return cast(Backbone, Stitched(cast(nn.Module, base), cast(nn.Module, small)).eval())
    net = cast(nn.Module, base)
    if wanted.keep is not None:
        net = keep_blocks(net, wanted.keep)
    elif wanted.heads and wanted.hidden:
        net = narrow(net, wanted.heads, wanted.hidden, None)
    elif wanted.uem is not None:
        net = WithUncertainty.of(net, **asdict(wanted.uem))
    elif wanted.adapters is not None:
        net = WithAdapters.of(net, wanted.adapters.exits)
    if weights is not None:
        load_weights(net, weights)
    return cast(Backbone, net.to(device).eval())


def check_adapters(
    kind: str, numbers: Mapping[str, Any], network: Mapping[str, Any], num_exit_blocks: int
) -> None:
    """Refuse a schedule whose early exits do not all have an adapter.

    Args:
        kind: As in the method file.
        numbers: Its arguments, of the right types.
        network: How the network differs from the backbone.
        num_exit_blocks: Exit blocks of the backbone.

    Raises:
        ConfigError: If the network is not described so, or an exit has no adapter.
    """
    wanted = checked(_Network, network, "network", "a method file").adapters
    if wanted is None:
        return
    used = {int(depth) for depth in numbers["depths"]} if kind == "schedule" else set()
    if missing := sorted(used - {*wanted.exits, num_exit_blocks}):
        raise ConfigError(
            f"The network has no exit adapter for depth {', '.join(map(str, missing))}, which the "
            f"schedule uses. {REMEDY}"
        )


# ---- what stands in a file ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Uem:
    exits: ExitLayers = "decoder"
    shared: bool = False
    time: bool = True
    variant: Variant = "paper"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Adapters:
    exits: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Network:
    keep: tuple[int, ...] | None = None
    heads: Count | None = None
    hidden: Count | None = None
    uem: _Uem | None = None
    adapters: _Adapters | None = None
    small: dict[str, Any] | None = None


_NETWORKS: tuple[set[str], ...] = (
    set(),
    {"keep"},
    {"heads", "hidden"},
    {"uem"},
    {"adapters"},
    {"small"},
)


def checked(kind: Any, given: Mapping[str, Any], key: str, owner: str) -> Any:
    """Turn plain data into its type.

    Raises:
        ConfigError: With every mistake, in one line.
    """
    findings = Findings(key)
    valid, value = validate(kind, given, (key,), findings)
    if not valid:
        mistakes = [f"{p.key}: {p.reason}" for p in findings.problems]
        raise ConfigError(f"The {key} do not fit {owner}: {'; '.join(mistakes)}. {REMEDY}")
    return value
