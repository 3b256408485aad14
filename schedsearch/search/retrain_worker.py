"""A finished trial's schedule in a worker process, fine-tuned anew with another training seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedsearch.exit_rules import ScheduleExits
from schedsearch.schedule import ExitSchedule
from schedsearch.search.confirm_worker import SEED_OFFSET, continued, record_of
from schedsearch.search.failures import note_failure
from schedsearch.search.loading import load_trainer
from schedsearch.search.progress import FileProgress
from schedsearch.search.run_folder import RunFolder
from schedsearch.search.workbench import open_workbench

if TYPE_CHECKING:
    from pathlib import Path

    from schedsearch.protocols import Backbone
    from schedsearch.records import ConfirmRecord
    from schedsearch.search.jobs import RetrainJob
    from schedsearch.search.workbench import Workbench
    from schedsearch.settings import RecipeSettings


def retrain(job: RetrainJob) -> list[ConfirmRecord]:
    """Fine-tune from the pretrained weights as a trial does, and measure at every seed.

    The weights are not kept: they say how far another training seed shifts a result, and are no
    better than the trial's. An attempt that died goes on from its last saved state.

    Returns:
        One record per evaluation seed, in the order of the job's.

    Raises:
        TrialError: If the fine-tune diverges, or samples are not finite.
        OSError: If the disk fails.
    """
    folder = RunFolder.of(job.run_dir)
    bench = open_workbench(job.settings, str(folder.reference))
    recipe, work_dir = bench.settings.recipe, folder.retraining(job.number, job.training_seed)
    net = _finetune(job, bench, bench.fresh_backbone(), recipe, job.training_seed, work_dir)
    if job.num_steps:
        further = continued(recipe, job.num_steps)
        seed = SEED_OFFSET + job.training_seed
        net = _finetune(job, bench, net, further, seed, work_dir / "promotion")
    records = []
    for seed in job.seeds:
        quality = bench.measure(
            net,
            ExitSchedule(job.depths),
            seed=seed,
            num_samples=job.num_samples,
            auditor=bench.auditor,
        )
        records.append(record_of(job, seed, bench, quality))
    for path in (work_dir, work_dir / "promotion"):
        FileProgress(path, save_every=recipe.save_every).done()
    return records


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
