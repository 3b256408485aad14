"""Latency of sampling methods beside full depth, over several batches where it varies."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from schedsearch.evaluation.clocks import Clock, build_clock
from schedsearch.evaluation.latency import LatencyBench
from schedsearch.evaluation.latency_protocol import LatencyProtocol
from schedsearch.evaluation.latency_rounds import t_half_width, time_rounds
from schedsearch.protocols import Backbone, Method, Solver
from schedsearch.schedules.exit_schedule import ExitSchedule

LATENCY_SEED = 9000
"""Seed of the first timed batch of a dynamic method; quality uses other images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedMethod:
    """A method with the network and solver that it runs on."""

    net: Backbone
    method: Method
    solver: Solver
    num_batches: int = 1
    """Batches with noise of their own; more than one for a dynamic method."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodLatency:
    """Latency of one method, with 95 % t intervals."""

    ms: float
    """Ratio to full depth, mean over batches, times the median milliseconds of full depth."""
    half_width_ms: float
    """Half-width of ``ms`` over batches, or over rounds where there is one batch."""
    ratio: float
    """Time as a share of full depth's."""
    half_width: float
    """Half-width of ``ratio``."""
    p95_ms: float
    """95th percentile over batches and rounds."""
    num_batches: int
    repeats: int
    full_ms: float
    """Median milliseconds of full depth in the same rounds."""


def measure_methods(
    methods: Mapping[str, TimedMethod],
    net: Backbone,
    solver: Solver,
    protocol: LatencyProtocol,
    *,
    repeats: int,
    seed: int = 0,
    clock: Clock | None = None,
) -> dict[str, MethodLatency]:
    """Time sampling runs of methods, interleaved with full depth of one network.

    Args:
        methods: What to time, by name.
        net: The pretrained network, whose full depth is the baseline.
        solver: The solver of the space.
        protocol: Batch, data type, threads and guidance of the measurement.
        repeats: Number of rounds, >= 1; each times every batch of every method once.
        seed: Seed of the random orders.
        clock: Clock for the measurement; None chooses one for the network's device.
    """
    with LatencyBench(net, solver, protocol) as bench:
        full = bench.sampling_run(ExitSchedule.flat(net.num_exit_blocks))
        work = {("", 0): full}
        for name, timed in methods.items():
            for batch in range(timed.num_batches):
                work[name, batch] = bench.sampling_run(
                    timed.method,
                    net=timed.net,
                    solver=timed.solver,
                    seed=0 if timed.num_batches == 1 else LATENCY_SEED + batch,
                )
        named = {f"{name}#{batch}": start for (name, batch), start in work.items()}
        times = time_rounds(named, clock or build_clock(bench.device), repeats, seed)
    baseline = times["#0"]
    return {
        name: _latency([times[f"{name}#{b}"] for b in range(timed.num_batches)], baseline)
        for name, timed in methods.items()
    }


def _latency(batches: list[list[float]], baseline: list[float]) -> MethodLatency:
    """Summarise the times of one method, by batch and round."""
    ratios = [[ms / full for ms, full in zip(times, baseline, strict=True)] for times in batches]
    medians = [statistics.median(rounds) for rounds in ratios]
    half_width = t_half_width(medians if len(medians) > 1 else ratios[0])
    full_ms = statistics.median(baseline)
    ratio = statistics.fmean(medians)
    every = sorted(value for rounds in ratios for value in rounds)
    return MethodLatency(
        ms=ratio * full_ms,
        half_width_ms=half_width * full_ms,
        ratio=ratio,
        half_width=half_width,
        p95_ms=every[math.ceil(0.95 * len(every)) - 1] * full_ms,
        num_batches=len(batches),
        repeats=len(baseline),
        full_ms=full_ms,
    )
