"""Measures one row of a comparison: calibration, quality at every seed, and what it ran."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from schedsearch.backbones.guidance import learns_variance
from schedsearch.backbones.registry import family_of
from schedsearch.backbones.weights.checkpoint import fingerprint
from schedsearch.diffusion.process import build_process
from schedsearch.diffusion.solvers import build_solver
from schedsearch.evaluation.flops import count_parameters
from schedsearch.evaluation.grid import save_grid
from schedsearch.methods.exits.freeze import frozen_schedule, share_explained_by_time
from schedsearch.methods.kinds import build_method
from schedsearch.methods.method_file import MethodFile, write_method_file
from schedsearch.methods.networks import build_network
from schedsearch.protocols import ObservedCall
from schedsearch.runs.folder import RunFolder
from schedsearch.runs.rival_records import RivalRecord, SeedQuality
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.schedule_file import ScheduledBackbone
from schedsearch.settings.rivals import StitchRival
from schedsearch.settings.rows import TWIN
from schedsearch.workers.failures import worker_name
from schedsearch.workers.rivals.account import (
    blocks_by_call,
    macs_of,
    num_blocks_of,
    numbers_in,
    sampled,
    share_of_blocks,
)
from schedsearch.workers.rivals.calibration import calibrated
from schedsearch.workers.rivals.digests import digest_of, entry_in
from schedsearch.workers.rivals.networks import (
    WEIGHTS,
    NetworkRecord,
    network_folder,
    open_network,
)
from schedsearch.workers.rivals.thresholds import Calibrated
from schedsearch.workers.trial import versions
from schedsearch.workers.workbench import open_workbench

if TYPE_CHECKING:
    from schedsearch.protocols import Backbone, NetworkCall, Solver
    from schedsearch.workers.jobs import RowJob
    from schedsearch.workers.workbench import Workbench

METHOD = "method.yaml"
"""A row's method file, in its folder."""


def measure_row(job: RowJob) -> tuple[RivalRecord, ...]:
    """Calibrate and measure a row; of a dynamic method its static twin too.

    Raises:
        TrialError: If samples or features are not finite.
        ConfigError: If the method does not fit the network.
        OSError: If the disk fails.
    """
    began = time.perf_counter()
    folder = RunFolder.of(job.run_dir)
    bench = open_workbench(job.settings, str(folder.reference))
    entry = entry_in(bench.settings, job.row)
    target = row_folder(folder, job.row.name, job.training_seed, bench)
    target.mkdir(parents=True, exist_ok=True)
    # Build and calibrate.
    net, network = open_network(bench, folder, job.row, job.training_seed)
    structure: Mapping[str, Any] = network.network
    weights = None
    if job.row.net is not None and job.training_seed is not None:
        weights = network_folder(folder, job.row.net, job.training_seed) / WEIGHTS
    if isinstance(entry, StitchRival):
        structure = {"small": structure}
        net = build_network(structure, bench.fresh_backbone(), weights)
    found = calibrated(bench, folder, job.row, entry, net, target)
    weights = found.weights or weights
    if weights is not None and weights.parent != target:
        _link(weights, target / WEIGHTS)
        weights = target / WEIGHTS
    # Measure.
    file = _method_file(bench, job.row.name, found, structure, weights)
    records = [_measured(bench, job, job.row.name, entry.kind, file, net, target, found, network)]
    write_method_file(target / METHOD, file)
    if job.row.dynamic:
        records.append(_twin(bench, job, file, net, target, network, weights))
    seconds = round((time.perf_counter() - began) / len(records), 3)
    return tuple(dataclasses.replace(record, seconds=seconds) for record in records)


def row_folder(folder: RunFolder, name: str, training_seed: int | None, bench: Workbench) -> Path:
    """Folder of a row; the first training seed has the row's own."""
    first = bench.settings.search.seed
    return folder.method(name, None if training_seed in (None, first) else training_seed)


def solver_of(bench: Workbench, file: MethodFile) -> Solver:
    """The study's solver, or one with fewer steps where the method is just that."""
    if file.kind != "steps":
        return bench.solver
    assert file.num_steps is not None
    settings = dataclasses.replace(bench.settings.solver, num_steps=file.num_steps)
    process = build_process(bench.settings.diffusion)
    return build_solver(settings, process, learned_variance=learns_variance(bench.pretrained))


def _method_file(
    bench: Workbench,
    name: str,
    found: Calibrated,
    structure: Mapping[str, Any],
    weights: Path | None,
) -> MethodFile:
    bound = found.num_steps is not None
    return MethodFile(
        name=name,
        kind=cast(Any, found.kind),
        backbone=ScheduledBackbone(
            family=family_of(bench.settings.backbone),
            num_exit_blocks=bench.backbone.num_exit_blocks,
            fingerprint=fingerprint(bench.pretrained),
        ),
        solver=bench.settings.solver.name if bound else None,
        num_steps=found.num_steps,
        numbers=found.numbers,
        network=structure,
        weights=None if weights is None else weights.name,
    )


