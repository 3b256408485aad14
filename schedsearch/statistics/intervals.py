"""95 % intervals of a mean."""

from __future__ import annotations

import math
from collections.abc import Sequence

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
