"""The network behind the table ``uvit-3003``: pretrained, then tuned once for all schedules.

6 + 1 + 6 blocks of width 64 on the 8 x 8 digits, class-conditional, v-prediction.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from safetensors import safe_open
from torch import nn

from schedsearch.backbones.weights.checkpoint import save_weights
from schedsearch.config import dump_settings, read_settings
from schedsearch.exceptions import ConfigError, SchedSearchError
from schedsearch.files.atomic import write_text
from schedsearch.files.yaml_writer import dump_yaml
from schedsearch.schedules.exit_rules import RandomScheduleExits
from schedsearch.schedules.space import SearchSpace
from schedsearch.settings import StudySettings
from schedsearch.workers.loading import load_trainer
from schedsearch.workers.progress import FileProgress
from schedsearch.workers.workbench import open_workbench

SPACE = SearchSpace(1, 6, 10)
NUM_SAMPLES = 500
PRETRAINING_STEPS, PRETRAINING_LR = 8_000, 1.5e-3
SHARED_STEPS = 3_000

PRETRAINED, SHARED = "pretrained.safetensors", "shared.safetensors"
CPU_CLOCK = "CPU, one thread"
"""Clock of the seconds of the shared fine-tune, in the header of its weights."""
WALL_CLOCK = "wall, since the last start"
"""The same for weights whose header names no clock: what was kept before it did."""


def settings_of(folder: Path, weights: str) -> StudySettings:
    """The study of the table, from the weights of one of its stages.

    Args:
        folder: Where the weights lie; the study is written there too, for people.
        weights: ``PRETRAINED`` or ``SHARED``.
    """
    text = dump_yaml(
        {
            "name": "schedulebench_uvit",
            "backbone": {
                "family": "uvit",
                "config": {
                    "img_size": 8,
                    "patch_size": 2,
                    "in_chans": 1,
                    "embed_dim": 64,
                    "depth": 12,
                    "num_heads": 4,
                    "num_classes": 10,
                },
                "checkpoint": weights,
            },
            "diffusion": {"betas": "linear", "prediction": "v"},
            "data": {"source": "digits"},
            "space": {"num_intervals": 10, "min_depth": 1, "max_depth": 6},
            "recipe": {
                "num_steps": SHARED_STEPS,
                "batch_size": 64,
                "lr": 1.0e-3,
                "lr_schedule": "cosine",
                "ema_decay": 0.995,
                "lambda_weighting": {"kind": "none"},
                "label_dropout": 0.0,
            },
            "solver": {"name": "dpm_solver", "num_steps": 20},
            "evaluation": {
                "features": "digits",
                "num_samples": NUM_SAMPLES,
                "batch_size": 100,
                "latency_batch": 32,
            },
            "search": {"n_trials": 60},
        }
    )
    path = folder / f"space-{Path(weights).stem}.yaml"
    write_text(path, text)
    return read_settings(path)


def pretrain(folder: Path) -> None:
    """Train the network at full depth, unless its weights or the shared ones are there."""
    from trainers.pretraining.uvit import main as pretrain_uvit

    if (folder / PRETRAINED).is_file() or (folder / SHARED).is_file():
        return
    flags = (
        "--data digits --embed-dim 64 --depth 12 --num-heads 4 --patch-size 2 --prediction v "
        f"--label-dropout 0 --steps {PRETRAINING_STEPS} --lr {PRETRAINING_LR}"
    )
    if code := pretrain_uvit([*flags.split(), "--output", str(folder / PRETRAINED)]):
        raise SchedSearchError(f"The pretraining ended with {code}; its messages say why.")


def share(folder: Path, note: Callable[[str], None]) -> None:
    """Fine-tune once on random monotone schedules, unless those weights are there."""
    if (folder / SHARED).is_file():
        return
    bench = open_workbench(
        dump_settings(settings_of(folder, PRETRAINED)), str(folder / "reference")
    )
    recipe = bench.settings.recipe
    progress = FileProgress(folder, save_every=recipe.save_every)
    net = load_trainer(bench.settings.trainer).finetune(
        bench.fresh_backbone(),
        RandomScheduleExits(SPACE),
        bench.source,
        bench.process,
        recipe,
        progress,
        bench.settings.search.seed,
    )
    seconds = progress.cpu_seconds
    note(f"shared fine-tune: {seconds:.0f} CPU s, loss {progress.last_loss}")
    save_weights(
        cast(nn.Module, net),
        folder / SHARED,
        {
            "exits": "random monotone schedules",
            "seconds": f"{seconds:.1f}",
            "clock": CPU_CLOCK,
        },
    )
    progress.done()


def sunk_cost(folder: Path) -> dict[str, Any]:
    """What the shared fine-tune took, for the protocol of the packed table.

    Raises:
        ConfigError: If its weights are missing or do not say.
    """
    path = folder / SHARED
    if not path.is_file():
        raise ConfigError(f"{path} is missing; it belongs to the rows and says what it cost.")
    with safe_open(path, framework="pt") as file:
        header = file.metadata() or {}
    if "seconds" not in header:
        raise ConfigError(f"The header of {path} needs `seconds`, what its fine-tune took.")
    return {
        "shared_seconds": float(header["seconds"]),
        "shared_seconds_clock": header.get("clock", WALL_CLOCK),
        "not_charged": "the shared fine-tune: it makes every trial cheap, for all alike",
    }
