"""95 % intervals of a mean.

Of one schedule's FID over fresh seeds there is one interval, :func:`mean_over_seeds`, wherever
it is shown. A *difference* of two schedules has another: seeds are common to both, which only
:func:`mean_interval` of the differences seed by seed can use (``paired``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

NORMAL_95 = 1.959964
"""97.5 % quantile of the standard normal distribution."""

Interval = tuple[float, float]


def mean_interval(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Mean and its 95 % interval by Student's t.

    Raises:
        ValueError: With fewer than two values.
    """
    from scipy.special import stdtrit  # scipy.stats takes a second to import

    n = len(values)
    if n < 2:
        raise ValueError(f"An interval needs two values or more, but got {n}.")
    mean = math.fsum(values) / n
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    half = float(stdtrit(n - 1, 0.975)) * math.sqrt(variance / n)
    return mean, (mean - half, mean + half)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeanOverSeeds:
    """A mean over evaluation seeds and how sure it is."""

    mean: float
    half_width: float
    """Half of the 95 % interval."""
    over: Literal["images", "seeds"]
    """What the interval was found from: the images of all seeds, or the spread of the seeds."""

    @property
    def ci95(self) -> Interval:
        """The 95 % interval."""
        return self.mean - self.half_width, self.mean + self.half_width


def mean_over_seeds(
    values: Sequence[float], intervals: Sequence[Interval | None]
) -> MeanOverSeeds | None:
    """The mean of one schedule's FIDs or KIDs over seeds, with the interval that is shown.

    Args:
        values: One per seed.
        intervals: By bootstrap over the images of each seed. Where every seed has one they are
            pooled; else the interval is Student's t over the seeds.

    Returns:
        None with fewer than two seeds.
    """
    if len(values) < 2:
        return None
    mean, (low, high) = mean_interval(values)
    known = [interval for interval in intervals if interval is not None]
    if len(known) == len(values):
        return MeanOverSeeds(mean=mean, half_width=pooled_half_width(known), over="images")
    return MeanOverSeeds(mean=mean, half_width=(high - low) / 2, over="seeds")


def pooled_half_width(intervals: Sequence[Interval]) -> float:
    """Half-width of the 95 % interval of a mean over seeds, from the intervals of each.

    Seeds are independent, so variances add. Unlike a t interval over five seeds it does not
    guess the spread from five values. An interval that was cut off at zero
    counts in full, which is too much rather than too little.

    Args:
        intervals: One per seed, of ``bootstrap.bootstrap_intervals``.

    Raises:
        ValueError: If there is none.
    """
    if not intervals:
        raise ValueError("A pooled interval needs the interval of one seed or more, but got none.")
    return math.sqrt(math.fsum(half * half for half in map(_half, intervals))) / len(intervals)


def _half(interval: Interval) -> float:
    low, high = interval
    return high - low if low == 0 else (high - low) / 2
