"""Whether a cheap number ranks schedules as an expensive one does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from schedsearch.statistics.intervals import NORMAL_95

MIN_RANKED = 5
"""With fewer schedules a rank correlation says nothing."""

TRUSTED_TAU = 0.6
DOUBTFUL_TAU = 0.3
"""80 % and 65 % of all pairs in the right order. FID after 100 fine-tune steps against 400 had
tau 0.90; error tables of untuned weights, which are no guide, 0.4 to 0.5 (``search.md``, 2)."""

_MIN_PAIRS = 6

RankVerdict = Literal["agrees", "agrees where it matters", "agrees roughly", "disagrees"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RankAgreement:
    """Kendall's tau-b of a cheap number against an expensive one over the same schedules."""

    tau: float
    interval: tuple[float, float]
    """About 95 %."""
    num: int
    """Schedules."""
    num_resolved: int
    """Pairs whose expensive numbers differ by more than their noise."""
    num_in_order: int
    """Those of them that the cheap number puts in the same order."""

    @property
    def verdict(self) -> RankVerdict:
        """By tau; where that is low only because schedules are as good as equal, by the rest.

        ``agrees``: tau of 0.6 or more. ``agrees where it matters``: lower, but 80 % of at least
        six pairs that differ by more than the noise are in the right order. ``disagrees``: tau
        below 0.3. ``agrees roughly``: between.
        """
        if self.tau >= TRUSTED_TAU:
            return "agrees"
        right = (1 + TRUSTED_TAU) / 2
        if self.num_resolved >= _MIN_PAIRS and self.num_in_order >= right * self.num_resolved:
            return "agrees where it matters"
        return "disagrees" if self.tau < DOUBTFUL_TAU else "agrees roughly"

    @property
    def lies(self) -> bool:
        """Whether the cheap number must not be trusted."""
        return self.verdict == "disagrees"

    def sentence(self, cheap: str, expensive: str) -> str:
        """The verdict for people, with what was compared."""
        low, high = self.interval
        words = {
            "agrees": f"{cheap} ranks schedules as {expensive} does",
            "agrees where it matters": (
                f"{cheap} ranks schedules as {expensive} does where they differ by more than "
                f"noise ({self.num_in_order} of {self.num_resolved} pairs)"
            ),
            "agrees roughly": f"{cheap} ranks schedules only roughly as {expensive} does",
            "disagrees": f"{cheap} does not rank schedules as {expensive} does; do not rely on it",
        }
        return (
            f"{words[self.verdict]} (Kendall tau {self.tau:.2f}, 95 % {low:.2f} to {high:.2f}, "
            f"{self.num} schedules)."
        )


def rank_agreement(
    cheap: Sequence[float], expensive: Sequence[float], *, noise: float = 0.0
) -> RankAgreement | None:
    """Compare two rankings of the same schedules.

    The interval is that of Fieller, Hartley and Pearson (1957): atanh(tau) has a variance of
    0.437 / (n - 4). They found that up to |tau| = 0.8; beyond, it is too small (coverage 84 % at
    0.9, by simulation), so it is widened by 1 + 1.4 tau^4, which gives 91 to 99 % for 6 to 20
    normal pairs. Resampling schedules instead makes ties of every repeat and pulls tau down.
    A perfect tau is taken half a pair short of one, so its interval has a lower end.

    Args:
        cheap: One number per schedule, such as the FID of the search.
        expensive: The same of what one wants to know, such as the confirmed FID.
        noise: Differences of ``expensive`` up to this much are no order at all (the half-width
            of a paired interval).

    Returns:
        None with fewer than ``MIN_RANKED`` schedules, or where one side is all equal.

    Raises:
        ValueError: If the lengths differ or a number is not finite.
    """
    x, y = np.asarray(cheap, dtype=float), np.asarray(expensive, dtype=float)
    if x.shape != y.shape or x.ndim != 1 or not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError(
            "Ranks need one finite number per schedule on both sides, but got shapes "
            f"{x.shape} and {y.shape}."
        )
    n = len(x)
    if n < MIN_RANKED:
        return None
    i, j = np.triu_indices(n, 1)
    first, second = np.sign(x[i] - x[j]), np.sign(y[i] - y[j])
    pairs = math.sqrt(float(np.abs(first).sum()) * float(np.abs(second).sum()))
    if pairs == 0:
        return None
    tau = float(first @ second) / pairs
    inside = 1 - 1 / len(i)
    centre = math.atanh(max(-inside, min(inside, tau)))
    half = NORMAL_95 * math.sqrt(0.437 * (1 + 1.4 * tau**4) / (n - 4))
    resolved = np.abs(y[i] - y[j]) > noise
    return RankAgreement(
        tau=tau,
        interval=(math.tanh(centre - half), max(tau, math.tanh(centre + half))),
        num=n,
        num_resolved=int(resolved.sum()),
        num_in_order=int((first * second > 0)[resolved].sum()),
    )
