"""Latency from rounds of runs: every round runs every schedule once, in random order.

Clock speed and other processes change a time by more than schedules differ. So only ratios to
full depth of the same round count. On a CPU the runs of a round are interleaved step by step.
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
"""Starts a piece of work, such as sampling a batch. Iterating over the result runs its steps."""

RUNS_PER_ROUND = 2
"""Runs of each schedule in an interleaved round: one is timed, one warms the caches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyMeasurement:
    """Latency of one schedule; half-widths are 95 % by Student's t, and 0 for one round."""

    median_ms: float
    """Median ratio to full depth, times full depth's median milliseconds."""
    half_width_ms: float
    """Of ``median_ms``; takes full depth's median as known."""
    repeats: int
    """Rounds."""
    acceleration: float
    """Fraction of time saved against full depth: 1 - median ratio."""
    acceleration_half_width: float


def summarise(
    times: Mapping[str, Sequence[float]], baseline: str
) -> dict[str, LatencyMeasurement]:
    """Latency and saving of every schedule, from its ratios to full depth.

    Args:
        times: Milliseconds of whole runs by name, one per round.
        baseline: Full depth's name.
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
    """Half-width of the 95 % interval by Student's t; 0 for a single value."""
    from scipy.special import stdtrit  # scipy.stats takes a second to import

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
        clock: Times the work, and says whether its steps are interleaved.
        repeats: Rounds, >= 1.
        seed: Of the random orders.

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


def _time_runs(
    work: Mapping[str, Work], clock: Clock, rng: np.random.Generator
) -> dict[str, float]:
    """Time one run after the other."""
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
    """A run to be timed, and an untimed copy of it that is one step behind."""

    def __init__(self, start: Work) -> None:
        self._steps = _steps_of(start)
        self._behind = itertools.chain([None], _steps_of(start))
        self.ended = False

    def repeat_previous_step(self) -> None:
        """Warm the caches: other schedules ran since."""
        next(self._behind)

    def take_step(self) -> None:
        self.ended = next(self._steps, _END) is _END


_END = object()


def _steps_of(start: Work) -> Iterator[object]:
    # NOTE: The work starts at its first step, so that its start is timed too.
    yield from start()


def _run(start: Work, num_steps: int | None = None) -> None:
    deque(itertools.islice(start(), num_steps), maxlen=0)


def _shuffled(names: Iterable[str], rng: np.random.Generator) -> list[str]:
    listed = list(names)
    return [listed[i] for i in rng.permutation(len(listed))]
