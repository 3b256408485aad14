"""Timing in rounds: every schedule once per round, in a new order, until the rounds agree.

Clock speeds, caches and neighbours drift by more than schedules differ, so nothing is measured
once or in a block. What counts is the ratio to full depth in the same round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch

UNSTABLE_ABOVE = 0.05
"""A latency whose 95 % half-width exceeds this share of it should not be trusted."""

STEADY_BELOW = 0.01
"""Rounds are added for schedules whose relative 95 % half-width is not below this."""

MOST_ROUNDS = 2
"""Rounds at most for that, in multiples of those asked for."""

MOST_ROUNDS_OF_A_PAIR = 6
"""Rounds at most until it is clear which of two schedules is quicker, likewise. A block in seventy
is 1.4 % of a run, and single rounds of a busy CPU spread by 3 %, so 25 are needed.
"""

FEWEST_ROUNDS_OF_A_PAIR = 8
"""Before them a half-width is too rough to say that the order is clear."""


class Clock(Protocol):
    """Times work on one kind of device."""

    num_warmups: int
    """Runs before the first one that counts."""

    def time_ms(self, work: Callable[[], object]) -> float:
        """Run ``work`` to its end and return the milliseconds it took."""
        ...


class CpuClock:
    """Wall clock; the work is done when the call returns."""

    num_warmups = 1

    def time_ms(self, work: Callable[[], object]) -> float:
        """Run ``work`` and return the milliseconds it took."""
        start = time.perf_counter()
        work()
        return (time.perf_counter() - start) * 1000.0


class CudaClock:
    """Events on the device, which also count the gaps while it waits for the host.

    Args:
        device: The CUDA device.
    """

    num_warmups = 3  # lazy kernels, cuBLAS handles and the clock ramp

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def time_ms(self, work: Callable[[], object]) -> float:
        """Run ``work``, wait for the device and return the milliseconds it took."""
        with torch.cuda.device(self.device):
            start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
            start.record()
            work()
            end.record()
            torch.cuda.synchronize()
            return float(start.elapsed_time(end))


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyMeasurement:
    """Latency of one schedule over several rounds."""

    median_ms: float
    """Median of the rounds' ratios to full depth, in milliseconds at full depth's median."""
    half_width_ms: float
    """95 % half-width of ``median_ms``, full depth's median taken as known."""
    repeats: int
    """Rounds that timed it."""
    acceleration: float
    """Fraction of time saved against full depth: 1 - median of the rounds' ratios."""
    acceleration_half_width: float
    """95 % half-width of ``acceleration``."""

    @property
    def unstable(self) -> bool:
        """Whether the rounds disagree too much to be trusted: measure again."""
        return self.half_width_ms > UNSTABLE_ABOVE * self.median_ms

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with the verdict."""
        return {**asdict(self), "unstable": self.unstable}


def measure_rounds(
    work: Mapping[str, Callable[[], object]],
    baseline: str,
    clock: Clock,
    repeats: int,
    seed: int = 0,
    pairs: Collection[tuple[str, str]] = (),
) -> dict[str, LatencyMeasurement]:
    """Time everything in rounds, and what is not clear by then, beside the baseline, in more.

    Args:
        work: Whole sampling runs by name.
        baseline: The name of ``work`` that savings are measured against.
        clock: Times the work.
        repeats: Rounds of everything. What is not steady gets up to ``MOST_ROUNDS`` times as
            many in all.
        seed: Of the orders.
        pairs: Names whose order matters. Both get further rounds until it is clear, up to
            ``MOST_ROUNDS_OF_A_PAIR`` times ``repeats``.

    Returns:
        A measurement per name, in the order of ``work``.
    """
    times = time_rounds(work, clock, repeats, seed)
    rounds = [{name: times[name][k] for name in work} for k in range(repeats)]
    rng = np.random.default_rng((seed, repeats))
    while True:
        found = _summaries(rounds, list(work), baseline)
        again = [baseline]
        if len(rounds) < MOST_ROUNDS * repeats:
            again += [
                name
                for name, m in found.items()
                if name != baseline and m.half_width_ms > STEADY_BELOW * m.median_ms
            ]
        if len(rounds) < MOST_ROUNDS_OF_A_PAIR * repeats:
            unclear = [pair for pair in pairs if not _is_clear(rounds, *pair)]
            again += [name for pair in unclear for name in pair]
        if len(again) == 1:
            return found
        rounds.append(time_round({name: work[name] for name in dict.fromkeys(again)}, clock, rng))


def _summaries(
    rounds: Sequence[Mapping[str, float]], names: Sequence[str], baseline: str
) -> dict[str, LatencyMeasurement]:
    full_ms = statistics.median(times[baseline] for times in rounds)
    found = {}
    for name in names:
        own = [times for times in rounds if name in times]
        found[name] = summarise([t[name] for t in own], [t[baseline] for t in own], full_ms)
    return found


def _is_clear(rounds: Sequence[Mapping[str, float]], first: str, second: str) -> bool:
    """Whether the rounds that timed both say which one is quicker."""
    ratios = [t[first] / t[second] for t in rounds if first in t and second in t]
    gap = abs(statistics.median(ratios) - 1.0)
    return len(ratios) >= FEWEST_ROUNDS_OF_A_PAIR and gap > median_half_width(ratios)


def summarise(
    times_ms: Sequence[float], baseline_ms: Sequence[float], full_ms: float | None = None
) -> LatencyMeasurement:
    """Latency, spread and saving from the times of the same rounds.

    Args:
        times_ms: Of one schedule, one per round.
        baseline_ms: Of full depth in these rounds.
        full_ms: Full depth's median where it was timed in more rounds; None takes that of
            ``baseline_ms``.
    """
    ratios = [ms / base for ms, base in zip(times_ms, baseline_ms, strict=True)]
    ratio, spread = statistics.median(ratios), median_half_width(ratios)
    full_ms = statistics.median(baseline_ms) if full_ms is None else full_ms
    is_baseline = list(times_ms) == list(baseline_ms)
    return LatencyMeasurement(
        median_ms=ratio * full_ms,
        half_width_ms=median_half_width(times_ms) if is_baseline else spread * full_ms,
        repeats=len(ratios),
        acceleration=1.0 - ratio,
        acceleration_half_width=spread,
    )


def median_half_width(values: Sequence[float]) -> float:
    """95 % half-width of a median: 1.96 * 1.2533 * (IQR / 1.349) / sqrt(n).

    The interquartile range stands for the standard deviation because single rounds may be
    hit by other processes; 1.2533 = sqrt(pi / 2) is the price of a median over a mean. Normal
    approximation: with fewer than about ten rounds it is a rough figure.
    """
    low, high = np.quantile(values, [0.25, 0.75])
    return float(1.96 * 1.2533 * (high - low) / 1.349 / len(values) ** 0.5)


def time_rounds(
    work: Mapping[str, Callable[[], object]], clock: Clock, repeats: int, seed: int = 0
) -> dict[str, list[float]]:
    """Time every piece of work once per round, each round in a random order.

    Returns:
        Milliseconds by name, one per round, rounds in the same order for every name.
    """
    if repeats < 1:
        raise ValueError(f"A latency needs at least one repeat, but got {repeats}.")
    rng = np.random.default_rng(seed)
    for run in work.values():
        for _ in range(clock.num_warmups):
            run()
    rounds = [time_round(work, clock, rng) for _ in range(repeats)]
    return {name: [times[name] for times in rounds] for name in work}


def time_round(
    work: Mapping[str, Callable[[], object]], clock: Clock, rng: np.random.Generator
) -> dict[str, float]:
    """Time every piece of work once, in a random order: milliseconds by name."""
    names = list(work)
    return {names[i]: clock.time_ms(work[names[i]]) for i in rng.permutation(len(names))}


def build_clock(device: torch.device) -> Clock:
    """The clock for a device: events on CUDA, the wall clock on the CPU."""
    return CudaClock(device) if device.type == "cuda" else CpuClock()
