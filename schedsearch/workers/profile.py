"""One shared fine-tune with random exits in a worker process, and the error table behind it."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING, Any

from schedsearch.schedules.exit_rules import RandomScheduleExits, UniformExits
from schedsearch.workers.failures import note_failure, one_line, stage_of
from schedsearch.runs.profile_files import SEED_OFFSET, ProfileFiles, shared_recipe
from schedsearch.workers.progress import FileProgress
from schedsearch.runs.folder import RunFolder

if TYPE_CHECKING:
    from schedsearch.planning.error_table import ErrorTable
    from schedsearch.protocols import Backbone, ExitRule
    from schedsearch.workers.jobs import ProfileJob
    from schedsearch.workers.workbench import Workbench

PRETRAINED = "pretrained"
"""``ErrorTable.exits`` of weights that were not tuned."""


def run_profile(job: ProfileJob) -> dict[str, str]:
    """Run a shared fine-tune and measure its error table, or take up what was kept.

    Returns at once where files of the same settings and weights lie in the folder. After a
    crash the fine-tune continues from its last saved state, and a finished one is not repeated.

    Returns:
        ``record``: JSON of the :class:`ErrorTable`; or ``error``: what happened, one line, and
        ``stage``, which is ``failures.DISK_STAGE`` where the disk is at fault.
    """
    try:
        table = _profile(job)
    except Exception as error:  # noqa: BLE001 - a worker answers; the driver decides
        work = RunFolder.of(job.run_dir).profile / job.exits
        if work.is_dir():
            note_failure(FileProgress(work, save_every=1))
        return {"error": one_line(error), "stage": stage_of(error, "profile")}
    return {"record": json.dumps(dataclasses.asdict(table))}


def _profile(job: ProfileJob) -> ErrorTable:
    from schedsearch.backbones.weights.checkpoint import fingerprint
    from schedsearch.evaluation.error_table import measure_error_table
    from schedsearch.workers.workbench import open_workbench

    started = time.perf_counter()
    folder = RunFolder.of(job.run_dir)
    bench = open_workbench(job.settings, str(folder.reference))
    settings = bench.settings
    assert settings.profile is not None
    files = ProfileFiles(folder, job.exits, settings)
    weights = fingerprint(bench.pretrained)
    if (kept := files.finished(weights)) is not None:
        return kept
    files.begin(weights)
    progress = FileProgress(files.work, save_every=settings.recipe.save_every)
    num_steps = settings.profile.num_steps
    net = _tuned(job, bench, files, progress) if num_steps else bench.backbone
    table = measure_error_table(
        net,
        bench.source,
        bench.process,
        settings.space.build(),
        num_images=settings.profile.num_images,
        batch_size=settings.evaluation.batch_size,
        seed=SEED_OFFSET + settings.search.seed,
        exits=job.exits if num_steps else PRETRAINED,
        num_steps=num_steps,
    )
    seconds = round(time.perf_counter() - started, 3)
    table = dataclasses.replace(table, seconds=seconds)
    table.save(files.table)
    progress.done()
    return table


def _tuned(
    job: ProfileJob, bench: Workbench, files: ProfileFiles, progress: FileProgress
) -> Backbone:
    """The EMA network of the shared fine-tune; its weights are kept before anything else."""
    from schedsearch.backbones.weights.checkpoint import load_weights, save_weights
    from schedsearch.workers.loading import load_trainer

    net: Any = bench.fresh_backbone()
    if files.weights.is_file():  # the table is all that was missing
        load_weights(net, files.weights)
        return net  # type: ignore[no-any-return]
    settings = bench.settings
    recipe = shared_recipe(settings)
    progress.note(f"exits: {job.exits}, {recipe.num_steps} steps")
    tuned: Any = load_trainer(settings.trainer).finetune(
        net,
        exit_rule(job.exits, bench),
        bench.source,
        bench.process,
        recipe,
        progress,
        SEED_OFFSET + settings.search.seed,
    )
    save_weights(tuned, files.weights, {"exits": job.exits, "num_steps": str(recipe.num_steps)})
    return tuned  # type: ignore[no-any-return]


def exit_rule(exits: str, bench: Workbench) -> ExitRule:
    """Where samples of the shared fine-tune exit: ``uniform`` or ``schedules``."""
    space = bench.settings.space.build()
    if exits == "uniform":
        return UniformExits(space.min_depth, space.max_depth)
    return RandomScheduleExits(space)
