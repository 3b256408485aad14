"""How probably each schedule belongs to the true front, given what was confirmed.

The true FID of a schedule is its mean over evaluation seeds. With S common seeds the vector of
means is known up to a multivariate t distribution with S - 1 degrees of freedom and the sample
covariance: the Bayesian posterior under the usual flat prior, and the distribution whose pairwise
intervals are the paired t intervals of the verdicts. It is drawn by giving every *seed* one
normal weight for all schedules together, so what the common noise does to all of them cancels.
Latencies are drawn independently, normal by their 95 % half-widths. Another fine-tune of the same
schedule is not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schedsearch.statistics.intervals import NORMAL_95


@dataclass(frozen=True, slots=True)
class ConfirmedSchedule:
    """One schedule as it was confirmed."""

    fids: Mapping[int, float]
    """FID by fresh seed."""
    latency_ms: float
    latency_half_width: float = 0.0
    """Half of the 95 % interval, in ms."""


@dataclass(frozen=True, slots=True)
class Membership:
    """One schedule and the front among all that were confirmed."""

    probability: float
    """That no other schedule is at least as good in FID and latency."""
    dominated_by: int | None
    """Who most probably beats it in both, where anyone does in a draw out of twenty."""
    dominated_probability: float
    """How probably that one does."""


_WORTH_NAMING = 0.05


def front_membership(
    schedules: Mapping[int, ConfirmedSchedule], *, num: int = 4000, seed: int = 0
) -> dict[int, Membership]:
    """Probability of the front for every schedule with at least two seeds common to all.

    Args:
        schedules: By trial number, FIDs by one protocol.
        num: Draws; the error of a probability is at most 0.8 points at 4,000.
        seed: Of the draws.

    Returns:
        By trial number; empty where fewer than two seeds are common to all.
    """
    numbers = sorted(schedules)
    if not numbers:
        return {}
    seeds = sorted(set.intersection(*(set(schedules[n].fids) for n in numbers)))
    if len(seeds) < 2:
        return {}
    fids = np.array([[schedules[n].fids[s] for s in seeds] for n in numbers])
    rng = np.random.default_rng(seed)
    quality = _draw_means(fids, num, rng)
    latency = np.array([schedules[n].latency_ms for n in numbers])
    widths = np.array([schedules[n].latency_half_width for n in numbers])
    latencies = latency + widths / NORMAL_95 * rng.standard_normal((num, len(numbers)))
    found = {}
    for i, number in enumerate(numbers):
        no_worse = (quality <= quality[:, [i]]) & (latencies <= latencies[:, [i]])
        strict = (quality < quality[:, [i]]) | (latencies < latencies[:, [i]])
        beats = no_worse & strict
        shares = beats.mean(0)
        worst = int(shares.argmax())
        named = shares[worst] >= _WORTH_NAMING
        found[number] = Membership(
            probability=float(1 - beats.any(1).mean()),
            dominated_by=numbers[worst] if named else None,
            dominated_probability=float(shares[worst]) if named else 0.0,
        )
    return found


def _draw_means(
    fids: NDArray[np.float64], num: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Draws of all true means, (K, S) -> (num, K)."""
    num_seeds = fids.shape[1]
    means = fids.mean(1)
    weights = rng.standard_normal((num, num_seeds))
    scale = np.sqrt((num_seeds - 1) / rng.chisquare(num_seeds - 1, num))
    steps = weights @ (fids - means[:, None]).T / np.sqrt(num_seeds * (num_seeds - 1))
    draws: NDArray[np.float64] = means + scale[:, None] * steps
    return draws
