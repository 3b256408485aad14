"""Timing in rounds: every schedule once per round, in turns, until the rounds agree.

Clock speeds, caches and neighbours drift by more than schedules differ, so nothing is measured
once or in a block. What counts is the ratio to full depth, at the pace of the same round. On a
CPU the schedules of a round take turns at every step: the ratio of two runs in a round spreads
by 1 to 2 %, that of whole runs in turns by 3 to 4 % (``benchmarks/latency_turns.py``).
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from schedsearch.evaluation.clocks import Clock

Work = Callable[[], Iterable[object]]
"""Starts a piece of work, such as sampling a batch. It is done step by step as the result is
iterated over; what the steps yield is dropped."""

UNSTABLE_ABOVE = 0.05
"""A latency whose 95 % half-width exceeds this share of it should not be trusted."""

STEADY_BELOW = 0.01
"""Rounds are added for schedules whose relative 95 % half-width is not below this."""

MOST_ROUNDS = 2
"""Rounds at most for that, in multiples of those asked for."""

MOST_ROUNDS_OF_A_PAIR = 3
"""Rounds at most until it is clear which of two schedules is quicker, likewise. A block in seventy
is 1.4 % of a run, and ratios spread by 1 to 2 % between rounds.
"""

RUNS_IN_TURNS = 2
"""Runs that a round in turns takes of every schedule: one of them is not timed."""

CLEAR_ABOVE = 1.5
"""95 % half-widths of a difference above which an order is clear. It is looked at after every
round, so a single one would be passed by chance too often.
"""

POLISHES = 10
"""Sweeps of the median polish; a handful suffices."""

FEWEST_ROUNDS_OF_A_PAIR = 8
"""Before them a half-width is too rough to say that the order is clear."""


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


def measure_rounds(
    work: Mapping[str, Work],
    baseline: str,
    clock: Clock,
    repeats: int,
    seed: int = 0,
    pairs: Collection[tuple[str, str]] = (),
) -> dict[str, LatencyMeasurement]:
    """Time everything in rounds, and what is not clear by then, beside the baseline, in more.

    Args:
        work: Sampling runs by name.
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
        found = summarise(rounds, baseline)
        again = [baseline]
        if len(rounds) < MOST_ROUNDS * repeats:
            again += [
                name
                for name, m in found.items()
                if name != baseline and m.half_width_ms > STEADY_BELOW * m.median_ms
            ]
        if len(rounds) < MOST_ROUNDS_OF_A_PAIR * repeats:
            unclear = [(a, b) for a, b in pairs if not _is_clear(found[a], found[b])]
            again += [name for pair in unclear for name in pair]
        if len(again) == 1:
            return found
        rounds.append(time_round({name: work[name] for name in dict.fromkeys(again)}, clock, rng))


def summarise(
    rounds: Sequence[Mapping[str, float]], baseline: str
) -> dict[str, LatencyMeasurement]:
    """Latency, spread and saving from all rounds at once.

    A time is taken for the product of the round's pace and the schedule's share, and both are
    found by a median polish of the logarithms (Tukey, 1977). The pace comes from everything
    that a round timed, since full depth alone is no steadier than the others, and rounds that
    left some out compare with those that did not.

    Args:
        rounds: Milliseconds by name. The first timed everything, all timed the baseline.
        baseline: Full depth's name.

    Returns:
        A measurement per name, in the order of the first round.
    """
    names = list(rounds[0])
    logs = np.log([[times.get(name, np.nan) for name in names] for times in rounds])
    pace = np.nanmedian(logs, axis=1, keepdims=True)
    for _ in range(POLISHES):
        shares = np.nanmedian(logs - pace, axis=0, keepdims=True)
        pace += np.nanmedian(logs - pace - shares, axis=1, keepdims=True)
    counts = np.isfinite(logs).sum(axis=1, keepdims=True)
    # What the pace has absorbed of a deviation is given back.
    residuals = (logs - pace - shares) * np.sqrt(counts / np.maximum(counts - 1, 1))
    own = [column[np.isfinite(column)] for column in residuals.T]
    widths = [median_half_width(column.tolist()) for column in own]
    full = names.index(baseline)
    full_times = [times[baseline] for times in rounds]
    full_ms = statistics.median(full_times)
    found = {}
    for i, name in enumerate(names):
        ratio = float(np.exp(shares[0, i] - shares[0, full]))
        width = ratio * float(np.hypot(widths[i], widths[full])) if i != full else 0.0
        found[name] = LatencyMeasurement(
            median_ms=ratio * full_ms,
            half_width_ms=median_half_width(full_times) if i == full else width * full_ms,
            repeats=len(own[i]),
            acceleration=1.0 - ratio,
            acceleration_half_width=width,
            own_half_width_ms=ratio * widths[i] * full_ms,
        )
    return found


