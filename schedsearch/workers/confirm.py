"""A finished trial in a worker process once more: its fine-tune continued, its FID confirmed."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from schedsearch.backbones.weights.checkpoint import load_weights, save_weights
from schedsearch.evaluation.sampling import balanced_labels
from schedsearch.schedules.exit_rules import ScheduleExits
from schedsearch.records import ConfirmRecord
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.workers.failures import note_failure
from schedsearch.workers.jobs import ConfirmJob, PromoteJob
from schedsearch.workers.loading import load_trainer
from schedsearch.workers.progress import FileProgress
from schedsearch.runs.folder import RunFolder
from schedsearch.workers.workbench import open_workbench
from schedsearch.settings import LambdaSettings, RecipeSettings

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from schedsearch.evaluation.quality import Quality
    from schedsearch.protocols import Backbone
    from schedsearch.workers.workbench import Workbench


SEED_OFFSET = 2**32
"""Added to ``search.seed``: not the batches of the trial again, the same for every schedule."""


def promote(job: PromoteJob) -> str:
    """Continue a trial's fine-tune from its EMA weights, with a fresh optimiser.

    The weights go to ``promoted.safetensors`` in the trial's folder, whole or not at all. An
    attempt that died is continued from its last saved state, and one that was finished already
    is not done again.

    Returns:
        JSON with the trial's ``number``, ``num_steps`` and the ``seconds`` it took.

    Raises:
        CheckpointError: If the trial's weights are gone.
        TrialError: If the fine-tune diverges.
        OSError: If the disk fails.
    """
    folder, began = RunFolder.of(job.run_dir), time.perf_counter()
    target = folder.promoted(job.number)
    if not target.is_file():
        bench = open_workbench(job.settings, str(folder.reference))
        net: Any = bench.fresh_backbone()
        load_weights(net, folder.weights(job.number))
        work_dir = folder.trial(job.number) / "promotion"
        recipe = continued(bench.settings.recipe, job.num_steps)
        seed = SEED_OFFSET + bench.settings.search.seed
        net = finetuned(net, job.depths, bench, recipe, seed, work_dir)
        metadata = {"trial": str(job.number), "further_steps": str(job.num_steps)}
        save_weights(cast("nn.Module", net), target, metadata)
        FileProgress(work_dir, save_every=recipe.save_every).done()
    seconds = round(time.perf_counter() - began, 3)
    return json.dumps({"number": job.number, "num_steps": job.num_steps, "seconds": seconds})


def finetuned(
    net: Backbone,
    depths: tuple[int, ...],
    bench: Workbench,
    recipe: RecipeSettings,
    seed: int,
    work_dir: Path,
) -> Backbone:
    """A network fine-tuned for a schedule by the study's trainer; goes on where it was cut off.

    Args:
        net: To start from.
        depths: Of the schedule.
        bench: Of the study.
        recipe: Numbers of the fine-tune.
        seed: Of its batches, noise and timesteps.
        work_dir: Folder of its log and saved state; made if missing.

    Raises:
        TrialError: If the fine-tune diverges.
        OSError: If the disk fails.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    progress = FileProgress(work_dir, save_every=recipe.save_every)
    try:
        return load_trainer(bench.settings.trainer).finetune(
            net,
            ScheduleExits(ExitSchedule(depths)),
            bench.source,
            bench.process,
            recipe,
            progress,
            seed,
        )
    except Exception:
        note_failure(progress)
        raise


def continued(recipe: RecipeSettings, num_steps: int) -> RecipeSettings:
    """The recipe of a continued fine-tune: further steps, and no lambda(t).

    lambda(t) favours the noisy end for the first part of a fine-tune (ASE, Sec. 3.3), which a
    trial has behind it.
    """
    return replace(recipe, num_steps=num_steps, lambda_weighting=LambdaSettings(kind="none"))


def confirm(job: ConfirmJob) -> ConfirmRecord:
    """Measure kept weights of a trial, or of a fine-tune anew, with another evaluation seed.

    Raises:
        CheckpointError: If the weights are gone.
        TrialError: If samples are not finite.
    """
    folder = RunFolder.of(job.run_dir)
    bench = open_workbench(job.settings, str(folder.reference))
    net: Any = bench.fresh_backbone()
    load_weights(net, _weights(job, folder))
    quality = bench.measure(
        net,
        ExitSchedule(job.depths),
        seed=job.seed,
        num_samples=job.num_samples,
        auditor=bench.auditor,
    )
    auditor = bench.auditor
    # Fine-tunes anew are compared with each other alone, which needs no interval of each.
    intervals = _intervals(bench, quality, job.seed) if job.training_seed is None else {}
    return ConfirmRecord(
        number=job.number,
        seed=job.seed,
        num_samples=job.num_samples,
        num_steps=job.num_steps,
        training_seed=job.training_seed,
        fid=quality.fid,
        kid=quality.kid,
        features=bench.extractor.name,
        audit_fid=quality.audit_fid,
        audit_features=None if auditor is None else auditor.extractor.name,
        **intervals,
    )


def _weights(job: ConfirmJob, folder: RunFolder) -> Path:
    if job.training_seed is not None:
        return folder.retrained(job.number, job.training_seed)
    return folder.promoted(job.number) if job.num_steps else folder.weights(job.number)


def _intervals(bench: Workbench, quality: Quality, seed: int) -> dict[str, Any]:
    """Intervals over the images of one seed, where they are wanted."""
    resamples = bench.settings.evaluation.bootstrap
    if not resamples:
        return {}
    from schedsearch.statistics.bootstrap import bootstrap_intervals

    labels = balanced_labels(len(quality.features), bench.backbone.num_classes)
    found = bootstrap_intervals(quality.features, bench.reference, resamples, seed, labels)
    return {"fid_ci95": found.fid_ci95, "kid_ci95": found.kid_ci95}
