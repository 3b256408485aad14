"""The prior of the surrogate: mean and covariance of log FID before trials."""

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
"""Candidate powers of the error table's cells; a root reduces very large cells."""

PRIOR_SHAPE = (1.8, 0.2)
"""Prior weights of the first and last interval, relative to their mean.

A missing block costs less near the noise (ASE, Fig. 1). The numbers are ours.
"""

SLOPE_SD = 0.5
"""Relative standard deviation of the common scale."""

DEPTH_LENGTH = 0.35
SCHEDULE_LENGTH = 0.3
"""Length scales of the residual along the depth, and of the interaction.

The unit is the share of missing blocks; the second is a root mean square over intervals. They
were chosen on measured schedules of the digits, like the lists in ``surrogate``.
"""

INTERCEPT_SD = 2.0
"""Standard deviation of the mean log FID around the best trial; weakly informative."""


def prior_table(
    space: SearchSpace,
    weights: Sequence[int],
    table: ErrorTable | None = None,
    *,
    power: float = POWERS[0],
) -> Floats:
    """Return the prior cost of each depth, (num_intervals, num_levels).

    The shallowest schedule has the sum 1, and unvisited intervals cost nothing. Without an error
    table the cost is the squared share of missing blocks times a decreasing weight. With one it
    is the mean of that and a power of the table, because losses alone underrate the noise end.
    """
    costs = np.linspace(*PRIOR_SHAPE, space.num_intervals)[:, None] * missing_shares(space) ** 2
    costs[np.array(weights) == 0] = 0.0
    costs = _normalised(costs)
    if table is None:
        return costs
    # NOTE: Noise can make a shallow exit better in the table; the prior must be monotone.
    excess = np.maximum(visited_excess(table, space, weights), 0.0)
    excess = np.maximum.accumulate(excess[:, ::-1], axis=1)[:, ::-1]
    return _normalised(_normalised(excess**power) + costs)


def _normalised(costs: Floats) -> Floats:
    total = float(costs[:, 0].sum())
    return costs / total if total > 0 else costs


def missing_shares(space: SearchSpace) -> Floats:
    """Return the share of missing blocks of each level, (num_levels,), from 1 to 0."""
    return np.linspace(1.0, 0.0, space.num_levels) if space.num_levels > 1 else np.zeros(1)


@dataclass(frozen=True, slots=True)
class Prior:
    """Mean and covariance of log FID, for one choice of the hyperparameters.

    Shapes: n intervals, L levels, N and M schedules.
    """

    shape: Floats
    """Prior table, (n, L)."""
    visited: NDArray[np.bool_]
    """Whether the solver calls the network in an interval, (n,)."""
    missing: Floats
    """Share of missing blocks by level, (L,)."""
    slope: float
    """Log FID of the shallowest schedule, minus that of full depth."""
    relative_sd: float
    residual_sd: float
    interaction_sd: float

    @property
    def scales(self) -> Floats:
        """Change of each cell by one standard deviation of its interval's weight, (n, L)."""
        peaks = self.shape.max(axis=1, keepdims=True)
        unit = np.divide(self.shape, peaks, out=np.zeros_like(self.shape), where=peaks > 0)
        # NOTE: The mean of the interval's weight and the average weight. An interval with a
        # small prior weight may matter, and a large weight has a larger error.
        share = (peaks + 1.0 / max(1, int(self.visited.sum()))) / 2
        scales: Floats = self.slope * self.relative_sd * share * unit
        return scales

    @property
    def along_depth(self) -> Floats:
        """Covariance of an interval's residual, (L, L); zero at full depth."""
        gaps = (self.missing[:, None] - self.missing[None]) / DEPTH_LENGTH
        sd = self.slope * self.residual_sd / max(1, int(self.visited.sum()))
        cov: Floats = sd**2 * np.outer(self.missing, self.missing) * np.exp(-(gaps**2) / 2)
        return cov

    def additive(self, first: Indices, second: Indices) -> Floats:
        """Covariance of the additive part with the intercept, (N, n), (M, n) -> (N, M)."""
        scales = self.scales[self.visited]
        intervals = np.arange(len(scales))
        a, b = first[:, self.visited], second[:, self.visited]
        one_hot = np.eye(len(self.missing))[b].reshape(len(b), -1)  # (M, visited * L)
        cov: Floats = INTERCEPT_SD**2 + SLOPE_SD**2 * np.outer(self.mean(first), self.mean(second))
        cov += scales[intervals, a] @ scales[intervals, b].T
        cov += self.along_depth[a].reshape(len(a), -1) @ one_hot.T
        return cov

    def interaction(self, first: Indices, second: Indices) -> Floats:
        """Covariance of the interaction, (N, n), (M, n) -> (N, M)."""
        a, b = (self.missing[levels][:, self.visited] for levels in (first, second))
        squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
        squares = np.maximum(squares, 0.0) / max(1, a.shape[1])
        cov: Floats = self.interaction_sd**2 * np.exp(-squares / (2 * SCHEDULE_LENGTH**2))
        return cov

    def mean(self, levels: Indices) -> Floats:
        """Prior mean of log FID minus full depth's, (N, n) -> (N,)."""
        sums: Floats = self.shape[np.arange(levels.shape[1]), levels].sum(axis=1)
        return self.slope * sums
