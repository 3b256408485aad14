"""Latency from rounds: each round runs every schedule once, in random order.

Clock speed and other processes change times by more than schedules differ. So only the ratio to
full depth in the same round is used. On a CPU the runs are interleaved step by step.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from schedsearch.evaluation.clocks import Clock

Work = Callable[[], Iterable[object]]
"""Starts work, such as sampling a batch. Iterating the result runs its steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyMeasurement:
    """Latency of one schedule, with half-widths of 95 % t intervals."""

    median_ms: float
    """Median ratio to full depth, times the median milliseconds of full depth."""
    half_width_ms: float
    """Half-width of ``median_ms``, without the error of full depth; 0 for one round."""
    repeats: int
    """Number of rounds."""
    acceleration: float
    """Fraction of time saved against full depth: 1 - median ratio."""
    acceleration_half_width: float
    """Half-width of ``acceleration``; 0 for one round."""


def summarise(
    times: Mapping[str, Sequence[float]], baseline: str
) -> dict[str, LatencyMeasurement]:
    """Compute latency and saving of every schedule from its ratios to full depth.

    Args:
        times: Milliseconds of whole runs by name, one per round.
        baseline: Name of full depth.
    """
    full = times[baseline]
    full_ms = statistics.median(full)
    found = {}
    for name, own in times.items():
        ratios = [ms / full_depth for ms, full_depth in zip(own, full, strict=True)]
        ratio, half_width = statistics.median(ratios), t_half_width(ratios)
        found[name] = LatencyMeasurement(
            median_ms=ratio * full_ms,
            half_width_ms=t_half_width(full) if name == baseline else half_width * full_ms,
            repeats=len(own),
            acceleration=1.0 - ratio,
            acceleration_half_width=half_width,
        )
    return found


def t_half_width(values: Sequence[float]) -> float:
    """Return the half-width of the 95 % t interval; 0 for a single value."""
    from scipy.special import stdtrit  # NOTE: scipy.stats takes a second to import

    num = len(values)
    if num < 2:
        return 0.0
    return float(stdtrit(num - 1, 0.975)) * statistics.stdev(values) / math.sqrt(num)


def time_rounds(
    work: Mapping[str, Work], clock: Clock, repeats: int, seed: int = 0
) -> dict[str, list[float]]:
    """Time every piece of work once per round.

    Args:
        work: Pieces of work by name.
        clock: Times the work, and defines whether steps are interleaved.
        repeats: Number of rounds, >= 1.
        seed: Seed of the random orders.

    Returns:
        Milliseconds of the whole work by name, one per round.
    """
    if repeats < 1:
        raise ValueError(f"A latency needs at least one repeat, but got {repeats}.")
    rng = np.random.default_rng(seed)
    # Warm up.
    for start in work.values():
        for _ in range(clock.num_warmups):
            _run(start, num_steps=1 if clock.interleaves_steps else None)
    # Time.
    time_round = _time_steps if clock.interleaves_steps else _time_runs
    rounds = [time_round(work, clock, rng) for _ in range(repeats)]
    return {name: [times[name] for times in rounds] for name in work}


def whole_runs(clock: Clock, repeats: int) -> int:
    """Return how many whole runs of each piece of work :func:`time_rounds` needs."""
    if clock.interleaves_steps:
        return 2 * repeats  # NOTE: one is timed, one repeats its steps to warm the caches
    return clock.num_warmups + repeats


def _time_runs(
    work: Mapping[str, Work], clock: Clock, rng: np.random.Generator
) -> dict[str, float]:
    """Time one whole run after the other."""
    return {name: clock.time_ms(partial(_run, work[name])) for name in _shuffled(work, rng)}


def _time_steps(
    work: Mapping[str, Work], clock: Clock, rng: np.random.Generator
) -> dict[str, float]:
    """Time all runs step by step, in a new random order at every step."""
    times = dict.fromkeys(work, 0.0)
    runs = {name: _SteppedRun(start) for name, start in work.items()}
    while runs:
        for name in _shuffled(runs, rng):
            run = runs[name]
            run.repeat_previous_step()
            times[name] += clock.time_ms(run.take_step)
            if run.ended:
                del runs[name]
    return times


class _SteppedRun:
    """A timed run, and an untimed copy of it one step behind."""

    def __init__(self, start: Work) -> None:
        self._steps = _steps_of(start)
        self._behind = itertools.chain([None], _steps_of(start))
        self.ended = False

    def repeat_previous_step(self) -> None:
        """Warm the caches, because other schedules ran in between."""
        next(self._behind)

    def take_step(self) -> None:
        self.ended = next(self._steps, _END) is _END


_END = object()


def _steps_of(start: Work) -> Iterator[object]:
    # NOTE: A generator delays the start of the work to its first step, so it is timed too.
    yield from start()


def _run(start: Work, num_steps: int | None = None) -> None:
    deque(itertools.islice(start(), num_steps), maxlen=0)


def _shuffled(names: Iterable[str], rng: np.random.Generator) -> list[str]:
    listed = list(names)
    return [listed[i] for i in rng.permutation(len(listed))]
