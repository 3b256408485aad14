"""The prior of the surrogate: means and covariances of log FID before the trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schedsearch.planning.cells import visited_excess
from schedsearch.planning.error_table import ErrorTable
from schedsearch.schedules.space import SearchSpace

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

POWERS = (0.5, 1.0)
"""Powers of the error table's cells; a square root tames cells that explode."""

PRIOR_SHAPE = (1.8, 0.2)
"""Weights of the first and the last interval without an error table, relative to their mean.

A missing block costs less towards the noise (ASE, Fig. 1). The numbers are ours.
"""

SLOPE_SD = 0.5
"""Relative uncertainty of the common scale, which is estimated first."""

DEPTH_LENGTH = 0.35
SCHEDULE_LENGTH = 0.3
"""Lengths over which the residual along the depth and the interaction vary.

In shares of the missing blocks, the second as a root mean square over the intervals. These and
the lists in ``surrogate`` were chosen on measured schedules of the digits.
"""

INTERCEPT_SD = 2.0
"""Of the level of log FID, around the best trial; weakly informative."""


def prior_table(
    space: SearchSpace,
    weights: Sequence[int],
    table: ErrorTable | None = None,
    *,
    power: float = POWERS[0],
) -> Floats:
    """Expected cost of each depth, (num_intervals, num_levels); the shallowest sums to 1.

    Without an error table: the squared share of missing blocks times a weight that falls
    towards the noise. With one: the mean of that and a power of the table, since losses alone
    give intervals near the noise too little weight. Unvisited intervals cost nothing.
    """
    costs = np.linspace(*PRIOR_SHAPE, space.num_intervals)[:, None] * missing_shares(space) ** 2
    costs[np.array(weights) == 0] = 0.0
    costs = _normalised(costs)
    if table is None:
        return costs
    # NOTE: by noise a shallow exit may win in the table; it must not in the prior.
    excess = np.maximum(visited_excess(table, space, weights), 0.0)
    excess = np.maximum.accumulate(excess[:, ::-1], axis=1)[:, ::-1]
    return _normalised(_normalised(excess**power) + costs)


def _normalised(costs: Floats) -> Floats:
    total = float(costs[:, 0].sum())
    return costs / total if total > 0 else costs


def missing_shares(space: SearchSpace) -> Floats:
    """Share of the blocks that each level leaves out, (num_levels,): from 1 down to 0."""
    return np.linspace(1.0, 0.0, space.num_levels) if space.num_levels > 1 else np.zeros(1)


@dataclass(frozen=True, slots=True)
class Prior:
    """Mean and covariances of log FID, for one choice of the model's constants."""

    shape: Floats
    """Prior table, (n, L)."""
    visited: NDArray[np.bool_]
    missing: Floats
    slope: float
    """log FID of the shallowest schedule above full depth's."""
    relative_sd: float
    residual_sd: float
    interaction_sd: float

    @property
    def scales(self) -> Floats:
        """(n, L): change of each cell by one standard deviation of its interval's weight."""
        peaks = self.shape.max(axis=1, keepdims=True)
        unit = np.divide(self.shape, peaks, out=np.zeros_like(self.shape), where=peaks > 0)
        # NOTE: half the own weight, half the mean weight. An interval that is harmless by the
        # table may matter, and an important one has more to be wrong about.
        share = (peaks + 1.0 / max(1, int(self.visited.sum()))) / 2
        scales: Floats = self.slope * self.relative_sd * share * unit
        return scales

    @property
    def along_depth(self) -> Floats:
        """(L, L): covariance of an interval's residual; zero at full depth."""
        gaps = (self.missing[:, None] - self.missing[None]) / DEPTH_LENGTH
        sd = self.slope * self.residual_sd / max(1, int(self.visited.sum()))
        cov: Floats = sd**2 * np.outer(self.missing, self.missing) * np.exp(-(gaps**2) / 2)
        return cov

    def additive(self, first: Indices, second: Indices) -> Floats:
        """Covariance of the sums over the intervals, intercept included: (N, n), (M, n)."""
        scales, residual = self.scales, self.along_depth
        cov = INTERCEPT_SD**2 + SLOPE_SD**2 * np.outer(self.mean(first), self.mean(second))
        for i in np.flatnonzero(self.visited):
            a, b = first[:, i], second[:, i]
            cov += np.outer(scales[i, a], scales[i, b]) + residual[np.ix_(a, b)]
        return cov

    def interaction(self, first: Indices, second: Indices) -> Floats:
        """Covariance of the part that does not add up: (N, n), (M, n)."""
        a, b = (self.missing[levels][:, self.visited] for levels in (first, second))
        squares = ((a[:, None] - b[None]) ** 2).mean(axis=2)
        cov: Floats = self.interaction_sd**2 * np.exp(-squares / (2 * SCHEDULE_LENGTH**2))
        return cov

    def mean(self, levels: Indices) -> Floats:
        """Prior log FID above full depth's of schedules, (N, n), before any interaction."""
        sums: Floats = self.shape[np.arange(levels.shape[1]), levels].sum(axis=1)
        return self.slope * sums