def _is_clear(first: LatencyMeasurement, second: LatencyMeasurement) -> bool:
    """Whether the rounds say which of two schedules is quicker; full depth is not asked."""
    gap = abs(first.median_ms - second.median_ms)
    enough = min(first.repeats, second.repeats) >= FEWEST_ROUNDS_OF_A_PAIR
    doubt = float(np.hypot(first.own_half_width_ms, second.own_half_width_ms))
    return enough and gap > CLEAR_ABOVE * doubt


def median_half_width(values: Sequence[float]) -> float:
    """95 % half-width of a median: 1.96 * 1.2533 * (IQR / 1.349) / sqrt(n).

    The interquartile range stands for the standard deviation because single rounds may be
    hit by other processes; 1.2533 = sqrt(pi / 2) is the price of a median over a mean. Normal
    approximation: with fewer than about ten rounds it is a rough figure.
    """
    low, high = np.quantile(values, [0.25, 0.75])
    return float(1.96 * 1.2533 * (high - low) / 1.349 / len(values) ** 0.5)


def time_rounds(
    work: Mapping[str, Work], clock: Clock, repeats: int, seed: int = 0
) -> dict[str, list[float]]:
    """Time every piece of work once per round, in random orders.

    Returns:
        Milliseconds by name, one per round, rounds in the same order for every name.
    """
    if repeats < 1:
        raise ValueError(f"A latency needs at least one repeat, but got {repeats}.")
    rng = np.random.default_rng(seed)
    for start in work.values():
        for _ in range(clock.num_warmups):
            _run_whole(start)
    rounds = [time_round(work, clock, rng) for _ in range(repeats)]
    return {name: [times[name] for times in rounds] for name in work}


def time_round(
    work: Mapping[str, Work], clock: Clock, rng: np.random.Generator
) -> dict[str, float]:
    """Time every piece of work once, in random order: milliseconds by name.

    In turns every step has an order of its own, and comes right after the step before it, done
    once more and not timed: it finds the caches as in a run that nothing interrupts.
    """
    times = dict.fromkeys(work, 0.0)
    if not clock.in_turns:
        for name in _shuffled(work, rng):
            times[name] = clock.time_ms(partial(_run_whole, work[name]))
        return times
    underway = {name: _Underway(start) for name, start in work.items()}
    while underway:
        for name in _shuffled(underway, rng):
            piece = underway[name]
            piece.repeat_step()
            times[name] += clock.time_ms(piece.take_step)
            if piece.ended:
                del underway[name]
    return times


class _Underway:
    """A piece of work on its way, and the same once more, one step behind."""

    def __init__(self, start: Work) -> None:
        self._steps, self._behind = _steps_of(start), _steps_of(start)
        self._started = False
        self.ended = False

    def repeat_step(self) -> None:
        if self._started:
            next(self._behind)

    def take_step(self) -> None:
        self._started = True
        self.ended = next(self._steps, _END) is _END


_END = object()


def _steps_of(start: Work) -> Iterator[object]:
    """Starts the work at its first step, so that this is timed too."""
    yield from start()


def _run_whole(start: Work) -> None:
    deque(start(), maxlen=0)


def _shuffled(names: Iterable[str], rng: np.random.Generator) -> list[str]:
    listed = list(names)
    return [listed[i] for i in rng.permutation(len(listed))]
