"""One trial in a worker process: fine-tune, sample, measure, keep."""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, cast

from schedsearch.atomic import write_text
from schedsearch.objectives import Evaluation
from schedsearch.records import TrialRecord, TrialState
from schedsearch.search.failures import one_line, out_of_memory, stage_of
from schedsearch.search.jobs import TrialJob
from schedsearch.search.run_folder import RunFolder
from schedsearch.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from schedsearch.evaluation.quality import Quality
    from schedsearch.protocols import Backbone
    from schedsearch.search.workbench import Workbench


class _Stages:
    """Names the stage that a trial is in and adds up the seconds of each."""

    def __init__(self) -> None:
        self.now = "load"
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.now = name
        started = time.perf_counter()
        try:
            yield
        finally:
            elapsed = time.perf_counter() - started
            self.seconds[name] = round(self.seconds.get(name, 0.0) + elapsed, 3)


def run_trial(job: TrialJob) -> TrialRecord:
    """Fine-tune for one schedule and measure the result.

    The record is written to the trial's folder before it is returned, so that a result
    survives a driver that died meanwhile.

    Returns:
        A complete record, or a failed one with the stage and the reason.
    """
    folder = RunFolder.of(job.run_dir)
    trial_dir = folder.trial(job.number)
    stages, finetunes = _Stages(), None
    started, clock = datetime.now(UTC), time.perf_counter()
    fields: dict[str, Any] = {
        "number": job.number,
        "depths": job.depths,
        "label": job.label,
        "origin": job.origin,
        "started": started.isoformat(timespec="seconds"),
        "worker": f"{socket.gethostname()}:{os.getpid()}",
    }
    try:
        trial_dir.mkdir(parents=True, exist_ok=True)
        with stages("load"):
            from schedsearch.search.trial_finetunes import TrialFinetunes
            from schedsearch.search.workbench import open_workbench

            bench = open_workbench(job.settings, str(folder.reference))
            fields |= {"device": str(bench.device), "versions": versions()}
            finetunes = TrialFinetunes(job, bench, folder)
        net, quality = finetunes.run(stages)
        latency_ms = job.predicted_latency_ms
        if job.measure_latency:
            with stages("latency"):
                latency_ms = _measured_latency(job, bench, net)
        with stages("save"):
            _save(trial_dir, job, bench, net, quality)
        record = TrialRecord(
            **fields,
            state=TrialState.COMPLETE,
            evaluation=_evaluation(job, bench, quality, latency_ms),
            seconds=round(time.perf_counter() - clock, 3),
            stage_seconds=stages.seconds,
            final_loss=finetunes.last_loss,
        )
        write_text(trial_dir / "record.json", record.to_json() + "\n")
        finetunes.done()
    except Exception as error:  # noqa: BLE001 - a trial fails, the run goes on
        if finetunes is not None:
            finetunes.note_failure()
        return TrialRecord(
            **fields,
            state=TrialState.FAILED,
            stage=stage_of(error, stages.now),
            reason=one_line(error),
            retry=out_of_memory(error),
            seconds=round(time.perf_counter() - clock, 3),
            stage_seconds=stages.seconds,
        )
    return record


def _measured_latency(job: TrialJob, bench: Workbench, net: Backbone) -> float:
    from schedsearch.evaluation.latency import measure_schedules

    measured = measure_schedules(bench.settings, net, bench.solver, {"trial": job.schedule})
    return measured["trial"].median_ms


def _evaluation(
    job: TrialJob, bench: Workbench, quality: Quality, latency_ms: float
) -> Evaluation:
    settings = bench.settings.evaluation
    return Evaluation(
        fid=quality.fid,
        kid=quality.kid,
        latency_ms=latency_ms,
        latency_source="measured" if job.measure_latency else "predicted",
        nfe=len(bench.solver.times),
        num_samples=quality.num_samples,
        features=bench.extractor.name,
        num_finetunes=settings.seeds_per_trial,
        control_samples=settings.control_samples,
        protocol=bench.protocol(
            seed=settings.seed,
            num_samples=settings.num_samples,
            control_samples=settings.control_samples,
            num_finetunes=settings.seeds_per_trial,
        ),
        sample_std=quality.sample_std,
        class_accuracy=quality.class_accuracy,
    )


def _save(
    trial_dir: Path, job: TrialJob, bench: Workbench, net: Backbone, quality: Quality
) -> None:
    from torch import nn

    from schedsearch.backbones.checkpoint import link_weights, save_weights
    from schedsearch.backbones.registry import family_of
    from schedsearch.evaluation.grid import save_grid
    from schedsearch.schedule_file import ScheduledBackbone, ScheduleFile, write_schedule_file

    weights, target = cast("nn.Module", net), trial_dir / "ema.safetensors"
    shared = bench.shared_weights(RunFolder.of(job.run_dir))
    # Trials that only measure shared weights would fill the disk with copies of one file.
    if shared is None or not link_weights(weights, shared, target):
        about = {"schedule": str(job.schedule), "trial": str(job.number)}
        save_weights(weights, target, about)
    save_grid(quality.samples, trial_dir / "samples.png")
    write_schedule_file(
        trial_dir / "schedule.yaml",
        ScheduleFile(
            name=job.label or f"trial-{job.number:04d}",
            backbone=ScheduledBackbone(
                family=family_of(bench.settings.backbone), num_exit_blocks=net.num_exit_blocks
            ),
            depths=job.depths,
            weights="ema.safetensors",
        ),
    )


def versions() -> dict[str, str]:
    """Versions of what a number depends on."""
    found = {"schedsearch": __version__, "python": platform.python_version()}
    for name in ("torch", "timm", "diffusers", "optuna"):
        with suppress(PackageNotFoundError):  # runs from a checkout need not install all
            found[name] = version(name)
    return found
