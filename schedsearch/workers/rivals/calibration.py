"""From a row to a method with numbers: thresholds for targets, plans, fits."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from safetensors.torch import save

from schedsearch.config.rival_entries import schedule_at
from schedsearch.files.atomic import replacing
from schedsearch.methods.caches.block_cache import Plan
from schedsearch.methods.caches.block_calibration import (
    ChangeRecording,
    ChangeRun,
    ScaleShiftRecording,
    ScaleShiftRun,
    fit_scale_shift,
    mean_changes,
    plan_from_changes,
)
from schedsearch.methods.caches.residual_calibration import (
    InputRecording,
    InputRun,
    fit_rescale,
)
from schedsearch.methods.caches.router import (
    CallRecording,
    CallRun,
    plans_of,
    train_router,
)
from schedsearch.methods.kinds import CELLS, numbers_of
from schedsearch.runs.methods.digests import family_in
from schedsearch.settings.rivals import (
    BlockCacheRival,
    FittedStepsRival,
    PlanSettings,
    Point,
    ResidualCacheRival,
    RivalSettings,
    RouterRival,
    ScheduleRival,
    SimilarityRival,
    StepsRival,
    StitchRival,
    TokenMergingRival,
    UncertaintyRival,
)
from schedsearch.workers.plans.choice import planned
from schedsearch.workers.rivals.choices import record_runs
from schedsearch.workers.rivals.fitted_steps import fitted_steps
from schedsearch.workers.rivals.thresholds import Calibrated, at_point, threshold_of

if TYPE_CHECKING:
    from schedsearch.protocols import Backbone
    from schedsearch.runs.folder import RunFolder
    from schedsearch.settings.rows import Row
    from schedsearch.workers.workbench import Workbench

CELLS_FILE = "cells.safetensors"
"""Scale and shift of a block cache, beside its method file."""

RANGES = {"uncertainty": (0.0, 1.0), "similarity": (-1.0, 1.0), "residual": (0.0, 1.0)}
INPUT_RANGE = (0.0, 4.0)
"""Where thresholds are sought; summed changes of the input may exceed 1."""


def calibrated(
    bench: Workbench,
    folder: RunFolder,
    row: Row,
    entry: RivalSettings,
    net: Backbone,
    target: Path,
) -> Calibrated:
    """Find the numbers of a row.

    Args:
        bench: Of the study.
        folder: The run folder, with its latency table.
        row: The row.
        entry: Its settings.
        net: The network that it runs on.
        target: The row's folder.

    Raises:
        StorageError: If the run has no latency table.
    """
    began = time.process_time()
    found = _calibrated(bench, folder, row, entry, net, target)
    if not found.samples:
        return found
    return replace(found, seconds=round(found.seconds + time.process_time() - began, 3))


def _calibrated(
    bench: Workbench,
    folder: RunFolder,
    row: Row,
    entry: RivalSettings,
    net: Backbone,
    target: Path,
) -> Calibrated:
    point, num_blocks = row.point, net.num_exit_blocks
    space = bench.settings.space
    if isinstance(entry, ScheduleRival):
        family = family_in(bench.settings)
        schedule = schedule_at(
            str(point), num_blocks, space.num_intervals, family, space.interval_edges
        )
        return Calibrated(
            kind="schedule", numbers=numbers_of(schedule, bench.settings.diffusion.clock)
        )
    if isinstance(entry, StepsRival):
        return Calibrated(kind="steps", numbers={}, num_steps=int(cast(int, point)))
    if isinstance(entry, FittedStepsRival):
        return fitted_steps(bench, net, int(cast(int, point)), entry.calibration_samples)
    if isinstance(entry, TokenMergingRival):
        numbers = {"ratio": point, "blocks": entry.blocks, "parts": list(entry.merge)}
        return Calibrated(kind="tome", numbers={**numbers, "random": entry.random})
    if isinstance(entry, StitchRival):
        return Calibrated(kind="stitch", numbers={"share": point})
    if isinstance(entry, PlanSettings):
        return planned(bench, folder, str(point), target)
    if isinstance(entry, BlockCacheRival):
        if isinstance(point, int):
            numbers = {"every": point, "parts": ["attention", "mlp"]}
            return Calibrated(kind="block_cache", numbers=numbers)
        return _block_plan(bench, entry, net, threshold_of(point), target)
    if isinstance(entry, RouterRival):
        return _router(bench, entry, net, float(cast(float, point)))
    if isinstance(entry, ResidualCacheRival):
        return _residual(bench, folder, entry, net, point)
    if isinstance(entry, UncertaintyRival | SimilarityRival):
        numbers = {"decide": entry.decide, "pair": entry.pair, "exits": entry.exits}
        if isinstance(entry, UncertaintyRival):
            numbers |= {"patience": entry.patience, "variant": entry.variant}
        more = isinstance(entry, SimilarityRival)
        limits = RANGES[entry.kind]
        return at_point(
            bench, folder, entry.kind, numbers, net, point, limits=limits, increasing=more
        )
    # A pruned or small network runs at its full depth.
    full = space.build().schedule([num_blocks] * space.num_intervals)
    return Calibrated(kind="schedule", numbers=numbers_of(full, bench.settings.diffusion.clock))


def _block_plan(
    bench: Workbench, entry: BlockCacheRival, net: Backbone, threshold: float, target: Path
) -> Calibrated:
    """A plan of Block Caching, and its scale and shift."""
    num_samples = entry.calibration_samples
    runs = record_runs(bench, net, ChangeRecording(), num_samples)
    changes = mean_changes(cast(ChangeRun, run) for run in runs)
    plan = plan_from_changes(changes, threshold)
    reused = sum(not bit for row in plan for bit in row) / sum(map(len, plan))
    numbers: dict[str, Any] = {
        "parts": ["attention"],
        "recompute": _texts(plan),
    }
    weights = None
    if entry.scale_shift == "closed_form":
        runs = record_runs(bench, net, ScaleShiftRecording(plan), num_samples)
        fit = fit_scale_shift(cast(ScaleShiftRun, run) for run in runs)
        weights, numbers["scale_shift"] = target / CELLS_FILE, True
        with replacing(weights) as temporary:
            temporary.write_bytes(save({CELLS: fit}))
    return Calibrated(
        kind="block_cache",
        numbers=numbers,
        num_steps=len(plan),
        weights=weights,
        samples=num_samples * (1 + (weights is not None)),
        note=f"{reused:.0%} of the attention outputs are reused",
    )


def _router(bench: Workbench, entry: RouterRival, net: Backbone, penalty: float) -> Calibrated:
    """Plans of Learning-to-Cache, by a router that is trained on calibration images."""
    runs = record_runs(bench, net, CallRecording(), entry.calibration_samples)
    weights = train_router(
        net,
        [cast(CallRun, run) for run in runs],
        penalty=penalty,
        iterations=entry.iterations,
        batch_size=entry.batch_size,
        lr=entry.lr,
        seed=bench.settings.search.seed,
    )
    attention, mlp = plans_of(weights)
    bits = [bit for plan in (attention, mlp) for row in plan for bit in row]
    return Calibrated(
        kind="block_cache",
        numbers={
            "parts": ["attention", "mlp"],
            "recompute": _texts(attention),
            "recompute_mlp": _texts(mlp),
        },
        num_steps=len(attention),
        samples=entry.calibration_samples,
        note=f"{bits.count(False) / len(bits):.0%} of attentions and MLPs are reused",
    )


def _texts(plan: Plan) -> list[str]:
    """A plan as it stands in a method file, one text of 0 and 1 per step."""
    return ["".join("01"[bit] for bit in row) for row in plan]


def _residual(
    bench: Workbench,
    folder: RunFolder,
    entry: ResidualCacheRival,
    net: Backbone,
    point: Point | None,
) -> Calibrated:
    numbers: dict[str, Any] = {
        "first": entry.first,
        "signal": entry.signal,
        "warmup": entry.warmup,
        "decide": entry.decide,
    }
    if entry.signal == "steps":
        return Calibrated(kind="residual_cache", numbers={**numbers, "every": point})
    note, samples = "", 0
    if entry.rescale == "poly4":
        runs = record_runs(bench, net, InputRecording(), entry.calibration_samples)
        fit = fit_rescale(pair for run in runs for pair in cast(InputRun, run).pairs)
        samples = entry.calibration_samples
        note = f"polynomial: R^2 {fit.r2:.2f}"
        if fit.rescale is None:
            note += ", below 0.8, so changes stay as they are"
        else:
            numbers["rescale"] = list(fit.rescale)
    return at_point(
        bench,
        folder,
        "residual_cache",
        numbers,
        net,
        point,
        limits=INPUT_RANGE if entry.signal == "input" else RANGES["residual"],
        increasing=False,
        note=note,
        samples=samples,
    )
