"""Timing in rounds: every schedule once per round, in turns, until the rounds agree.

Clock speeds, caches and neighbours drift by more than schedules differ, so nothing is measured
once or in a block. What counts is the ratio to full depth, at the pace of the same round. On a
CPU the schedules of a round take turns at every step: nine rounds then tell two schedules apart
three times as surely as nine of whole runs (``benchmarks/latency_turns.py``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from schedsearch.evaluation.latency_summary import LatencyMeasurement, Round, summarise

if TYPE_CHECKING:
    from schedsearch.evaluation.clocks import Clock

Work = Callable[[], Iterable[object]]
"""Starts a piece of work, such as sampling a batch. It is done step by step as the result is
iterated over; what the steps yield is dropped."""

STEADY_BELOW = 0.01
"""Rounds are added for schedules whose relative 95 % half-width is not below this."""

MOST_RUNS = 4
"""Runs of a schedule at most, in multiples of the rounds asked for."""

RUNS_IN_TURNS = 2
"""Runs that a round in turns takes of every schedule: one of them is not timed."""

CLEAR_ABOVE = 1.5
"""95 % half-widths of a difference above which an order is clear. It is looked at after every
round, so a single one would be passed by chance too often.
"""

FEWEST_ROUNDS_OF_A_PAIR = 5
"""Before them a half-width is too rough to say that the order is clear."""


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
        work: Sampling runs by name, of one solver.
        baseline: The name of ``work`` that savings are measured against.
        clock: Times the work.
        repeats: Rounds of everything. What is not steady gets twice as many at most, four times
            as many where a round takes a single run of it.
        seed: Of the orders.
        pairs: Names whose order matters. Both get as many until it is clear.

    Returns:
        A measurement per name, in the order of ``work``.
    """
    rounds = time_rounds(work, clock, repeats, seed)
    most_rounds = MOST_RUNS * repeats // (RUNS_IN_TURNS if clock.in_turns else 1)
    rng = np.random.default_rng((seed, repeats))
    while True:
        found = summarise(rounds, baseline)
        again = [name for name, m in found.items() if name != baseline and not _is_steady(m)]
        unclear = [(a, b) for a, b in pairs if not _is_clear(found[a], found[b])]
        again += [name for pair in unclear for name in pair]
        if not again or len(rounds) >= most_rounds:
            return found
        names = dict.fromkeys([baseline, *again])
        if len(names) == 2:  # of two alone it cannot be told which one was disturbed
            others = (name for name in found if name not in names)
            names |= dict.fromkeys(sorted(others, key=lambda n: found[n].half_width_ms)[:1])
        rounds.append(time_round({name: work[name] for name in names}, clock, rng))


def _is_steady(measured: LatencyMeasurement) -> bool:
    return measured.half_width_ms <= STEADY_BELOW * measured.median_ms


def _is_clear(first: LatencyMeasurement, second: LatencyMeasurement) -> bool:
    """Whether the rounds say which of two schedules is quicker; full depth is not asked."""
    gap = abs(first.median_ms - second.median_ms)
    enough = min(first.repeats, second.repeats) >= FEWEST_ROUNDS_OF_A_PAIR
    doubt = float(np.hypot(first.own_half_width_ms, second.own_half_width_ms))
    return enough and gap > CLEAR_ABOVE * doubt


def time_rounds(
    work: Mapping[str, Work], clock: Clock, repeats: int, seed: int = 0
) -> list[dict[str, list[float]]]:
    """Time every piece of work once per round, in random orders.

    Returns:
        For every round what :func:`time_round` returns.
    """
    if repeats < 1:
        raise ValueError(f"A latency needs at least one repeat, but got {repeats}.")
    rng = np.random.default_rng(seed)
    for start in work.values():
        for _ in range(clock.num_warmups):
            # In turns a step comes right after an untimed one, except for the first.
            _run(start, num_steps=1 if clock.in_turns else None)
    return [time_round(work, clock, rng) for _ in range(repeats)]


def totals(rounds: Sequence[Round]) -> dict[str, list[float]]:
    """Milliseconds of whole pieces of work by name, one per round; every round timed all."""
    return {name: [sum(times[name]) for times in rounds] for name in rounds[0]}


def time_round(
    work: Mapping[str, Work], clock: Clock, rng: np.random.Generator
) -> dict[str, list[float]]:
    """Time every piece of work once, in random order.

    In turns every step has an order of its own, and comes right after the step before it, done
    once more and not timed: it finds the caches as in a run that nothing interrupts.

    Returns:
        Milliseconds of every step by name; of the whole as one step without turns.
    """
    times: dict[str, list[float]] = {name: [] for name in work}
    if not clock.in_turns:
        for name in _shuffled(work, rng):
            times[name].append(clock.time_ms(partial(_run, work[name])))
        return times
    underway = {name: _Underway(start) for name, start in work.items()}
    while underway:
        for name in _shuffled(underway, rng):
            piece = underway[name]
            piece.repeat_step()
            ms = clock.time_ms(piece.take_step)
            if piece.ended and times[name]:  # what comes after the last step belongs to it
                times[name][-1] += ms
            else:
                times[name].append(ms)
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


def _run(start: Work, num_steps: int | None = None) -> None:
    deque(islice(start(), num_steps), maxlen=0)


def _shuffled(names: Iterable[str], rng: np.random.Generator) -> list[str]:
    listed = list(names)
    return [listed[i] for i in rng.permutation(len(listed))]
