"""Latency predicted from a table per exit depth: T = c0 + sum over steps of (a + b depth).

All blocks cost the same, so one network call is affine in its exit depth. A sampling run is
the sum of its calls and a constant for the solver. Calls and runs are timed interleaved.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from schedsearch.evaluation.clocks import Clock, build_clock
from schedsearch.evaluation.latency import LatencyBench, LatencyProtocol
from schedsearch.evaluation.latency_rounds import Work, time_rounds
from schedsearch.protocols import Backbone, Solver
from schedsearch.schedules.exit_schedule import ExitSchedule

MAX_DEPTHS = 16
"""Up to this many exit depths are all measured."""

SPACED_DEPTHS = 12
"""Evenly spaced depths that are measured of more than ``MAX_DEPTHS``."""

CALLS = 5
"""Calls per round at each depth."""

GOOD_FIT, ROUGH_FIT = 0.05, 0.10
"""Largest mean relative errors of a good and of a rough fit."""

Trust = Literal["good", "rough", "not to be trusted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyTable:
    """Cost of one network call per exit depth, and of a whole sampling run."""

    depth_ms: dict[int, float]
    """Median milliseconds of one call for one batch, by exit depth."""
    run_ms: dict[int, float]
    """Median milliseconds of a whole sampling run at some flat schedules, by depth."""
    a_ms: float
    """Cost of a call that runs no block: embedding, final layer, guidance."""
    b_ms: float
    """Cost of one block in one call."""
    c0_ms: float
    """Cost of a run outside the network."""
    max_residual: float
    """Largest relative error of the fit over the measured calls and runs."""
    mean_residual: float
    """Mean relative error of the fit over the measured calls and runs."""
    num_calls: int
    """Network calls of one run."""
    repeats: int
    protocol: LatencyProtocol

    def predict(self, schedule: ExitSchedule, times: Iterable[float]) -> float:
        """Predicted milliseconds to sample one batch.

        Args:
            schedule: Blocks to run per interval.
            times: Diffusion times at which the solver calls the network.
        """
        return self.c0_ms + sum(self.a_ms + self.b_ms * depth for depth in schedule.visited(times))

    def trust(self, deviation: float) -> Trust:
        """Verdict on predictions, given their mean relative error on mixed schedules."""
        worst = max(self.mean_residual, deviation)
        if worst <= GOOD_FIT:
            return "good"
        return "rough" if worst <= ROUGH_FIT else "not to be trusted"

    def to_dict(self) -> dict[str, Any]:
        """Plain data that JSON can hold."""
        data = asdict(self)
        for name in ("depth_ms", "run_ms"):
            data[name] = {str(depth): ms for depth, ms in data[name].items()}
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> LatencyTable:
        """Inverse of :meth:`to_dict`."""
        fields = dict(data)
        for name in ("depth_ms", "run_ms"):
            fields[name] = {int(depth): float(ms) for depth, ms in fields[name].items()}
        return cls(**{**fields, "protocol": LatencyProtocol(**fields["protocol"])})


def measure_table(
    net: Backbone,
    solver: Solver,
    protocol: LatencyProtocol,
    *,
    repeats: int,
    min_depth: int = 1,
    seed: int = 0,
    clock: Clock | None = None,
) -> LatencyTable:
    """Measure network calls at every exit and sampling runs at three flat schedules.

    Args:
        net: The network, on the device to measure; stays unchanged.
        solver: The solver of the space.
        protocol: Batch, data type, threads and guidance to measure with.
        repeats: Rounds; each times everything once.
        min_depth: Smallest exit depth of the space, or of the schedules to predict.
        seed: Of the random orders.
        clock: Times the work; None takes the one for the network's device.
    """
    with LatencyBench(net, solver, protocol) as bench:
        work = table_work(bench, min_depth, net.num_exit_blocks)
        times = time_rounds(work, clock or build_clock(bench.device), repeats, seed)
    return table_from_times(times, solver, protocol)


def table_work(bench: LatencyBench, min_depth: int, num_exit_blocks: int) -> dict[str, Work]:
    """The calls (``call 3``) and runs (``run 10``) that a table needs."""
    calls = table_depths(min_depth, num_exit_blocks)
    runs = sorted({calls[0], (calls[0] + num_exit_blocks + 1) // 2, num_exit_blocks})
    work = {f"call {depth}": bench.network_calls(depth, CALLS) for depth in calls}
    return work | {f"run {d}": bench.sampling_run(ExitSchedule.flat(d)) for d in runs}


def table_from_times(
    times: Mapping[str, Sequence[float]], solver: Solver, protocol: LatencyProtocol
) -> LatencyTable:
    """Fit a table to the times of :func:`table_work`; ignores other names."""

    def medians(kind: str) -> dict[int, float]:
        return {
            int(name.removeprefix(kind)): statistics.median(rounds)
            for name, rounds in times.items()
            if name.startswith(kind)
        }

    return fit_table(
        {depth: ms / CALLS for depth, ms in medians("call ").items()},
        medians("run "),
        num_calls=len(solver.times),
        repeats=len(next(iter(times.values()))),
        protocol=protocol,
    )


def fit_table(
    depth_ms: Mapping[int, float],
    run_ms: Mapping[int, float],
    *,
    num_calls: int,
    repeats: int,
    protocol: LatencyProtocol,
) -> LatencyTable:
    """Fit a, b and c0 to the medians of calls and runs.

    Args:
        depth_ms: Milliseconds of one network call, by exit depth.
        run_ms: Milliseconds of a sampling run at a flat schedule, by depth.
        num_calls: Network calls of one run.
        repeats: Rounds behind the medians.
        protocol: How they were measured.
    """
    depths, call_ms = np.array(list(depth_ms)), np.array(list(depth_ms.values()))
    if len(depths) > 1:
        b, a = np.polyfit(depths, call_ms, 1).tolist()
    else:  # a network of one block
        a, b = 0.0, float(call_ms[0] / depths[0])
    sums = num_calls * (a + b * np.array(list(run_ms)))
    measured = np.array(list(run_ms.values()))
    c0 = float(np.median(measured - sums))
    fit = np.concatenate([a + b * depths, c0 + sums])
    errors = np.abs(fit / np.concatenate([call_ms, measured]) - 1.0)
    return LatencyTable(
        depth_ms=dict(depth_ms),
        run_ms=dict(run_ms),
        a_ms=a,
        b_ms=b,
        c0_ms=c0,
        max_residual=float(errors.max()),
        mean_residual=float(errors.mean()),
        num_calls=num_calls,
        repeats=repeats,
        protocol=protocol,
    )


def table_depths(min_depth: int, max_depth: int) -> list[int]:
    """Exit depths to measure: all of up to 16, else 12 evenly spaced ones."""
    if min_depth == max_depth:
        return sorted({1, max_depth})  # a line needs two points
    if max_depth - min_depth + 1 <= MAX_DEPTHS:
        return list(range(min_depth, max_depth + 1))
    spaced = np.linspace(min_depth, max_depth, SPACED_DEPTHS).tolist()
    return [round(depth) for depth in spaced]
