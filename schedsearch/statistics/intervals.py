"""95 % intervals of a mean by Student's t."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean and half of its 95 % interval."""

    mean: float
    half_width: float
    num: int
    """Values behind it."""

    @property
    def ci95(self) -> tuple[float, float]:
        """The 95 % interval."""
        return self.mean - self.half_width, self.mean + self.half_width


def estimate(values: Sequence[float]) -> Estimate | None:
    """Mean and its 95 % interval by Student's t; None with fewer than two values."""
    num = len(values)
    if num < 2:
        return None
    mean = math.fsum(values) / num
    variance = math.fsum((value - mean) ** 2 for value in values) / (num - 1)
    half = t_quantile(num - 1) * math.sqrt(variance / num)
    return Estimate(mean=mean, half_width=half, num=num)


def t_quantile(degrees: int) -> float:
    """97.5 % quantile of Student's t distribution."""
    from scipy.special import stdtrit  # scipy.stats takes a second to import

    return float(stdtrit(degrees, 0.975))


def mean_interval(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Mean and its 95 % interval.

    Raises:
        ValueError: With fewer than two values.
    """
    if (found := estimate(values)) is None:
        raise ValueError(f"An interval needs two values or more, but got {len(values)}.")
    return found.mean, found.ci95
