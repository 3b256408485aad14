"""Latency predicted from a table per exit depth: T = c0 + sum over steps of (a + b depth).

Blocks of a transformer cost the same, so one network call is affine in its exit depth, and a
sampling run is the sum of its calls and a constant for the solver. The calls are measured
interleaved with runs: on a busy CPU predictions were off by 17 % when measured apart and by 3 %
when interleaved.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from schedsearch.evaluation.clocks import Clock, build_clock
from schedsearch.evaluation.latency import LatencyBench, LatencyProtocol
from schedsearch.evaluation.latency_rounds import Work, time_rounds, totals
from schedsearch.protocols import Backbone, Solver
from schedsearch.schedules.exit_schedule import ExitSchedule

MAX_DEPTHS = 16
"""Up to this many exits every one is measured; of more, 12 evenly spaced ones."""

_SPACED_DEPTHS = 12

CALLS = 5
"""Calls per round at each of them, one after the other."""

GOOD_FIT, ROUGH_FIT = 0.05, 0.10
"""Mean relative residuals: on an idle machine 2 to 3 % are usual, when it is busy 17 %."""

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
    """Cost of a run outside the network; may absorb a small bias of the single calls."""
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
            times: Where the solver calls the network, on the schedules' clock.
        """
        return self.c0_ms + sum(self.a_ms + self.b_ms * depth for depth in schedule.visited(times))

    def trust(self, deviation: float) -> Trust:
        """How far predictions can be trusted.

        Args:
            deviation: Mean relative error of the predictions of mixed schedules.
        """
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
        """The table that :meth:`to_dict` wrote."""
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
    depths: Sequence[int] | None = None,
    seed: int = 0,
    clock: Clock | None = None,
) -> LatencyTable:
    """Measure calls at every exit and runs at three flat schedules.

    Args:
        net: The network, on the device to measure; changed in nothing.
        solver: The solver of the space.
        protocol: Batch, data type, threads and guidance to measure with.
        repeats: Rounds; each times everything once.
        min_depth: Smallest exit depth of the space, or of the schedules to predict.
        depths: Exit depths of the single calls; None takes :func:`table_depths`.
        seed: Of the orders.
        clock: Times the work; None takes the one for the network's device.
    """
    with LatencyBench(net, solver, protocol) as bench:
        work = table_work(bench, min_depth, net.num_exit_blocks, depths)
        rounds = time_rounds(work, clock or build_clock(bench.device), repeats, seed)
    return table_from_times(totals(rounds), solver, protocol)


def table_work(
    bench: LatencyBench, min_depth: int, num_exit_blocks: int, depths: Sequence[int] | None = None
) -> dict[str, Work]:
    """The calls (``call 3``) and runs (``run 10``) that a table needs, to be timed in rounds."""
    calls = sorted(set(depths or table_depths(min_depth, num_exit_blocks)))
    if len(calls) == 1:  # a line needs two points, inside the space or not
        calls = sorted({1, *calls, num_exit_blocks})
    runs = sorted({calls[0], (calls[0] + num_exit_blocks + 1) // 2, num_exit_blocks})
    work = {f"call {depth}": bench.network_calls(depth, CALLS) for depth in calls}
    return work | {f"run {d}": bench.sampling_run(ExitSchedule.flat(d)) for d in runs}


def table_from_times(
    times: Mapping[str, Sequence[float]], solver: Solver, protocol: LatencyProtocol
) -> LatencyTable:
    """Fit a table to the rounds of :func:`table_work`; other names are left alone."""
    medians: dict[str, dict[int, float]] = {"call": {}, "run": {}}
    for name, rounds in times.items():
        kind, _, depth = name.partition(" ")
        if kind in medians and depth.isdecimal():
            medians[kind][int(depth)] = statistics.median(rounds)
    return fit_table(
        {depth: ms / CALLS for depth, ms in medians["call"].items()},
        medians["run"],
        num_calls=len(solver.times),
        repeats=min(len(rounds) for rounds in times.values()),
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
        protocol: What they were measured with.
    """
    call_depths = np.array(list(depth_ms), dtype=float)
    call_times = np.array(list(depth_ms.values()))
    if len(depth_ms) > 1:
        b, a = (float(value) for value in np.polyfit(call_depths, call_times, 1))
    else:  # a network of one block
        b, a = float(call_times[0] / call_depths[0]), 0.0
    run_depths = np.array(list(run_ms), dtype=float)
    run_times = np.array(list(run_ms.values()))
    c0 = float(np.median(run_times - num_calls * (a + b * run_depths)))
    errors = np.abs(
        np.concatenate(
            [
                (a + b * call_depths) / call_times - 1.0,
                (c0 + num_calls * (a + b * run_depths)) / run_times - 1.0,
            ]
        )
    )
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
    """Exit depths worth a measurement: all of up to 16, else 12 evenly spaced ones."""
    if max_depth - min_depth + 1 <= MAX_DEPTHS:
        return list(range(min_depth, max_depth + 1))
    spaced = np.linspace(min_depth, max_depth, _SPACED_DEPTHS)
    return sorted({round(depth) for depth in spaced.tolist()})
