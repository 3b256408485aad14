"""Differences of two schedules that were measured with the same noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from schedsearch.statistics.intervals import mean_interval

Verdict = Literal["better", "no difference", "worse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """Mean over seeds of FID(ours) - FID(theirs); negative means that ours is better."""

    mean: float
    half_width: float
    """Half of the 95 % interval (Student's t over the seeds)."""
    num_better: int
    """Seeds at which ours is better."""
    num_seeds: int

    @property
    def verdict(self) -> Verdict:
        """What the interval says."""
        return verdict_of(self.mean, self.half_width)


def verdict_of(difference: float, half_width: float) -> Verdict:
    """Better or worse only where the whole interval is below or above zero."""
    if difference + half_width < 0:
        return "better"
    return "worse" if difference - half_width > 0 else "no difference"


def paired_difference(
    ours: Mapping[int, float], theirs: Mapping[int, float]
) -> PairedDifference | None:
    """Compare two schedules at the seeds that both were measured with.

    Args:
        ours: FID by evaluation seed, by one protocol.
        theirs: The same of the other schedule.

    Returns:
        None with fewer than two common seeds.
    """
    seeds = sorted(ours.keys() & theirs.keys())
    if len(seeds) < 2:
        return None
    differences = [ours[seed] - theirs[seed] for seed in seeds]
    mean, (low, high) = mean_interval(differences)
    return PairedDifference(
        mean=mean,
        half_width=(high - low) / 2,
        num_better=sum(difference < 0 for difference in differences),
        num_seeds=len(seeds),
    )


def how_sure(verdict: Verdict, num_better: int, num_seeds: int, kind: str = "seeds") -> str:
    """A verdict in plain words: ``better, sure (5 of 5 seeds)``.

    ``sure`` takes the interval and every seed; with the interval alone it is ``fairly sure``.
    ``no difference`` is what was not seen, never proof that there is none.
    """
    if verdict == "no difference":
        return f"no difference seen (better at {num_better} of {num_seeds} {kind})"
    agreeing = num_better if verdict == "better" else num_seeds - num_better
    sure = "sure" if agreeing == num_seeds else "fairly sure"
    return f"{verdict}, {sure} ({agreeing} of {num_seeds} {kind})"
