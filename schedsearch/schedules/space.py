"""The space of exit schedules: counting, exactly uniform sampling, encoding for Optuna.

Sampling uses exact counts. Rejection would accept only 1.2e-6 of the sequences over 28 blocks,
and sorting random integers is not uniform.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import Any, Literal, Protocol, get_args

import numpy as np

from schedsearch.schedules.edges import Edges, in_words
from schedsearch.schedules.exit_schedule import ExitSchedule

Monotone = Literal["nonincreasing", "free"]

MOST_INTERVALS = 1000
"""One per timestep."""


class SuggestsInt(Protocol):
    """The part of an Optuna trial that the space uses."""

    def suggest_int(self, name: str, low: int, high: int) -> int:
        """Suggest an integer in [low, high]."""
        ...


@dataclass(frozen=True)
class SearchSpace:
    """All schedules with depths in [min_depth, max_depth], monotone or free.

    Args:
        min_depth: Smallest depth of an interval.
        max_depth: Largest depth of an interval.
        num_intervals: Number of intervals of diffusion time.
        monotone: With ``"nonincreasing"`` depth never increases from data to noise; ``"free"``
            allows any depths.
        edges: Edges of the intervals; None for equal ones.

    Raises:
        ValueError: If an argument has another type, the range of depths is empty, there is no
            interval, or the edges are not those of the intervals.
    """

    min_depth: int
    max_depth: int
    num_intervals: int = 10
    monotone: Monotone = "nonincreasing"
    edges: Edges | None = None

    def __post_init__(self) -> None:
        for name in ("min_depth", "max_depth", "num_intervals"):
            value: Any = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, Integral):
                raise ValueError(f"{name} must be an integer, got {value!r}.")
            object.__setattr__(self, name, int(value))
        if self.monotone not in get_args(Monotone):
            known = " or ".join(get_args(Monotone))
            raise ValueError(f"monotone must be {known}, got {self.monotone!r}.")
        if not 0 <= self.min_depth <= self.max_depth:
            raise ValueError(
                "A space needs 0 <= min_depth <= max_depth, but got "
                f"min_depth={self.min_depth}, max_depth={self.max_depth}."
            )
        if not 1 <= self.num_intervals <= MOST_INTERVALS:
            raise ValueError(
                f"num_intervals must be in [1, {MOST_INTERVALS}], got {self.num_intervals}."
            )
        probe = self.schedule(range(self.num_intervals))  # NOTE: equal edges become None
        object.__setattr__(self, "edges", probe.edges)

    def schedule(self, depths: Iterable[int]) -> ExitSchedule:
        """Return the schedule with these depths, from data to noise, and the space's edges."""
        return ExitSchedule(tuple(depths), self.edges)

    # ---- counting -------------------------------------------------------------------------

    @property
    def num_levels(self) -> int:
        """Number of possible depths of an interval."""
        return self.max_depth - self.min_depth + 1

    def size(self) -> int:
        """Return the exact number of schedules.

        It is C(k + n - 1, n) if monotone, else k ** n, for k levels and n intervals.
        """
        if self.monotone == "free":
            return int(self.num_levels**self.num_intervals)
        return math.comb(self.num_levels + self.num_intervals - 1, self.num_intervals)

    def __contains__(self, schedule: ExitSchedule) -> bool:
        return self.why_not(schedule) is None

    def why_not(self, schedule: ExitSchedule) -> str | None:
        """Describe the first rule that a schedule breaks; None if it breaks none."""
        if schedule.num_intervals != self.num_intervals:
            return f"has {schedule.num_intervals} intervals, the space {self.num_intervals}"
        if schedule.edges != self.edges:
            return f"has the edges {in_words(schedule.edges)}, the space {in_words(self.edges)}"
        for interval, depth in enumerate(schedule.depths):
            if not self.min_depth <= depth <= self.max_depth:
                return (
                    f"interval {interval} runs {depth} blocks, "
                    f"outside [{self.min_depth}, {self.max_depth}]"
                )
        if self.monotone == "nonincreasing" and not schedule.is_nonincreasing:
            return "depth grows towards the noise, but the space is nonincreasing"
        return None

    def enumerate(self) -> Iterator[ExitSchedule]:
        """Yield every schedule once, deepest first; for small spaces (see :meth:`size`)."""
        levels = range(self.max_depth, self.min_depth - 1, -1)
        if self.monotone == "free":
            rows: Iterator[tuple[int, ...]] = itertools.product(levels, repeat=self.num_intervals)
        else:
            rows = itertools.combinations_with_replacement(levels, self.num_intervals)
        return map(self.schedule, rows)

    # ---- sampling -------------------------------------------------------------------------

    def sample(self, rng: np.random.Generator) -> ExitSchedule:
        """Draw one schedule exactly uniformly (stars and bars if monotone)."""
        if self.monotone == "free":
            free = rng.integers(self.min_depth, self.max_depth + 1, self.num_intervals)
            return self.schedule(int(depth) for depth in free)
        slots = self.num_levels + self.num_intervals - 1
        stars = np.sort(rng.choice(slots, size=self.num_intervals, replace=False))
        levels = stars - np.arange(self.num_intervals)  # nondecreasing, in [0, num_levels)
        return self.schedule(self.min_depth + int(level) for level in levels[::-1])

    def sample_with_blocks(
        self, rng: np.random.Generator, low: int, high: int, weights: Sequence[int]
    ) -> ExitSchedule | None:
        """Draw uniformly among the schedules with block counts in [low, high].

        The block count is ``sum(weights[i] * depths[i])``. Latency is affine in it if the
        weights are network calls per interval. So a range of block counts is a latency stratum.

        Args:
            rng: Random generator.
            low: Smallest block count.
            high: Largest block count.
            weights: Network calls per interval, from data to noise, integers >= 0.

        Returns:
            A schedule, or None if the stratum is empty.
        """
        # Draw a rank.
        tables = self._completions(tuple(weights))
        top = self.max_depth
        counts = tables[0][top]
        totals = [total for total in counts if low <= total <= high]
        size = sum(counts[total] for total in totals)
        if size == 0:
            return None
        rank = _random_below(rng, size)
        # Find its block count.
        for remaining in totals:
            if rank < counts[remaining]:
                break
            rank -= counts[remaining]
        # Find its depths.
        depths: list[int] = []
        for interval, weight in enumerate(weights):
            for depth in range(self.min_depth, top + 1):
                rest = remaining - weight * depth
                following = tables[interval + 1][depth if self._ordered else self.max_depth]
                if rank < following.get(rest, 0):
                    break
                rank -= following.get(rest, 0)
            depths.append(depth)
            remaining = rest
            top = depth if self._ordered else self.max_depth
        return self.schedule(depths)

    @property
    def _ordered(self) -> bool:
        return self.monotone == "nonincreasing"

    @cached_property
    def _completion_cache(self) -> dict[tuple[int, ...], list[dict[int, dict[int, int]]]]:
        return {}

    def _completions(self, weights: tuple[int, ...]) -> list[dict[int, dict[int, int]]]:
        """Count the ways to complete a schedule, with exact Python integers.

        ``tables[i][top][total]`` is the number of ways to fill the intervals from i on with
        depths <= ``top`` and the block count ``total``.
        """
        if len(weights) != self.num_intervals:
            raise ValueError(f"Expected {self.num_intervals} weights, got {len(weights)}.")
        if weights in self._completion_cache:
            return self._completion_cache[weights]
        levels = range(self.min_depth, self.max_depth + 1)
        tables: list[dict[int, dict[int, int]]] = [{top: {0: 1} for top in levels}]
        for weight in reversed(weights):
            following, current = tables[0], {}
            running: dict[int, int] = {}
            for top in levels:  # NOTE: first depth <= top means <= top - 1, or equal to top
                after = following[top if self._ordered else self.max_depth]
                running = dict(running)
                for total, ways in after.items():
                    key = total + weight * top
                    running[key] = running.get(key, 0) + ways
                current[top] = running
            tables.insert(0, current)
        self._completion_cache[weights] = tables
        return tables

    # ---- encoding for Optuna --------------------------------------------------------------

    def param_names(self) -> list[str]:
        """Return Optuna parameter names, one integer in [min_depth, max_depth] per interval."""
        return [f"depth_{interval}" for interval in range(self.num_intervals)]

    def decode(self, params: Mapping[str, int]) -> ExitSchedule:
        """Convert parameters to a schedule, sorted deepest first unless free.

        Static ranges with sorting are used, because dynamic ranges turn NSGA-II into random
        search. Several parameter sets give one schedule; :meth:`to_params` is canonical.
        """
        depths = [int(params[name]) for name in self.param_names()]
        return self.schedule(sorted(depths, reverse=True) if self._ordered else depths)

    def to_params(self, schedule: ExitSchedule) -> dict[str, int]:
        """Convert a schedule to its canonical parameters; :meth:`decode` inverts it.

        Raises:
            ValueError: If the schedule is not in the space.
        """
        if (reason := self.why_not(schedule)) is not None:
            raise ValueError(f"The schedule ({schedule}) is not in the space: it {reason}.")
        return dict(zip(self.param_names(), schedule.depths, strict=True))

    def suggest(self, trial: SuggestsInt) -> ExitSchedule:
        """Let an Optuna trial choose a schedule."""
        return self.decode(
            {
                name: trial.suggest_int(name, self.min_depth, self.max_depth)
                for name in self.param_names()
            }
        )


def _random_below(rng: np.random.Generator, bound: int) -> int:
    """Draw a uniform integer in [0, bound), for bounds of more than 64 bits too."""
    bits = bound.bit_length()
    while True:  # NOTE: rejection, accepting with probability >= 1/2
        value = int.from_bytes(rng.bytes((bits + 7) // 8), "little") >> (-bits % 8)
        if value < bound:
            return value
