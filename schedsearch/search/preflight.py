"""Everything that can fail cheaply, before the first trial; also what ``--dry-run`` shows."""

from __future__ import annotations

import logging
import math
import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from schedsearch.config import dump_settings
from schedsearch.data.loading import check_enough_images, check_labels_fit
from schedsearch.evaluation.latency import cost_times
from schedsearch.exceptions import ConfigError, StorageError
from schedsearch.memory import require_memory, within_memory
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.search.stages.latency import open_table
from schedsearch.search.study.storage_url import check_storage_answers, check_storage_url
from schedsearch.search.study.twins import measured_twins
from schedsearch.search.study.warm_starts import WarmStart, read_warm_starts
from schedsearch.workers.loading import load_trainer
from schedsearch.workers.starts import exits_of_space
from schedsearch.workers.workbench import Workbench, build_workbench

if TYPE_CHECKING:
    from schedsearch.evaluation.latency_table import LatencyTable
    from schedsearch.runs.folder import RunFolder
    from schedsearch.runs.latency_file import LatencyReport
    from schedsearch.settings import StudySettings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """A study that is ready to start."""

    bench: Workbench
    warm_starts: list[WarmStart]
    table: LatencyTable
    latency: LatencyReport

    @property
    def settings(self) -> StudySettings:
        """The search space."""
        return self.bench.settings

    @cached_property
    def settings_text(self) -> str:
        """The same as text for workers, which open no study and need no password."""
        search = replace(self.settings.search, storage=None)
        return dump_settings(replace(self.settings, search=search))

    @property
    def visits(self) -> list[int]:
        """Network calls of the solver per interval, data -> noise."""
        return list(self.bench.visits)

    @property
    def rank_deficient(self) -> bool:
        """Whether every FID will come from fewer images than features."""
        return self.settings.evaluation.num_samples < self.bench.extractor.dim

    @property
    def fixed_blocks(self) -> float:
        """What a solver run costs besides the exit blocks, in blocks, by the table."""
        fixed_ms = self.table.c0_ms + self.table.num_calls * self.table.a_ms
        return max(0.0, fixed_ms / self.table.b_ms) if self.table.b_ms > 0 else 0.0

    def predict_ms(self, schedule: ExitSchedule) -> float:
        """Latency of a schedule by the table, ms per batch."""
        return self.table.predict(schedule, cost_times(self.bench.solver))

    def disk_bytes(self) -> int:
        """Roughly what a run will write: EMA weights, and the state of running trials."""
        weights = sum(p.numel() * p.element_size() for p in self.bench.pretrained.parameters())
        running = 4 * weights * self.settings.resources.num_workers
        if self.settings.recipe.weights == "shared":  # trials only link to the one file
            return 2 * weights + running
        retrained = self.settings.resources.num_workers if self.retrains else 0
        return (self.settings.search.n_trials + retrained) * weights + running

    @property
    def retrains(self) -> bool:
        """Whether presets and their opponents are retrained in the end."""
        return self.settings.evaluation.confirm_training_seeds > 0


def check_before_start(
    settings: StudySettings, folder: RunFolder, *, dry_run: bool = False, with_twins: bool = True
) -> Preflight:
    """Load and check everything that trials will need.

    Args:
        settings: The search space.
        folder: The run folder.
        dry_run: Leave nothing behind: the folder need not exist and is not made.
        with_twins: Whether the warm starts hold static twins, or leave them out.

    Raises:
        ConfigError: If anything is missing or does not fit together.
        StorageError: If the disk has too little room, or the database does not answer.
    """
    if settings.backbone.checkpoint is None:
        raise ConfigError(
            "run fine-tunes pretrained weights, but backbone.checkpoint is not set. Name a file, "
            "or package:NAME for weights that ship."
        )
    if settings.search.storage is not None:
        check_storage_url(settings.search.storage)
        check_storage_answers(settings.search.storage)
    _check_devices(settings)
    twins = measured_twins(settings, folder) if with_twins else None
    load_trainer(settings.trainer)
    bench = build_workbench(settings, folder.reference)
    num_exit_blocks = bench.backbone.num_exit_blocks
    if settings.space.max_depth > num_exit_blocks:
        raise ConfigError(
            f"space.max_depth is {settings.space.max_depth}, but the backbone has only "
            f"{num_exit_blocks} exit blocks. Lower space.max_depth to {num_exit_blocks}."
        )
    _check_memory(settings, math.prod(bench.backbone.in_shape))
    for note in check_labels_fit(bench.source, bench.backbone):
        _log.warning("%s", note)
    for source in dict.fromkeys((bench.source, bench.reference_source)):
        for note in source.verify():
            _log.warning("%s", note)
        check_enough_images(source, settings.data)
    if settings.recipe.start == "adapters":
        exits_of_space(bench)  # refuses networks that cannot have adapters
    warm_starts = read_warm_starts(settings, num_exit_blocks, twins=twins)
    if not dry_run:  # last, because all real images go through the extractor
        _log.info("reference: %d images", bench.reference.num_images)
        found = bench.neighbours
        _log.info(
            "near copies: %s",
            "pixels are not compared" if found is None else f"{len(found.images)} training images",
        )
        if bench.auditor is not None:
            _log.info("auditor: %s", bench.auditor.extractor.name)
    with within_memory(f"evaluation.latency_batch {settings.evaluation.latency_batch}"):
        table, latency, _ = open_table(bench, None if dry_run else folder)
    ready = Preflight(
        bench=bench,
        warm_starts=warm_starts,
        table=table,
        latency=latency,
    )
    _check_disk(ready, folder.root)
    return ready


def _check_devices(settings: StudySettings) -> None:
    if settings.resources.gpus_per_trial and not torch.cuda.is_available():
        raise ConfigError(
            f"resources.gpus_per_trial is {settings.resources.gpus_per_trial:g}, but torch finds "
            "no CUDA device here. Set it to 0, or run where there is one: the driver measures "
            "latency on the same kind of device as the workers."
        )
    # NOTE: Ray makes jobs wait for a free GPU; the local runner has no queue of devices.
    resources, found = settings.resources, torch.cuda.device_count()
    wanted = resources.num_workers * resources.gpus_per_trial
    if resources.backend == "local" and resources.gpus_per_trial >= 1 and wanted > found:
        raise ConfigError(
            f"Trials with a GPU of their own measure latency on it, so {resources.num_workers} "
            f"workers need {wanted:g} GPUs, but torch finds {found}. Lower resources.num_workers."
        )


def _check_memory(settings: StudySettings, values: int) -> None:
    """Refuse batches and results that memory cannot hold; ``values`` are of one image."""
    evaluation = settings.evaluation
    for key, num in {
        "recipe.batch_size": settings.recipe.batch_size,
        "evaluation.num_samples": evaluation.num_samples,
        "evaluation.confirm_samples": evaluation.confirm_samples or 0,
        "evaluation.latency_batch": evaluation.latency_batch,
    }.items():
        require_memory(4 * num * values, f"{key} {num}")


def _check_disk(ready: Preflight, root: Path) -> None:
    existing = next(path for path in (root, *root.parents) if path.exists())
    free, needed = shutil.disk_usage(existing).free, ready.disk_bytes()
    if free < needed:
        raise StorageError(
            f"The trials will write about {needed / 1e9:.1f} GB, but {existing} has "
            f"{free / 1e9:.1f} GB free. Free space, lower search.n_trials, or use --output."
        )
