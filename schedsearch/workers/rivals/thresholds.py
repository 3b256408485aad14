"""The threshold of a row: as given, or the one that meets a share of time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from schedsearch.evaluation.latency_protocol import study_protocol
from schedsearch.evaluation.latency_table import LatencyTable
from schedsearch.evaluation.method_latency import TimedMethod, measure_methods
from schedsearch.exceptions import StorageError
from schedsearch.methods.calibration import calibrate_measured
from schedsearch.methods.kinds import build_method
from schedsearch.protocols import ObservedCall
from schedsearch.runs.latency_file import LatencyReport
from schedsearch.settings.rivals import Point
from schedsearch.workers.rivals.choices import record_runs

if TYPE_CHECKING:
    from schedsearch.protocols import Backbone, Method
    from schedsearch.runs.folder import RunFolder
    from schedsearch.workers.workbench import Workbench

CALIBRATION_SAMPLES = 48
"""Images of one sampling run when a threshold is sought."""

TIMED_BATCHES = 2
"""Batches that are timed at a threshold."""


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
    samples: int = 0
    """Images that it sampled."""
    seconds: float = 0.0
    """CPU-seconds that it took."""
    note: str = ""


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


def timed_share(bench: Workbench, net: Backbone, method: Method) -> float:
    """Measured share of full depth's time, interleaved with it.

    Other workers may run beside it; they slow both alike.
    """
    settings = bench.settings
    timed = TimedMethod(net=net, method=method, solver=bench.solver, num_batches=TIMED_BATCHES)
    measured = measure_methods(
        {"method": timed},
        bench.backbone,
        bench.solver,
        study_protocol(bench.backbone, settings),
        repeats=settings.evaluation.latency_repeats,
    )
    return measured["method"].ratio


def at_point(
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
    samples: int = 0,
) -> Calibrated:
    """A threshold as it is, or the one whose measured time meets a target."""
    if isinstance(point, str):
        return Calibrated(
            kind=kind,
            numbers={"threshold": threshold_of(point), **numbers},
            note=note,
            samples=samples,
        )
    num_calls = len(bench.solver.times)

    def build(threshold: float) -> Method:
        return build_method(kind, {"threshold": threshold, **numbers}, None, net.num_exit_blocks)

    def predict(threshold: float) -> float:
        runs = record_runs(bench, net, build(threshold), CALIBRATION_SAMPLES)
        return share_of_time(runs, folder, net, num_calls)

    low, high = limits
    found = calibrate_measured(
        predict,
        lambda threshold: timed_share(bench, net, build(threshold)),
        float(cast(float, point)),
        low=low,
        high=high,
        increasing=increasing,
    )
    return Calibrated(
        kind=kind,
        numbers={"threshold": found.threshold, **numbers},
        samples=samples + found.num_calls * CALIBRATION_SAMPLES,
        note="; ".join(filter(None, [note, found.note])),
    )
