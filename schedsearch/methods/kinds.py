"""Builds the method and the network that a method file describes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from safetensors.torch import load_file
from torch import nn

from schedsearch.backbones.pruning import keep_blocks, narrow
from schedsearch.backbones.weights.checkpoint import load_weights
from schedsearch.exceptions import ConfigError
from schedsearch.methods.caches.block_cache import BlockCache
from schedsearch.methods.caches.residual_cache import ResidualCache
from schedsearch.methods.exits.similarity import SimilarityExit
from schedsearch.methods.exits.uncertainty import UncertaintyExit
from schedsearch.methods.exits.with_uncertainty import WithUncertainty
from schedsearch.methods.stitch import Stitch, Stitched
from schedsearch.methods.token_merging import TokenMerging
from schedsearch.protocols import Backbone, Method
from schedsearch.schedules.exit_schedule import ExitSchedule

CELLS = "scale_shift"
"""Name of a block cache's tensor in its weights file."""


def build_method(
    kind: str, numbers: Mapping[str, Any], weights: Path | None, num_exit_blocks: int
) -> Method:
    """Build a method.

    Args:
        kind: As in the method file.
        numbers: Its arguments.
        weights: File with what it adds to the network; read for a block cache only.
        num_exit_blocks: Of the network, for full depth.

    Raises:
        ConfigError: If the numbers are not those of the kind, or the weights are gone.
    """
    try:
        return _BUILDERS[kind](dict(numbers), weights, num_exit_blocks)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"The numbers of the method file are not those of kind {kind}: {error}. Export it "
            "again."
        ) from error
    except OSError as error:
        raise ConfigError(
            f"Cannot read {weights}: {error}. Restore it beside its file."
        ) from error


def build_network(network: Mapping[str, Any], base: Backbone, weights: Path | None) -> Backbone:
    """Build the network that a method runs on, in eval mode.

    Args:
        network: How it differs from the backbone: ``{}``; ``{keep: [...]}`` of some blocks;
            ``{heads: H, hidden: M}`` of fewer units; ``{uem: {...}}`` with an uncertainty
            module; ``{small: {...}}`` stitched to a small network, whose weights the file holds.
        base: The backbone with its pretrained weights; used up.
        weights: Weights to load; None leaves those of ``base``.

    Raises:
        ConfigError: If the network cannot be built from this backbone.
        CheckpointError: If the weights belong to another network.
    """
    device = next(cast(nn.Module, base).parameters()).device
    if "small" in network:
        import copy

        small = build_network(network["small"], copy.deepcopy(base), weights)
        return cast(Backbone, Stitched(cast(nn.Module, base), cast(nn.Module, small)).eval())
    net = cast(nn.Module, base)
    if "keep" in network:
        net = keep_blocks(net, network["keep"])
    elif "heads" in network:
        net = narrow(net, network["heads"], network["hidden"], None)
    elif "uem" in network:
        net = WithUncertainty.of(net, **network["uem"])
    if weights is not None:
        load_weights(net, weights)
    return cast(Backbone, net.to(device).eval())


def _schedule(numbers: dict[str, Any], weights: Path | None, num_exit_blocks: int) -> Method:
    return ExitSchedule(tuple(numbers["depths"]))


def _steps(numbers: dict[str, Any], weights: Path | None, num_exit_blocks: int) -> Method:
    return ExitSchedule.flat(num_exit_blocks)


def _block_cache(numbers: dict[str, Any], weights: Path | None, num_exit_blocks: int) -> Method:
    plan = numbers.pop("recompute", None)
    corrected = numbers.pop("scale_shift", False)
    cells = load_file(weights) if corrected and weights is not None else None
    return BlockCache(
        every=numbers.get("every"),
        parts=tuple(numbers["parts"]),
        recompute=None
        if plan is None
        else tuple(tuple(bit == "1" for bit in row) for row in plan),
        scale_shift=None if cells is None else cells[CELLS],
    )


def _tome(numbers: dict[str, Any], weights: Path | None, num_exit_blocks: int) -> Method:
    return TokenMerging(**{**numbers, "parts": tuple(numbers["parts"])})


def _residual(numbers: dict[str, Any], weights: Path | None, num_exit_blocks: int) -> Method:
    rescale = numbers.pop("rescale", None)
    return ResidualCache(**numbers, rescale=None if rescale is None else tuple(rescale))


_BUILDERS: Mapping[str, Callable[[dict[str, Any], Path | None, int], Method]] = {
    "schedule": _schedule,
    "steps": _steps,
    "uncertainty": lambda numbers, *_: UncertaintyExit(**numbers),
    "similarity": lambda numbers, *_: SimilarityExit(**numbers),
    "tome": _tome,
    "block_cache": _block_cache,
    "residual_cache": _residual,
    "stitch": lambda numbers, *_: Stitch(**numbers),
}
