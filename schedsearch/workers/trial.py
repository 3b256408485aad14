"""One trial in a worker process: fine-tune, sample, measure, keep."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, cast

from schedsearch.backbones.weights.checkpoint import (
    FINGERPRINT,
    link_weights,
    metadata_of,
    save_weights,
)
from schedsearch.evaluation.latency_protocol import device_name
from schedsearch.exceptions import CheckpointError, StorageError
from schedsearch.files.atomic import write_text
from schedsearch.files.checksums import sealed
from schedsearch.files.digest import sha256_of
from schedsearch.records import Evaluation, TrialRecord, TrialState
from schedsearch.runs.checks.identity import place_in
from schedsearch.runs.checks.own_weights import check_own_weights, mark_of
from schedsearch.runs.folder import METHOD_FILE, RECORD_FILE, SCHEDULE_FILE, RunFolder
from schedsearch.version import __version__
from schedsearch.workers.failures import StageError, note_failure, worker_name
from schedsearch.workers.finetune import finetune
from schedsearch.workers.progress import FileProgress, progress_in
from schedsearch.workers.starts import exits_with_adapters, finished_network, start_network
from schedsearch.workers.workbench import open_workbench

if TYPE_CHECKING:
    from torch import nn

    from schedsearch.evaluation.quality import Quality
    from schedsearch.protocols import Backbone
    from schedsearch.workers.jobs import TrialJob
    from schedsearch.workers.workbench import Workbench


class _Stages:
    """Adds up the seconds of each stage, and says which one an error came from."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        except Exception as error:
            raise StageError(name) from error
        finally:
            self.seconds[name] = round(time.perf_counter() - started, 3)


def run_trial(job: TrialJob) -> TrialRecord:
    """Fine-tune for one schedule and measure the result.

    The record is written to the trial's folder before it is returned, so that a result
    survives a driver that died meanwhile.

    Raises:
        StageError: From whatever went wrong.
    """
    folder, stages = RunFolder.of(job.run_dir), _Stages()
    started, clock = datetime.now(UTC), time.perf_counter()
    with stages("load"):
        bench = open_workbench(job.settings, str(folder.reference))
        if job.latency_device not in (None, device_name(bench.device)):
            job = dataclasses.replace(job, measure_latency=False)  # it would not compare
        progress = _progress(job, folder, bench)
    try:
        with stages("fine-tune"):
            net = _weights(job, folder, bench, progress)
        own = bench.settings.recipe.weights == "own"
        training_seconds = round(progress.cpu_seconds, 3) if own else 0.0
        with stages("sample"):
            settings = bench.settings.evaluation
            quality = bench.measure(
                net, job.schedule, seed=settings.seed, num_samples=settings.num_samples
            )
        latency_ms = job.predicted_latency_ms
        if job.measure_latency:
            with stages("latency"):
                latency_ms = bench.measure_latency(net, job.schedule)
        with stages("save"):
            _save(job, folder, bench, net, quality)
    except StageError:
        note_failure(progress)
        raise
    record = TrialRecord(
        number=job.number,
        depths=job.schedule.depths,
        edges=job.schedule.edges,
        label=job.label,
        origin=job.origin,
        state=TrialState.COMPLETE,
        evaluation=_evaluation(job, bench, quality, latency_ms),
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.perf_counter() - clock, 3),
        stage_seconds=dict(stages.seconds),
        training_seconds=training_seconds,
        worker=worker_name(),
        device=str(bench.device),
        final_loss=progress.last_loss,
        accumulate=job.accumulate,
        versions=versions(),
    )
    with stages("save"):
        path = folder.trial(job.number) / RECORD_FILE
        write_text(path, sealed(record.to_json(), place_in(folder, path) or "") + "\n")
        progress.done()
    return record


def _progress(job: TrialJob, folder: RunFolder, bench: Workbench) -> FileProgress:
    own = folder.trial(job.number)
    own.mkdir(parents=True, exist_ok=True)
    resume = None if job.resume_from is None else folder.trial(job.resume_from)
    progress = progress_in(own, folder, bench.settings)
    progress.take_over(resume)
    if job.resume_from is not None and (left := folder.weights(job.resume_from)).is_file():
        left.replace(folder.weights(job.number))
    progress.note(f"schedule: {job.schedule}")
    return progress


def _weights(
    job: TrialJob, folder: RunFolder, bench: Workbench, progress: FileProgress
) -> Backbone:
    """The network that this trial measures."""
    if bench.settings.recipe.weights == "own":
        return _finetuned(job, folder, bench, progress)
    if bench.is_full_depth(job.schedule):
        return bench.fresh_backbone()
    check_own_weights(folder, folder.shared_weights)
    return bench.backbone_with(folder.shared_weights)


