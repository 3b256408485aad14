"""What all trials share, made in a worker process: shared weights and the error table."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, cast

from schedsearch.backbones.weights.checkpoint import fingerprint, save_weights
from schedsearch.evaluation.error_table import measure_error_table
from schedsearch.runs.checks.identity import place_in
from schedsearch.runs.checks.own_weights import check_own_weights, mark_of
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.profile_files import SEED_OFFSET, ProfileFiles
from schedsearch.runs.starts.files import StartFiles
from schedsearch.workers.failures import note_failure
from schedsearch.workers.finetune import finetune
from schedsearch.workers.progress import FileProgress, progress_in
from schedsearch.workers.starts import adapted_network, exits_of_space
from schedsearch.workers.workbench import open_workbench

if TYPE_CHECKING:
    from torch import nn

    from schedsearch.planning.error_table import ErrorTable
    from schedsearch.protocols import Backbone
    from schedsearch.workers.jobs import ProfileJob
    from schedsearch.workers.workbench import Workbench


def run_profile(job: ProfileJob) -> ErrorTable | None:
    """Tune the shared weights, where trials share them, and measure the error table.

    Returns at once where files of the same settings and weights lie in the folder. After a
    crash tuning continues from its last saved state, and a finished one is not repeated.

    Returns:
        The table; None where ``profile`` is null.

    Raises:
        TrialError: If tuning diverges.
        OSError: If the disk fails.
    """
    folder = RunFolder.of(job.run_dir)
    bench = open_workbench(job.settings, str(folder.reference))
    files = ProfileFiles(folder, bench.settings)
    weights = fingerprint(bench.pretrained)
    if files.are_complete(weights):
        return files.error_table()
    files.begin(weights)
    progress = progress_in(folder.profile, folder, bench.settings)
    try:
        return _made(bench, files, folder, progress)
    except Exception:
        note_failure(progress)
        raise


def _made(
    bench: Workbench, files: ProfileFiles, folder: RunFolder, progress: FileProgress
) -> ErrorTable | None:
    started, settings = time.perf_counter(), bench.settings
    starts = StartFiles(folder, settings)
    exits = "schedules" if files.tunes else "pretrained"
    if files.tunes:
        net = _tuned(bench, folder, progress)
    elif starts.use_adapters():
        net, exits = adapted_network(bench, folder, exits_of_space(bench)), "adapters"
    else:
        net = bench.backbone
    if settings.profile is None:
        return None
    table = measure_error_table(
        net,
        bench.source,
        bench.process,
        settings.space.build(),
        num_images=settings.profile.num_images,
        batch_size=settings.evaluation.batch_size,
        seed=SEED_OFFSET + settings.search.seed,
        exits=exits,
        num_steps=settings.recipe.num_steps if files.tunes else 0,
    )
    seconds = round(time.perf_counter() - started, 3)
    table = dataclasses.replace(table, seconds=seconds)
    table.save(folder.error_table, place_in(folder, folder.error_table))
    return table


def _tuned(bench: Workbench, folder: RunFolder, progress: FileProgress) -> Backbone:
    """The shared EMA network; its weights are kept before anything else."""
    if folder.shared_weights.is_file():  # the table is all that was missing
        check_own_weights(folder, folder.shared_weights)
        return bench.backbone_with(folder.shared_weights)
    settings = bench.settings
    steps = settings.recipe.num_steps
    progress.note(f"random schedules of the space, {steps} steps")
    tuned = finetune(bench, None, progress, SEED_OFFSET + settings.search.seed)
    about = {**mark_of(folder), "num_steps": str(steps)}
    save_weights(cast("nn.Module", tuned), folder.shared_weights, about)
    progress.done()
    return tuned
