"""A fine-tune in a worker process: the study's trainer, its log and its saved state."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from schedsearch.backbones.weights.checkpoint import save_weights
from schedsearch.backbones.wrapped import ADAPTERS
from schedsearch.exceptions import ConfigError, TrialError
from schedsearch.methods.exits.with_adapters import WithAdapters
from schedsearch.schedules.exit_rules import RandomScheduleExits, ScheduleExits
from schedsearch.workers.failures import note_failure
from schedsearch.workers.loading import load_trainer
from schedsearch.workers.stopping import training

if TYPE_CHECKING:
    from torch import nn

    from schedsearch.protocols import Backbone, ExitRule
    from schedsearch.schedules.exit_schedule import ExitSchedule
    from schedsearch.settings import RecipeSettings
    from schedsearch.workers.progress import FileProgress
    from schedsearch.workers.workbench import Workbench

DIVERGED = "diverged.safetensors"
"""The last finite EMA of a fine-tune that diverged, in the folder of its trial."""


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
    target = trainer or bench.settings.trainer
    progress.belongs_to(
        schedule="random" if schedule is None else str(schedule), seed=str(seed), trainer=target
    )
    try:
        with training():
            found = load_trainer(target).finetune(
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
                f"{target} returned a network without. Return the "
                "network that it was given or its average, or set recipe.start to plain."
            )
    except TrialError as error:
        _keep_last_finite(error, progress)
        note_failure(progress)
        raise
    except Exception:
        note_failure(progress)
        raise
    return found


def _keep_last_finite(error: TrialError, progress: FileProgress) -> None:
    """Keep the EMA of a fine-tune that diverged, to be looked at."""
    if error.network is None:
        progress.note("no finite EMA is left to keep")
        return
    path = progress.folder / DIVERGED
    save_weights(cast("nn.Module", error.network), path, {"reason": " ".join(str(error).split())})
    progress.note(f"the last finite EMA is kept as {path.name}")


def _holds_adapters(net: Backbone) -> bool:
    return any(name.startswith(ADAPTERS) for name in cast("nn.Module", net).state_dict())
