"""Quality of a row at every seed, and an account of what one run does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from schedsearch.backbones.guidance import learns_variance
from schedsearch.diffusion.process import build_process
from schedsearch.evaluation.flops import count_parameters
from schedsearch.evaluation.grid import save_grid
from schedsearch.methods.exits.freeze import share_explained_by_time
from schedsearch.methods.kinds import build_method
from schedsearch.methods.loading import ADDS_WEIGHTS
from schedsearch.methods.solver import build_solver_for
from schedsearch.protocols import ObservedCall
from schedsearch.runs.methods.digests import decision_batch_in, digest_of
from schedsearch.runs.methods.records import RivalRecord, SeedQuality
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.settings.plan import PLAN
from schedsearch.workers.failures import worker_name
from schedsearch.workers.rivals.account import (
    MACS_IMAGES,
    blocks_by_call,
    macs_of,
    numbers_in,
    share_of_blocks,
)
from schedsearch.workers.trial import versions

if TYPE_CHECKING:
    from schedsearch.methods.method_file import MethodFile
    from schedsearch.protocols import Backbone, Method, NetworkCall, Solver
    from schedsearch.workers.jobs import RowJob
    from schedsearch.workers.rivals.networks import NetworkRecord
    from schedsearch.workers.rivals.thresholds import Calibrated
    from schedsearch.workers.workbench import Workbench


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRow:
    """A row with the network that it runs on."""

    bench: Workbench
    job: RowJob
    net: Backbone
    network: NetworkRecord


def solver_of(bench: Workbench, file: MethodFile) -> Solver:
    """The study's solver, or the method's own."""
    return build_solver_for(
        file,
        bench.settings.solver,
        build_process(bench.settings.diffusion),
        learned_variance=learns_variance(bench.pretrained),
    )


def measured_record(
    row: OpenRow, file: MethodFile, kind: str, found: Calibrated, target: Path
) -> RivalRecord:
    """Measure a method, and return its record.

    Args:
        row: The row that the method belongs to, its own or that of its static twin.
        file: The method.
        kind: What the record calls it.
        found: What its calibration took.
        target: Folder of its weights and pictures.
    """
    bench, job, net = row.bench, row.job, row.net
    settings, solver = bench.settings.evaluation, solver_of(bench, file)
    weights = None if file.weights is None else target / file.weights
    method = build_method(file.kind, file.numbers, weights, net.num_exit_blocks)
    qualities, runs = _qualities(row, method, solver, target)
    observed = [run for run in runs if isinstance(run, ObservedCall)]
    blocks = blocks_by_call(observed)
    full = ExitSchedule.flat(bench.backbone.num_exit_blocks)
    held = max((run.peak_bytes / len(run.blocks[0]) for run in observed if run.blocks), default=0)
    extra = count_parameters(net) - count_parameters(bench.backbone)
    extra += numbers_in(weights) if file.kind in ADDS_WEIGHTS else 0
    is_own = file.name == job.row.name
    # NOTE: What a threshold runs depends on the images, so a whole batch is counted.
    counted = settings.batch_size if "threshold" in file.numbers else MACS_IMAGES
    return RivalRecord(
        name=file.name,
        entry=job.row.entry,
        kind=kind,
        training_seed=job.training_seed,
        config_sha256=digest_of(bench.settings, job.row, job.training_seed),
        protocol=bench.protocol(seed=settings.seed, num_samples=settings.num_samples),
        qualities=qualities,
        num_samples=settings.num_samples,
        confirm_samples=settings.confirm_samples,
        features=bench.extractor.name,
        audit_features=None if bench.auditor is None else bench.auditor.extractor.name,
        reference_std=bench.reference.pixel_std,
        decision_batch=decision_batch_in(bench.settings, job.row) if is_own else None,
        share=share_of_blocks(bench, net, method, solver, blocks),
        macs=macs_of(bench, net, method, solver, counted),
        full_macs=macs_of(bench, bench.backbone, full, bench.solver),
        extra_parameters=extra,
        held_bytes=round(held),
        time_share=share_explained_by_time(blocks) if job.row.dynamic and blocks else None,
        training_samples=row.network.samples,
        training_seconds=row.network.seconds,
        calibration_samples=found.samples,
        calibration_seconds=found.seconds,
        steps=tuple(found.numbers["steps"]) if found.kind == PLAN else (),
        note=found.note,
        worker=worker_name(),
        versions=versions(),
    )


def _qualities(
    row: OpenRow, method: Method, solver: Solver, target: Path
) -> tuple[tuple[SeedQuality, ...], list[NetworkCall]]:
    """Quality at every seed, and all runs of the method; the first is drawn."""
    bench, settings = row.bench, row.bench.settings.evaluation
    found: list[SeedQuality] = []
    runs: list[NetworkCall] = []
    for seed in (settings.seed, *settings.confirm_seeds_used):
        is_held_out = seed != settings.seed
        num_samples = settings.confirm_samples_used if is_held_out else settings.num_samples
        quality = bench.measure(
            row.net,
            method,
            seed=seed,
            num_samples=num_samples,
            auditor=bench.auditor,
            solver=solver,
            observe=runs.append,
        )
        if not found:
            save_grid(quality.samples, target / "samples.png")
        found.append(
            SeedQuality(
                seed=seed,
                fid=quality.fid,
                kid=quality.kid,
                sample_std=quality.sample_std,
                audit_fid=quality.audit_fid,
                class_accuracy=quality.class_accuracy,
                nn_distance=quality.nn_distance,
                near_copies=quality.near_copies,
            )
        )
    return tuple(found), runs
