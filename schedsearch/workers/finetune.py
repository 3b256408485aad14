"""A fine-tune in a worker process: the study's trainer, its log and its saved state."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from schedsearch.backbones.wrapped import ADAPTERS
from schedsearch.exceptions import ConfigError
from schedsearch.methods.exits.with_adapters import WithAdapters
from schedsearch.schedules.exit_rules import RandomScheduleExits, ScheduleExits
from schedsearch.workers.failures import note_failure
from schedsearch.workers.loading import load_trainer

if TYPE_CHECKING:
    from torch import nn

    from schedsearch.protocols import Backbone, ExitRule
    from schedsearch.schedules.exit_schedule import ExitSchedule
    from schedsearch.settings import RecipeSettings
    from schedsearch.workers.progress import FileProgress
    from schedsearch.workers.workbench import Workbench


def finetune(
    bench: Workbench,
    schedule: ExitSchedule | None,
    progress: FileProgress,
    seed: int,
    *,
    net: Backbone | None = None,
    trainer: str | None = None,
    recipe: RecipeSettings | None = None,
) -> Backbone:
    """Fine-tune a copy of the pretrained network; continue where an earlier attempt stopped.

    Args:
        bench: Of the study.
        schedule: To tune for; None tunes on random schedules of the space.
        progress: Log and saved state.
        seed: Of batches, noise and timesteps; equal seeds give every schedule the same ones.
        net: Network to train in place; None takes a copy of the pretrained one.
        trainer: Import string; None takes the study's.
        recipe: None takes the study's.

    Returns:
        The EMA network.

    Raises:
        TrialError: If the loss is not finite.
        ConfigError: If the trainer drops exit adapters.
        OSError: If the disk fails.
    """
    exits: ExitRule
    if schedule is None:
        exits = RandomScheduleExits(bench.settings.space.build())
    else:
        exits = ScheduleExits(schedule)
    start = bench.fresh_backbone() if net is None else net
    try:
        found = load_trainer(trainer or bench.settings.trainer).finetune(
            start,
            exits,
            bench.source,
            bench.process,
            recipe or bench.settings.recipe,
            progress,
            seed,
        )
        if isinstance(start, WithAdapters) and not _holds_adapters(found):
            raise ConfigError(
                f"recipe.start: adapters needs a trainer that keeps them, but "
                f"{trainer or bench.settings.trainer} returned a network without. Return the "
                "network that it was given or its average, or set recipe.start to plain."
            )
    except Exception:
        note_failure(progress)
        raise
    return found


def _holds_adapters(net: Backbone) -> bool:
    return any(name.startswith(ADAPTERS) for name in cast("nn.Module", net).state_dict())
