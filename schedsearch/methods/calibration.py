"""Finds the threshold at which a method takes a wanted share of full depth's time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MISSED = 0.05
"""A share that is farther from its target gets a note."""

MET = 0.03
"""A measured share this near its target needs no other threshold."""

MAX_CORRECTIONS = 2
"""Thresholds that are sought again, after the time was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A threshold, and what it reaches."""

    threshold: float
    reached: float
    """The share at this threshold: measured where it was timed, else predicted."""
    num_calls: int
    """Sampling runs that it took."""
    note: str = ""
    """Why the target was missed, if it was."""


def calibrate_measured(
    predict: Callable[[float], float],
    timed: Callable[[float], float],
    target: float,
    *,
    low: float,
    high: float,
    increasing: bool,
) -> Calibration:
    """Find the threshold whose *measured* share of time meets its target.

    A prediction from blocks misses what decisions cost. So the prediction is scaled by the ratio
    of measured to predicted time, and the threshold is sought again, twice at most.

    Args:
        predict: Share of full depth's time at a threshold, from the blocks that run.
        timed: The same, measured.
        target: Wanted share.
        low: Smallest threshold.
        high: Largest threshold.
        increasing: Whether a larger threshold takes more time.
    """
    known: dict[float, float] = {}

    def cached(threshold: float) -> float:
        if threshold not in known:
            known[threshold] = predict(threshold)
        return known[threshold]

    tried: list[tuple[float, float]] = []
    wanted = target
    for _ in range(1 + MAX_CORRECTIONS):
        found = calibrate(cached, wanted, low=low, high=high, increasing=increasing)
        if tried and found.threshold in {threshold for threshold, _ in tried}:
            break
        tried.append((found.threshold, timed(found.threshold)))
        threshold, measured = tried[-1]
        if abs(measured - target) <= MET:
            break
        wanted = target * found.reached / measured
    threshold, reached = min(tried, key=lambda pair: abs(pair[1] - target))
    note = ""
    if abs(reached - target) > MISSED:
        note = (
            f"the target {target:g} is not reached, the nearest measured share is {reached:.2f}, "
            f"with {known[threshold]:.2f} by the blocks alone"
        )
    return Calibration(threshold=threshold, reached=reached, num_calls=len(known), note=note)


def calibrate(
    measure: Callable[[float], float],
    target: float,
    *,
    low: float,
    high: float,
    increasing: bool,
    tolerance: float = 0.01,
    max_calls: int = 12,
) -> Calibration:
    """Bisect a threshold in [low, high] until the share meets its target.

    The share may jump, because a decision is yes or no at every step, or the target may lie
    beyond the thresholds. Then the nearest share that was seen is taken, and a note says so
    where it misses by more than 0.05.

    Args:
        measure: Share of full depth's time at a threshold, by sampling.
        target: Wanted share.
        low: Smallest threshold.
        high: Largest threshold.
        increasing: Whether a larger threshold takes more time.
        tolerance: Distance from the target at which the search ends.
        max_calls: Calls of ``measure`` at most.
    """
    seen: list[tuple[float, float]] = []
    bottom, top = low, high
    while len(seen) < max_calls:
        threshold = (bottom + top) / 2
        share = measure(threshold)
        seen.append((threshold, share))
        if abs(share - target) <= tolerance:
            break
        if (share < target) == increasing:
            bottom = threshold
        else:
            top = threshold
    threshold, reached = min(seen, key=lambda pair: abs(pair[1] - target))
    note = ""
    if abs(reached - target) > MISSED:
        both_sides = len({share < target for _, share in seen}) == 2
        reason = (
            "the method jumps between shares there"
            if both_sides
            else f"no threshold that was tried takes {'less' if reached > target else 'more'} time"
        )
        note = (
            f"the target {target:g} is not reached, the nearest share is {reached:.2f}: {reason}"
        )
    return Calibration(threshold=threshold, reached=reached, num_calls=len(seen), note=note)
