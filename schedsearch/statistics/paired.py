"""Differences of two schedules that were measured with the same noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from schedsearch.statistics.intervals import estimate

Verdict = Literal["better", "no difference", "worse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """Mean over seeds of FID(ours) - FID(theirs); negative means that ours is better."""

    mean: float
    half_width: float
    """Half of the 95 % interval (Student's t over the seeds)."""
    num_seeds: int

    @property
    def verdict(self) -> Verdict:
        """Better or worse only where the whole interval lies below or above zero."""
        if self.mean + self.half_width < 0:
            return "better"
        return "worse" if self.mean - self.half_width > 0 else "no difference"


def paired_difference(
    ours: Mapping[int, float], theirs: Mapping[int, float]
) -> PairedDifference | None:
    """Compare two schedules at the seeds that both were measured with.

    Args:
        ours: FID by seed, all by one protocol.
        theirs: The same of the other schedule.

    Returns:
        None with fewer than two common seeds.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    found = estimate([ours[seed] - theirs[seed] for seed in seeds])
    if found is None:
        return None
    return PairedDifference(mean=found.mean, half_width=found.half_width, num_seeds=found.num)
