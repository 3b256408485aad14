"""How much the search's own FIDs flatter the schedules that it selected.

A schedule is on the front partly because it is good and partly because its one evaluation was
lucky. Fresh seeds show it: the FIDs of the selected rise. But another seed also shifts all FIDs
alike, and so may another number of images. The hand-made schedules, which nobody selected by
their FIDs, show that common shift; what the selected rise beyond it is the curse. Every
subtraction within a schedule's pair is undone by the same subtraction of the baselines, so values
of different numbers of images are never compared themselves; further fine-tuning of one side
would be mixed in and is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schedsearch.rounding import plus_minus


@dataclass(frozen=True, slots=True)
class TwiceMeasured:
    """A schedule at the search's seed and at fresh ones."""

    searched: float
    """FID at the search's seed."""
    confirmed: float
    """Mean FID at fresh seeds, by the same extractor and with the same weights."""
    features: str
    num_steps: int = 0
    """Steps by which the fine-tune was continued in between; only 0 compares."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WinnersCurse:
    """By how much FIDs at the search's seed are too low for selected schedules."""

    flattery: float
    """Mean over the selected; positive where the search's FIDs are too good."""
    half_width: float
    """Half of the 95 % interval (Welch's t over schedules)."""
    shift: float
    """Mean of confirmed minus searched FID over the selected: flattery and common shift."""
    prediction_half_width: float | None
    """Half of the 95 % interval of ``shift`` for one more schedule; None with fewer than
    three selected ones."""

    def expected(self, searched: float) -> tuple[float, float] | None:
        """What a selected schedule without confirmation would show at fresh seeds.

        Its FID plus the mean rise of those that were confirmed. That holds as far as it was
        selected as they were, by the same FID from the same crowd; the interval is that of one
        more such schedule.

        Args:
            searched: FID at the search's seed.

        Returns:
            The expectation and the half-width of its 95 % interval, by the confirmation's
            protocol; None with fewer than three confirmed schedules to learn from.
        """
        if self.prediction_half_width is None:
            return None
        return searched + self.shift, self.prediction_half_width

    @property
    def sentence(self) -> str:
        """For people."""
        amount = plus_minus(self.flattery, self.half_width, sign=True)
        if self.flattery - self.half_width > 0:
            return f"Winner's curse: the search's own FIDs flatter its picks by {amount}."
        return f"Winner's curse: none seen ({amount} at the search's own seed)."


def winners_curse(
    selected: Sequence[TwiceMeasured], baselines: Sequence[TwiceMeasured]
) -> WinnersCurse | None:
    """Difference of differences between selected schedules and baselines.

    Args:
        selected: Schedules that were chosen by their FID at the search's seed.
        baselines: Full depth and the presets, which were not.

    Returns:
        None with fewer than two schedules on either side.

    Raises:
        ValueError: If extractors differ or a fine-tune was continued.
    """
    from scipy.special import stdtrit

    every = [*selected, *baselines]
    if len({m.features for m in every}) > 1 or any(m.num_steps for m in every):
        raise ValueError(
            "The winner's curse is seen only between measurements of the same weights by the "
            "same extractor; leave out schedules whose fine-tune was continued."
        )
    if min(len(selected), len(baselines)) < 2:
        return None
    ours = np.array([m.confirmed - m.searched for m in selected])
    theirs = np.array([m.confirmed - m.searched for m in baselines])
    a, b = float(ours.var(ddof=1)) / len(ours), float(theirs.var(ddof=1)) / len(theirs)
    half = 0.0
    if a + b > 0:
        degrees = (a + b) ** 2 / (a**2 / (len(ours) - 1) + b**2 / (len(theirs) - 1))
        half = float(stdtrit(degrees, 0.975)) * math.sqrt(a + b)
    prediction = None
    if len(ours) > 2:
        spread = math.sqrt(float(ours.var(ddof=1)) * (1 + 1 / len(ours)))
        prediction = float(stdtrit(len(ours) - 1, 0.975)) * spread
    return WinnersCurse(
        flattery=float(ours.mean() - theirs.mean()),
        half_width=half,
        shift=float(ours.mean()),
        prediction_half_width=prediction,
    )
