"""From a row to a method with numbers: thresholds for targets, plans, fits."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors.torch import save

from schedsearch.config.rival_rules import schedule_at
from schedsearch.evaluation.latency_table import LatencyTable
from schedsearch.exceptions import StorageError
from schedsearch.files.atomic import replacing
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
from schedsearch.methods.calibration import calibrate
from schedsearch.methods.kinds import CELLS, build_method
from schedsearch.protocols import ObservedCall
from schedsearch.runs.latency_file import LatencyReport
from schedsearch.settings.rivals import (
    BlockCacheRival,
    Point,
    ResidualCacheRival,
    RivalSettings,
    ScheduleRival,
    SimilarityRival,
    StepsRival,
    StitchRival,
    TokenMergingRival,
    UncertaintyRival,
)
from schedsearch.workers.rivals.choices import record_runs
from schedsearch.workers.rivals.digests import family_in

if TYPE_CHECKING:
    from schedsearch.protocols import Backbone
    from schedsearch.runs.folder import RunFolder
    from schedsearch.settings.rows import Row
    from schedsearch.workers.workbench import Workbench

CALIBRATION_SAMPLES = 48
"""Images of one sampling run when a threshold is sought."""

CELLS_FILE = "cells.safetensors"
"""Scale and shift of a block cache, beside its method file."""

RANGES = {"uncertainty": (0.0, 1.0), "similarity": (-1.0, 1.0), "residual": (0.0, 1.0)}
INPUT_RANGE = (0.0, 4.0)
"""Where thresholds are sought; summed changes of the input may exceed 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibrated:
    """The numbers of a row."""

    kind: str
    """Kind of the method file."""
    numbers: Mapping[str, Any]
    num_steps: int | None = None
    """Solver steps that the numbers are bound to."""
    weights: Path | None = None
    """File that the method adds, in the row's folder."""
    calls: int = 0
    """Sampling runs that it took."""
    seconds: float = 0.0
    """CPU-seconds that it took."""
    note: str = ""


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
    if not found.calls:
        return found
    from dataclasses import replace

    return replace(found, seconds=round(time.process_time() - began, 3))


def _calibrated(
    bench: Workbench,
    folder: RunFolder,
    row: Row,
    entry: RivalSettings,
    net: Backbone,
    target: Path,
) -> Calibrated:
    point, num_blocks = row.point, net.num_exit_blocks
    intervals = bench.settings.space.num_intervals
    if isinstance(entry, ScheduleRival):
        schedule = schedule_at(str(point), num_blocks, intervals, family_in(bench.settings))
        return Calibrated(kind="schedule", numbers={"depths": list(schedule.depths)})
    if isinstance(entry, StepsRival):
        return Calibrated(kind="steps", numbers={}, num_steps=int(cast(int, point)))
    if isinstance(entry, TokenMergingRival):
        numbers = {"ratio": point, "blocks": entry.blocks, "parts": list(entry.merge)}
        return Calibrated(kind="tome", numbers={**numbers, "random": entry.random})
    if isinstance(entry, StitchRival):
        return Calibrated(kind="stitch", numbers={"share": point})
    if isinstance(entry, BlockCacheRival):
        if isinstance(point, int):
            numbers = {"every": point, "parts": ["attention", "mlp"]}
            return Calibrated(kind="block_cache", numbers=numbers)
        return _block_plan(bench, entry, net, threshold_of(point), target)
    if isinstance(entry, ResidualCacheRival):
        return _residual(bench, folder, entry, net, point)
    if isinstance(entry, UncertaintyRival | SimilarityRival):
        numbers = {"decide": entry.decide, "pair": entry.pair, "exits": entry.exits}
        if isinstance(entry, UncertaintyRival):
            numbers |= {"patience": entry.patience, "variant": entry.variant}
        more = isinstance(entry, SimilarityRival)
        limits = RANGES[entry.kind]
        return _at_point(
            bench, folder, entry.kind, numbers, net, point, limits=limits, increasing=more
        )
    # A pruned or small network runs at its full depth.
    depths = [num_blocks] * intervals
    return Calibrated(kind="schedule", numbers={"depths": depths})


def threshold_of(point: Point | None) -> float:
    """The threshold that a point such as ``t0.3`` names."""
    return float(str(point).removeprefix("t"))


def share_of_time(
    runs: Sequence[object], folder: RunFolder, net: Backbone, num_calls: int
) -> float:
    """Predicted share of full depth's time, from the blocks that runs have counted.

    Args:
        runs: Runs of a method, each with its blocks per call.
        folder: Holds the latency table, measured in exit blocks.
        net: The network.
        num_calls: Network calls of a run.

    Raises:
        StorageError: If there is no table.
    """
    report = LatencyReport.load(folder)
    if report is None:
        raise StorageError(f"{folder.latency_file} is gone. Run the same command again.")
    table = LatencyTable.from_dict(report.table)
    always = getattr(net, "num_blocks", net.num_exit_blocks) - net.num_exit_blocks
    observed = [run for run in runs if isinstance(run, ObservedCall)]
    depths = torch.cat([torch.stack(run.blocks).float() for run in observed], dim=1) - always
    per_call = table.a_ms * num_calls
    ms = table.c0_ms + per_call + table.b_ms * float(depths.mean()) * num_calls
    return ms / (table.c0_ms + per_call + table.b_ms * net.num_exit_blocks * num_calls)


def _at_point(
    bench: Workbench,
    folder: RunFolder,
    kind: str,
    numbers: Mapping[str, Any],
    net: Backbone,
    point: Point | None,
    *,
    limits: tuple[float, float],
    increasing: bool,
    note: str = "",
    calls: int = 0,
) -> Calibrated:
    """A threshold as it is, or the one that meets a target."""
    if isinstance(point, str):
        return Calibrated(
            kind=kind,
            numbers={"threshold": threshold_of(point), **numbers},
            note=note,
            calls=calls,
        )
    num_calls = len(bench.solver.times)

    def measure(threshold: float) -> float:
        method = build_method(kind, {"threshold": threshold, **numbers}, None, net.num_exit_blocks)
        runs = record_runs(bench, net, method, CALIBRATION_SAMPLES)
        return share_of_time(runs, folder, net, num_calls)

    low, high = limits
    found = calibrate(
        measure, float(cast(float, point)), low=low, high=high, increasing=increasing
    )
    return Calibrated(
        kind=kind,
        numbers={"threshold": found.threshold, **numbers},
        calls=calls + found.num_calls,
        note="; ".join(filter(None, [note, found.note])),
    )


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
        "recompute": ["".join("01"[bit] for bit in row) for row in plan],
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
        calls=1 + (weights is not None),
        note=f"{reused:.0%} of the attention outputs are reused",
    )


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
    note, calls = "", 0
    if entry.rescale == "poly4":
        runs = record_runs(bench, net, InputRecording(), entry.calibration_samples)
        fit = fit_rescale(pair for run in runs for pair in cast(InputRun, run).pairs)
        calls = 1
        note = f"polynomial: R^2 {fit.r2:.2f}"
        if fit.rescale is None:
            note += ", below 0.8, so changes stay as they are"
        else:
            numbers["rescale"] = list(fit.rescale)
    return _at_point(
        bench,
        folder,
        "residual_cache",
        numbers,
        net,
        point,
        limits=INPUT_RANGE if entry.signal == "input" else RANGES["residual"],
        increasing=False,
        note=note,
        calls=calls,
    )
