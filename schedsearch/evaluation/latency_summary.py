"""What rounds of timed steps say: latency, spread and saving of every schedule.

A step's time is taken for the product of its pace, that of its turn in its round, and the
schedule's own cost of it; both are found by a median polish of the logarithms (Tukey, 1977). The
pace comes from everything that took the turn, since full depth alone is no steadier than the
others, and rounds that left some out compare with those that did not. The ratio of two sums of
costs is that of the latencies. A neighbour disturbs a step here and there, which the median over
the rounds forgets and the sum of a run keeps: nine rounds in turns tell two schedules apart as
well as a dozen do by the sums of their runs (``benchmarks/latency_turns.py``). Runs timed as a
whole are runs of one step.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Round = Mapping[str, Sequence[float]]
"""Milliseconds of every step, by name."""

UNSTABLE_ABOVE = 0.05
"""A latency whose 95 % half-width exceeds this share of it should not be trusted."""

POLISHES = 10
"""Sweeps of the median polish; a handful suffices."""

CLIPPED_AT = 8.0
"""Median deviations that a deviation counts as at most. Rounds that a neighbour disturbed do not
matter to a median, and with this limit hardly to its half-width.
"""

EXACT = 1e-9
"""A relative spread that no clock shows."""

TINY_MS = 1e-6
"""A clock's nanosecond: what a step takes at least, since logarithms are taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyMeasurement:
    """Latency of one schedule over several rounds."""

    median_ms: float
    """Share of full depth (see :func:`summarise`), in milliseconds at full depth's median."""
    half_width_ms: float
    """95 % half-width of ``median_ms``; full depth's median is taken as known, its share not."""
    own_half_width_ms: float
    """The same without full depth's part, as it counts between two other schedules."""
    repeats: int
    """Rounds that timed it."""
    acceleration: float
    """Fraction of time saved against full depth: 1 - share."""
    acceleration_half_width: float
    """95 % half-width of ``acceleration``."""

    @property
    def unstable(self) -> bool:
        """Whether the rounds disagree too much to be trusted: measure again."""
        return self.half_width_ms > UNSTABLE_ABOVE * self.median_ms

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with the verdict."""
        return {**asdict(self), "unstable": self.unstable}


def summarise(rounds: Sequence[Round], baseline: str) -> dict[str, LatencyMeasurement]:
    """Latency, spread and saving from all rounds at once.

    Args:
        rounds: The first timed everything, all timed the baseline.
        baseline: Full depth's name.

    Returns:
        A measurement per name, in the order of the first round.

    Raises:
        ValueError: If something has another number of steps than the baseline.
    """
    logs = _logarithms(rounds, len(rounds[0][baseline]))
    names = list(rounds[0])
    full = names.index(baseline)
    costs, residuals = _polished(logs)
    sums = costs.sum(axis=1)
    widths = _half_widths(costs, residuals) / sums
    full_times = [sum(times[baseline]) for times in rounds]
    full_ms = statistics.median(full_times)
    found = {}
    for i, name in enumerate(names):
        ratio = float(sums[i] / sums[full])
        width = ratio * float(np.hypot(widths[i], widths[full])) if i != full else 0.0
        found[name] = LatencyMeasurement(
            median_ms=ratio * full_ms,
            half_width_ms=median_half_width(full_times) if i == full else width * full_ms,
            own_half_width_ms=ratio * float(widths[i]) * full_ms,
            repeats=sum(name in times for times in rounds),
            acceleration=1.0 - ratio,
            acceleration_half_width=width,
        )
    return found


def _logarithms(rounds: Sequence[Round], num_steps: int) -> NDArray[np.float64]:
    """Of milliseconds, (rounds, names, steps); NaN where a round left something out."""
    for times in rounds:
        for name, steps in times.items():
            if len(steps) != num_steps:
                raise ValueError(
                    f"Times compare step by step, but {name} has {len(steps)} steps instead of "
                    f"{num_steps}; time what has the same solver."
                )
    left_out = [np.nan] * num_steps
    ms = np.array([[times.get(name, left_out) for name in rounds[0]] for times in rounds])
    logs: NDArray[np.float64] = np.log(np.maximum(ms, TINY_MS))
    return logs


def _polished(logs: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Costs of steps and what they leave unexplained, from (rounds, names, steps).

    Returns:
        Milliseconds at the median pace, (names, steps), and residual logarithms, (rounds,
        names, steps), as large as they would be if the pace had absorbed nothing of them.
    """
    pace = np.nanmedian(logs, axis=1, keepdims=True)
    for _ in range(POLISHES):
        shares = np.nanmedian(logs - pace, axis=0, keepdims=True)
        pace += np.nanmedian(logs - pace - shares, axis=1, keepdims=True)
    costs = np.exp(shares + np.median(pace, axis=0, keepdims=True))[0]
    counts = np.isfinite(logs).sum(axis=1, keepdims=True)
    return costs, (logs - pace - shares) * np.sqrt(counts / np.maximum(counts - 1, 1))


def _half_widths(
    costs: NDArray[np.float64], residuals: NDArray[np.float64]
) -> NDArray[np.float64]:
    """95 % half-widths of the sums of steps, in milliseconds, (names,).

    Steps err independently: in 50 rounds on a busy CPU those of a run did not correlate.
    """
    spreads = np.sqrt(((costs * _mean_deviation(residuals)) ** 2).sum(axis=1)) / costs.sum(axis=1)
    # The polish fits one of three schedules exactly in some few rounds, which says nothing.
    seen = spreads[spreads > EXACT]
    spreads = np.maximum(spreads, seen.min() if seen.size else 0.0)
    num = np.isfinite(residuals[:, :, 0]).sum(axis=0)
    widths: NDArray[np.float64] = costs.sum(axis=1) * _half_width(spreads, num)
    return widths


def median_half_width(values: Sequence[float]) -> float:
    """95 % half-width of a median: 1.96 * (pi / 2) * mean deviation from it / sqrt(n - 1).

    sqrt(pi / 2) times the mean deviation is a standard deviation, once more it is the price of
    a median over a mean. A deviation counts as ``CLIPPED_AT`` median ones at most. Normal
    approximation: with fewer than about ten values it is a rough figure.
    """
    deviation = _mean_deviation(np.subtract(values, np.median(values)))
    return float(_half_width(deviation, np.array(len(values))))


def _half_width(deviation: NDArray[np.float64], num: NDArray[np.int_]) -> NDArray[np.float64]:
    roots: NDArray[np.float64] = np.sqrt(np.maximum(num - 1, 1))
    return 1.96 * (np.pi / 2) * deviation / roots


def _mean_deviation(deviations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean absolute deviation along the first axis, clipped."""
    far = np.abs(deviations)
    clipped = np.minimum(far, CLIPPED_AT * np.nanmedian(far, axis=0))
    found: NDArray[np.float64] = np.nanmean(clipped, axis=0)
    return found
