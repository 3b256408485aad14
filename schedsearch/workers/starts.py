"""Networks of a study with exit adapters, where its fine-tunes start from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from safetensors import SafetensorError
from safetensors.torch import load_file

from schedsearch.backbones.weights.checkpoint import load_weights
from schedsearch.exceptions import CheckpointError, ConfigError
from schedsearch.methods.exits.with_adapters import WithAdapters, early_exits
from schedsearch.protocols import StagedBackbone
from schedsearch.runs.checks.own_weights import check_own_weights
from schedsearch.runs.starts.files import StartFiles

if TYPE_CHECKING:
    from torch import Tensor, nn

    from schedsearch.protocols import Backbone
    from schedsearch.runs.folder import RunFolder
    from schedsearch.schedules.exit_schedule import ExitSchedule
    from schedsearch.workers.workbench import Workbench


def start_network(bench: Workbench, folder: RunFolder, schedule: ExitSchedule) -> Backbone:
    """The network that a schedule's fine-tune starts from, to be trained.

    Raises:
        CheckpointError: If the adapters are damaged or gone.
        StorageError: If the run asks for adapters, and the check is missing.
    """
    exits = exits_with_adapters(bench, folder, schedule)
    return adapted_network(bench, folder, exits) if exits else bench.fresh_backbone()


def finished_network(
    bench: Workbench, folder: RunFolder, schedule: ExitSchedule, weights: Path
) -> Backbone:
    """The network that a schedule's fine-tune left, in eval mode.

    Raises:
        CheckpointError: If the file is missing or belongs to another model.
        StorageError: If it belongs to another run or schedule, or the check of adapters that
            the run asks for is missing.
    """
    check_own_weights(folder, weights, schedule)
    exits = exits_with_adapters(bench, folder, schedule)
    if not exits:
        return bench.backbone_with(weights)
    net = WithAdapters.of(bench.fresh_backbone(), exits)
    load_weights(net, weights)
    return cast("Backbone", net.eval())


def timed_network(bench: Workbench, folder: RunFolder | None) -> Backbone:
    """The network whose latencies are those of the trials, for timing only.

    Args:
        bench: Of the study.
        folder: The run folder; None where there is none yet.
    """
    settings = bench.settings
    if settings.recipe.start == "plain":
        return bench.backbone
    if folder is not None and not StartFiles(folder, settings).may_use_adapters():
        return bench.backbone
    # NOTE: The numbers in a map do not change its time.
    net = WithAdapters.of(bench.pretrained, exits_of_space(bench))
    return cast("Backbone", net.eval())


def exits_with_adapters(
    bench: Workbench, folder: RunFolder, schedule: ExitSchedule
) -> tuple[int, ...]:
    """Exits of a schedule that run through adapters; none where the run starts plain.

    Raises:
        StorageError: If the run asks for adapters, and the check is missing.
    """
    if not StartFiles(folder, bench.settings).use_adapters():
        return ()
    return early_exits_of(schedule, bench.backbone)


def early_exits_of(schedule: ExitSchedule, net: Backbone) -> tuple[int, ...]:
    """Depths of a schedule below full depth."""
    return tuple(sorted(set(schedule.depths) - {net.num_exit_blocks}))


def exits_of_space(bench: Workbench) -> tuple[int, ...]:
    """Exit depths of the space below full depth.

    Raises:
        ConfigError: If the network cannot run block by block, or the space has no such exit.
    """
    net = bench.backbone
    if not isinstance(net, StagedBackbone):
        raise ConfigError(
            f"recipe.start: adapters runs the network block by block, but {type(net).__name__} "
            "cannot: it lacks open, run and close of schedsearch.protocols.StagedBackbone. Add "
            "them, or set recipe.start to plain."
        )
    found = [depth for depth in early_exits(net) if depth >= bench.settings.space.min_depth]
    if not found:
        raise ConfigError(
            "recipe.start: adapters needs exits below full depth, but the space has none. Set "
            "recipe.start to plain."
        )
    return tuple(found)


def adapted_network(bench: Workbench, folder: RunFolder, exits: tuple[int, ...]) -> Backbone:
    """A copy of the pretrained network with fitted adapters at some exits, in eval mode.

    Raises:
        CheckpointError: If the adapters are damaged or gone.
    """
    maps = read_adapters(bench, folder)
    fresh = cast("nn.Module", bench.fresh_backbone())
    like = next(fresh.parameters())
    net = WithAdapters(fresh, {depth: maps[depth].to(like) for depth in exits})
    return cast("Backbone", net.eval())


def read_adapters(bench: Workbench, folder: RunFolder) -> Mapping[int, Tensor]:
    """The fitted adapters of a run, by exit depth.

    Raises:
        CheckpointError: If they are damaged or gone.
    """
    path = folder.adapters
    try:
        if not StartFiles(folder, bench.settings).has_adapters():
            raise ValueError("it is not the file that was written")
        return {int(depth): numbers for depth, numbers in load_file(path).items()}
    except (OSError, SafetensorError, ValueError) as error:
        raise CheckpointError(
            f"Cannot read exit adapters from {path}: {error}. Run the same command again; they "
            "are fitted again."
        ) from error
