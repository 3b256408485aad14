"""Fits exit adapters, and judges whether fine-tunes should start from them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

from safetensors.torch import save

from schedsearch.backbones.weights.checkpoint import fingerprint, load_weights, save_weights
from schedsearch.exceptions import ConfigError, StorageError, TrialError
from schedsearch.files.atomic import replacing, write_text
from schedsearch.files.digest import sha256_of
from schedsearch.methods.plans.maps import fit_adapter
from schedsearch.methods.plans.recording import FitRecording, FitRun, Layout
from schedsearch.runs.checks.identity import place_in
from schedsearch.runs.checks.own_weights import check_own_weights, mark_of
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.starts.files import RECORD, StartFiles
from schedsearch.runs.starts.records import AdaptersRecord, StartRecord
from schedsearch.workers.failures import note_failure, one_line
from schedsearch.workers.finetune import finetune
from schedsearch.workers.progress import FileProgress, progress_in
from schedsearch.workers.rivals.choices import observe_runs
from schedsearch.workers.starts import adapted_network, early_exits_of, exits_of_space
from schedsearch.workers.workbench import open_workbench

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from schedsearch.evaluation.quality import Quality
    from schedsearch.protocols import Backbone, NetworkCall, StagedBackbone
    from schedsearch.workers.jobs import StartJob
    from schedsearch.workers.workbench import Workbench

FIT_IMAGES = 96
"""Images sampled at full depth whose tokens the adapters fit."""

CHECK_SEEDS = (6000, 6001, 6002)
"""Added to ``evaluation.seed``: no search, confirmation or calibration samples these images."""

WEIGHTS = "ema.safetensors"


def run_start(job: StartJob) -> StartRecord:
    """Fine-tune the schedule of a check from one start, and measure it.

    Adapters are fitted first where they are missing or damaged. A finished outcome of the same
    settings and weights is returned as it is; after a crash training continues.

    Raises:
        TrialError: If the fine-tune from plain exits diverges.
        StorageError: If adapters fitted again differ from those that the run knows.
        OSError: If the disk fails.
    """
    folder = RunFolder.of(job.run_dir)
    bench = open_workbench(job.settings, str(folder.reference))
    files, weights = StartFiles(folder, bench.settings), fingerprint(bench.pretrained)
    if job.start == "adapters" and not files.has_adapters(weights):
        _fit(bench, folder, files, weights)
    kept = files.record(job.start, weights)
    if kept is not None and kept.depths == list(job.schedule.depths):
        _check_adapters(folder, kept)
        return kept
    target = folder.start_check(job.start)
    target.mkdir(parents=True, exist_ok=True)
    _begin(target, f"{files.made_from} {weights} {job.schedule}")
    progress = progress_in(target, folder, bench.settings)
    progress.note(f"schedule: {job.schedule}")
    try:
        record = _judged(bench, folder, job, progress, weights)
    except Exception:
        note_failure(progress)
        raise
    record.write(target / RECORD, place_in(folder, target / RECORD))
    (target / WEIGHTS).unlink(missing_ok=True)
    progress.done()
    return record


def _begin(target: Path, digest: str) -> None:
    """Drop what other settings left, so that no attempt continues from it."""
    marker = target / "made_from.txt"
    if not marker.exists() or marker.read_text(encoding="utf-8") != digest:
        for path in target.iterdir():
            path.unlink()
        write_text(marker, digest)


def _judged(
    bench: Workbench, folder: RunFolder, job: StartJob, progress: FileProgress, weights: str
) -> StartRecord:
    """The outcome of one start."""
    settings, began = bench.settings, time.process_time()
    auditor, evaluation = bench.auditor, settings.evaluation
    if auditor is None:
        raise ConfigError("recipe.start: adapters needs evaluation.auditor; name one.")
    found: list[Quality] = []
    failed = None
    try:
        net = _trained(bench, folder, job, progress)
        for seed in CHECK_SEEDS:
            quality = bench.measure(
                net,
                job.schedule,
                seed=seed + evaluation.seed,
                num_samples=evaluation.num_samples,
                auditor=auditor,
            )
            found.append(quality)
    except TrialError as error:
        if job.start == "plain":
            raise
        note_failure(progress)
        found, failed = [], one_line(error)
    return StartRecord(
        start=job.start,
        made_from=StartFiles(folder, settings).made_from,
        weights=weights,
        adapters_sha256=None if job.start == "plain" else sha256_of(folder.adapters),
        label=job.label,
        depths=list(job.schedule.depths),
        num_steps=settings.recipe.num_steps,
        num_samples=evaluation.num_samples,
        fids=[quality.fid for quality in found],
        audit_fids=[cast(float, quality.audit_fid) for quality in found],
        failed=failed,
        cpu_seconds=round(time.process_time() - began, 3),
    )


def _trained(
    bench: Workbench, folder: RunFolder, job: StartJob, progress: FileProgress
) -> Backbone:
    """The fine-tuned network; its weights stay until it is measured."""
    target = folder.start_check(job.start) / WEIGHTS
    net = bench.fresh_backbone()
    if job.start == "adapters":
        net = adapted_network(bench, folder, early_exits_of(job.schedule, net))
    if target.is_file():
        check_own_weights(folder, target)
        load_weights(cast("nn.Module", net), target)
        return net
    net = finetune(bench, job.schedule, progress, bench.settings.search.seed, net=net)
    save_weights(cast("nn.Module", net), target, {**mark_of(folder), "start": job.start})
    return net


# ---- adapters -----------------------------------------------------------------------------------


def fitted_adapters(
    bench: Workbench, exits: tuple[int, ...], num_images: int = FIT_IMAGES
) -> dict[int, Tensor]:
    """Fit one map per exit on the network's own sampling runs at full depth.

    Args:
        bench: Of the study.
        exits: Exit depths below full depth.
        num_images: Images to sample.

    Returns:
        Maps (D + 1, D) by exit depth.
    """
    net = cast("StagedBackbone", bench.backbone)
    always = net.num_blocks - net.num_exit_blocks
    layout = Layout(prefixes=(), exits=tuple(always + depth for depth in exits), max_age=1)
    sums: dict[int, Tensor] = {}

    def add(run: NetworkCall) -> None:
        for point, found in cast(FitRun, run).adapters.items():
            sums[point] = found if point not in sums else sums[point] + found

    observe_runs(bench, bench.backbone, FitRecording(layout), num_images, add)
    return {point - always: fit_adapter(found) for point, found in sums.items()}


def _fit(bench: Workbench, folder: RunFolder, files: StartFiles, weights: str) -> None:
    """Fit the adapters of a run and write them, the record last."""
    began, exits = time.process_time(), exits_of_space(bench)
    maps = fitted_adapters(bench, exits)
    seconds = round(time.process_time() - began, 3)
    folder.profile.mkdir(parents=True, exist_ok=True)
    state = {str(depth): numbers.contiguous() for depth, numbers in maps.items()}
    folder.adapters_record.unlink(missing_ok=True)
    with replacing(folder.adapters) as temporary:
        temporary.write_bytes(save(state, {"made_from": files.made_from}))
    record = AdaptersRecord(
        sha256=sha256_of(folder.adapters),
        made_from=files.made_from,
        weights=weights,
        exits=list(exits),
        num_images=FIT_IMAGES,
        cpu_seconds=seconds,
    )
    record.write(folder.adapters_record, place_in(folder, folder.adapters_record))


def _check_adapters(folder: RunFolder, kept: StartRecord) -> None:
    """Trials of one run start from the same adapters."""
    if kept.adapters_sha256 is None or kept.adapters_sha256 == sha256_of(folder.adapters):
        return
    raise StorageError(
        f"{folder.adapters} was damaged, and the fit on this machine gives other numbers than the "
        "trials of this run started from. Restore the file, or name a new --output."
    )
