"""A finished trial's schedule in a worker process, fine-tuned anew with another training seed."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, cast

from schedsearch.backbones.checkpoint import save_weights
from schedsearch.exit_rules import ScheduleExits
from schedsearch.schedule import ExitSchedule
from schedsearch.search.confirm_worker import SEED_OFFSET, continued
from schedsearch.search.failures import note_failure
from schedsearch.search.loading import load_trainer
from schedsearch.search.progress import FileProgress
from schedsearch.search.run_folder import RunFolder
from schedsearch.search.workbench import open_workbench

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from schedsearch.protocols import Backbone
    from schedsearch.search.jobs import RetrainJob
    from schedsearch.search.workbench import Workbench
    from schedsearch.settings import RecipeSettings


def retrain(job: RetrainJob) -> str:
    """Fine-tune from the pretrained weights as a trial does, and keep the EMA weights.

    They appear whole or not at all. An attempt that died is continued from its last saved state,
    and one that was finished already is not done again.

    Returns:
        JSON with the trial's ``number``, the ``training_seed`` and the ``seconds`` it took.

    Raises:
        TrialError: If the fine-tune diverges.
        OSError: If the disk fails.
    """
    folder, began = RunFolder.of(job.run_dir), time.perf_counter()
    target = folder.retrained(job.number, job.training_seed)
    if not target.is_file():
        bench = open_workbench(job.settings, str(folder.reference))
        recipe, seed, work = bench.settings.recipe, job.training_seed, target.parent
        net = _finetune(job, bench, bench.fresh_backbone(), recipe, seed, work)
        if job.num_steps:
            further = continued(recipe, job.num_steps)
            net = _finetune(job, bench, net, further, SEED_OFFSET + seed, work / "promotion")
        metadata = {"trial": str(job.number), "training_seed": str(seed)}
        save_weights(cast("nn.Module", net), target, metadata)
        for path in (work, work / "promotion"):
            FileProgress(path, save_every=recipe.save_every).done()
    seconds = round(time.perf_counter() - began, 3)
    return json.dumps(
        {"number": job.number, "training_seed": job.training_seed, "seconds": seconds}
    )


def _finetune(
    job: RetrainJob,
    bench: Workbench,
    net: Backbone,
    recipe: RecipeSettings,
    seed: int,
    work_dir: Path,
) -> Backbone:
    work_dir.mkdir(parents=True, exist_ok=True)
    progress = FileProgress(work_dir, save_every=recipe.save_every)
    try:
        return load_trainer(bench.settings.trainer).finetune(
            net,
            ScheduleExits(ExitSchedule(job.depths)),
            bench.source,
            bench.process,
            recipe,
            progress,
            seed,
        )
    except Exception:
        note_failure(progress)
        raise
