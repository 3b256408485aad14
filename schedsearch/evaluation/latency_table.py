"""Predicts latency from measured costs: T = c0 + sum of (a + b depth).

The sum is over network calls. All blocks cost the same, so the time of one call is affine in its
exit depth. The solver adds a constant per run. Calls and runs are timed interleaved.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from schedsearch.evaluation.clocks import Clock, build_clock
from schedsearch.evaluation.latency import LatencyBench, cost_times
from schedsearch.evaluation.latency_protocol import LatencyProtocol
from schedsearch.evaluation.latency_rounds import Work, time_rounds
from schedsearch.protocols import Backbone, Solver
from schedsearch.schedules.exit_schedule import ExitSchedule

MAX_DEPTHS = 16
"""Largest number of exit depths that are all measured."""

SPACED_DEPTHS = 12
"""Number of evenly spaced depths to measure beyond ``MAX_DEPTHS``."""

CALLS = 5
"""Network calls per round at each depth."""

GOOD_FIT, ROUGH_FIT = 0.05, 0.10
"""Largest mean relative error of a good and of a rough fit."""

Trust = Literal["good", "rough", "not to be trusted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyTable:
    """Cost of a network call per exit depth, and of a sampling run."""

    depth_ms: dict[int, float]
    """Median milliseconds of one call for one batch, by exit depth."""
    run_ms: dict[int, float]
    """Median milliseconds of a sampling run with a flat schedule, by depth."""
    a_ms: float
    """Milliseconds of a call without blocks: embedding, final layer, guidance."""
    b_ms: float
    """Milliseconds of one block in one call."""
    c0_ms: float
    """Milliseconds of a run outside the network."""
    max_residual: float
    """Largest relative error of the fit over measured calls and runs."""
    mean_residual: float
    """Mean relative error of the fit over measured calls and runs."""
    num_calls: int
    """Network calls of one run; see :func:`schedsearch.evaluation.latency.cost_times`."""
    repeats: int
    protocol: LatencyProtocol

    def predict(self, schedule: ExitSchedule, times: Iterable[float]) -> float:
        """Predict the milliseconds to sample one batch.

        Args:
            schedule: Blocks to run per interval.
            times: Clock times of the solver's network calls, from :func:`cost_times`.
        """
        return self.c0_ms + sum(self.a_ms + self.b_ms * depth for depth in schedule.visited(times))

    def trust(self, deviation: float) -> Trust:
        """Judge the predictions by the fit and their mean error on real schedules.

        Args:
            deviation: Mean relative error of predictions against measured schedules.
        """
        worst = max(self.mean_residual, deviation)
        if worst <= GOOD_FIT:
            return "good"
        return "rough" if worst <= ROUGH_FIT else "not to be trusted"

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain data for JSON."""
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
    """Measure network calls at the exits and sampling runs of three flat schedules.

    Args:
        net: The network, on the device to measure; not changed.
        solver: The solver of the space.
        protocol: Batch, data type, threads and guidance of the measurement.
        repeats: Number of rounds; each times everything once.
        min_depth: Smallest exit depth of the space, or of the schedules to predict.
        seed: Seed of the random orders.
        clock: Clock for the measurement; None chooses one for the network's device.
    """
    with LatencyBench(net, solver, protocol) as bench:
        work = table_work(bench, min_depth, net.num_exit_blocks)
        times = time_rounds(work, clock or build_clock(bench.device), repeats, seed)
    return table_from_times(times, solver, protocol)


def table_work(bench: LatencyBench, min_depth: int, num_exit_blocks: int) -> dict[str, Work]:
    """Return the calls (named ``call 3``) and runs (``run 10``) of a table."""
    calls = table_depths(min_depth, num_exit_blocks)
    runs = sorted({calls[0], (calls[0] + num_exit_blocks + 1) // 2, num_exit_blocks})
    work = {f"call {depth}": bench.network_calls(depth, CALLS) for depth in calls}
    return work | {f"run {d}": bench.sampling_run(ExitSchedule.flat(d)) for d in runs}


def table_from_times(
    times: Mapping[str, Sequence[float]], solver: Solver, protocol: LatencyProtocol
) -> LatencyTable:
    """Fit a table to the times of :func:`table_work`; other names are ignored."""

    def medians(kind: str) -> dict[int, float]:
        return {
            int(name.removeprefix(kind)): statistics.median(rounds)
            for name, rounds in times.items()
            if name.startswith(kind)
        }

    return fit_table(
        {depth: ms / CALLS for depth, ms in medians("call ").items()},
        medians("run "),
        num_calls=len(cost_times(solver)),
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
        run_ms: Milliseconds of a sampling run with a flat schedule, by depth.
        num_calls: Network calls of one run.
        repeats: Number of rounds behind the medians.
        protocol: Protocol of the measurement.
    """
    # Fit the calls.
    depths, call_ms = np.array(list(depth_ms)), np.array(list(depth_ms.values()))
    if len(depths) > 1:
        b, a = np.polyfit(depths, call_ms, 1).tolist()
    else:  # a network of one block
        a, b = 0.0, float(call_ms[0] / depths[0])
    # Fit the runs.
    sums = num_calls * (a + b * np.array(list(run_ms)))
    measured = np.array(list(run_ms.values()))
    c0 = float(np.median(measured - sums))
    # Compute relative errors.
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
    """Return the exit depths to measure: all up to 16, else 12 evenly spaced."""
    if min_depth == max_depth:
        return sorted({1, max_depth})  # NOTE: a line needs two points
    if max_depth - min_depth + 1 <= MAX_DEPTHS:
        return list(range(min_depth, max_depth + 1))
    spaced = np.linspace(min_depth, max_depth, SPACED_DEPTHS).tolist()
    return [round(depth) for depth in spaced]