def _finetuned(
    job: TrialJob, folder: RunFolder, bench: Workbench, progress: FileProgress
) -> Backbone:
    """The fine-tuned network; its weights are saved at once, before any other stage."""
    target, seed = folder.weights(job.number), bench.settings.search.seed
    about = {**mark_of(folder, job.schedule), "seed": str(seed)}
    if job.resume_from is not None and (net := _kept(job, folder, bench, about)) is not None:
        progress.note("continues with the fine-tuned weights of an earlier attempt")
        loss = metadata_of(target).get("final_loss")
        progress.last_loss = None if loss is None else float(loss)
        progress.count_earlier()
        return net
    start, recipe = start_network(bench, folder, job.schedule), bench.settings.recipe
    if job.accumulate is not None:
        recipe = dataclasses.replace(recipe, accumulate=job.accumulate)
        progress.note(f"memory ran out before: batches are cut into {job.accumulate} parts")
    net = finetune(bench, job.schedule, progress, seed, net=start, recipe=recipe)
    if progress.last_loss is not None:
        about["final_loss"] = repr(progress.last_loss)
    save_weights(cast("nn.Module", net), target, {**about, "trial": str(job.number)})
    return net


def _kept(
    job: TrialJob, folder: RunFolder, bench: Workbench, about: Mapping[str, str]
) -> Backbone | None:
    """What an earlier attempt at the same fine-tune left; None where there is nothing whole."""
    target = folder.weights(job.number)
    try:
        found = metadata_of(target)
        if any(found.get(key) != value for key, value in about.items()):
            return None
        return finished_network(bench, folder, job.schedule, target)
    except (CheckpointError, StorageError):
        return None


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
        protocol=bench.protocol(seed=settings.seed, num_samples=settings.num_samples),
        sample_std=quality.sample_std,
        reference_std=quality.reference_std,
        nn_distance=quality.nn_distance,
        near_copies=quality.near_copies,
        class_accuracy=quality.class_accuracy,
    )


def _save(
    job: TrialJob, folder: RunFolder, bench: Workbench, net: Backbone, quality: Quality
) -> None:
    from schedsearch.backbones.registry import family_of
    from schedsearch.evaluation.grid import save_grid
    from schedsearch.methods.kinds import numbers_of
    from schedsearch.methods.method_file import MethodFile, write_method_file
    from schedsearch.schedules.schedule_file import (
        ScheduledBackbone,
        ScheduleFile,
        write_schedule_file,
    )

    weights, target = cast("nn.Module", net), folder.weights(job.number)
    own = folder.trial(job.number)
    if bench.settings.recipe.weights == "shared":
        # NOTE: trials of shared weights would fill the disk with copies of one file.
        full = bench.is_full_depth(job.schedule)
        if full or not link_weights(weights, folder.shared_weights, target):
            about = {**mark_of(folder, job.schedule), "trial": str(job.number)}
            save_weights(weights, target, about)
    save_grid(quality.samples, own / "samples.png")
    name = job.label or f"trial-{job.number:04d}"
    clock = bench.settings.diffusion.clock
    backbone = ScheduledBackbone(
        family=family_of(bench.settings.backbone), num_exit_blocks=net.num_exit_blocks
    )
    own_weights = dataclasses.replace(backbone, fingerprint=metadata_of(target).get(FINGERPRINT))
    if exits := exits_with_adapters(bench, folder, job.schedule):
        write_method_file(
            own / METHOD_FILE,
            MethodFile(
                name=name,
                kind="schedule",
                backbone=backbone,
                numbers=numbers_of(job.schedule, clock),
                network={"adapters": {"exits": list(exits)}},
                weights=target.name,
                weights_sha256=sha256_of(target),
            ),
            place=place_in(folder, own / METHOD_FILE) or "",
        )
        return
    write_schedule_file(
        own / SCHEDULE_FILE,
        ScheduleFile(
            name=name,
            backbone=own_weights,
            depths=job.schedule.depths,
            edges=job.schedule.edges,
            clock=clock,
            weights=target.name,
        ),
        place=place_in(folder, own / SCHEDULE_FILE) or "",
    )


def versions() -> dict[str, str]:
    """Versions of what a number depends on."""
    found = {"schedsearch": __version__, "python": platform.python_version()}
    for name in ("torch", "timm", "diffusers", "optuna"):
        with suppress(PackageNotFoundError):  # runs from a checkout need not install all
            found[name] = version(name)
    return found