def _twin(
    bench: Workbench,
    job: RowJob,
    file: MethodFile,
    net: Backbone,
    target: Path,
    network: NetworkRecord,
    weights: Path | None,
) -> RivalRecord:
    """Measure the schedule with the mean depths that the dynamic method took."""
    method = build_method(file.kind, file.numbers, None, net.num_exit_blocks)
    settings = bench.settings.evaluation
    _, runs = sampled(bench, net, method, bench.solver, settings.seed, settings.num_samples)
    blocks = blocks_by_call(runs)
    schedule = frozen_schedule(
        blocks,
        bench.solver.times,
        net.num_exit_blocks,
        num_blocks_of(net) - net.num_exit_blocks,
        bench.settings.space.num_intervals,
    )
    name = job.row.name + TWIN
    folder = target.parent / name if target.name == job.row.name else target / "twin"
    folder.mkdir(parents=True, exist_ok=True)
    if weights is not None:
        _link(weights, folder / WEIGHTS)
    found = Calibrated(kind="schedule", numbers={"depths": list(schedule.depths)})
    twin = _method_file(bench, name, found, file.network, None if weights is None else weights)
    record = _measured(bench, job, name, "schedule", twin, net, folder, found, network)
    write_method_file(folder / METHOD, twin)
    return record


def _measured(
    bench: Workbench,
    job: RowJob,
    name: str,
    kind: str,
    file: MethodFile,
    net: Backbone,
    target: Path,
    found: Calibrated,
    network: NetworkRecord,
) -> RivalRecord:
    """Quality at every seed, and an account of what one run does."""
    settings, solver = bench.settings.evaluation, solver_of(bench, file)
    weights = None if file.weights is None else target / file.weights
    method = build_method(file.kind, file.numbers, weights, net.num_exit_blocks)
    # Measure quality.
    qualities: list[SeedQuality] = []
    runs: list[NetworkCall] = []
    auditor = bench.auditor
    for seed in (settings.seed, *settings.confirm_seeds_used):
        quality = bench.measure(
            net,
            method,
            seed=seed,
            num_samples=settings.num_samples,
            auditor=auditor,
            solver=solver,
            observe=runs.append,
        )
        if not qualities:
            save_grid(quality.samples, target / "samples.png")
        qualities.append(
            SeedQuality(
                seed=seed,
                fid=quality.fid,
                kid=quality.kid,
                sample_std=quality.sample_std,
                audit_fid=quality.audit_fid,
                class_accuracy=quality.class_accuracy,
            )
        )
    # Account for its work.
    blocks = blocks_by_call([run for run in runs if isinstance(run, ObservedCall)])
    full = ExitSchedule.flat(bench.backbone.num_exit_blocks)
    held = max(
        (
            run.peak_bytes / len(run.blocks[0])
            for run in runs
            if isinstance(run, ObservedCall) and run.blocks
        ),
        default=0.0,
    )
    extra = count_parameters(net) - count_parameters(bench.backbone)
    extra += numbers_in(weights) if file.kind == "block_cache" else 0
    return RivalRecord(
        name=name,
        entry=job.row.entry,
        kind=kind,
        training_seed=job.training_seed,
        config_sha256=digest_of(bench.settings, job.row, job.training_seed),
        protocol=bench.protocol(seed=settings.seed, num_samples=settings.num_samples),
        qualities=tuple(qualities),
        num_samples=settings.num_samples,
        features=bench.extractor.name,
        audit_features=None if auditor is None else auditor.extractor.name,
        share=share_of_blocks(bench, net, method, solver, blocks),
        macs=macs_of(bench, net, method, solver),
        full_macs=macs_of(bench, bench.backbone, full, bench.solver),
        extra_parameters=extra,
        held_bytes=round(held),
        time_share=share_explained_by_time(blocks) if job.row.dynamic and blocks else None,
        training_samples=network.samples,
        training_seconds=network.seconds,
        calibration_calls=found.calls,
        calibration_seconds=found.seconds,
        note=found.note,
        worker=worker_name(),
        versions=versions(),
    )


def _link(source: Path, target: Path) -> None:
    """Put the same file into another folder, without a copy where the disk can."""
    import shutil

    from schedsearch.files.atomic import replacing

    try:
        with replacing(target) as temporary:
            temporary.unlink(missing_ok=True)
            temporary.hardlink_to(source)
    except OSError:
        with replacing(target) as temporary:
            shutil.copyfile(source, temporary)
