"""The surrogate: a Gaussian process on log FID, fitted to all trials.

The additive part is a table of contributions per interval and depth. So its mean and every
posterior draw are cost tables, and dynamic programming finds their exact optima. A smaller
interaction term is not additive.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from schedsearch.planning.dynamic_programming import optimal_front
from schedsearch.planning.error_table import ErrorTable
from schedsearch.planning.prior import (
    INTERCEPT_SD,
    POWERS,
    SLOPE_SD,
    Floats,
    Indices,
    Prior,
    missing_shares,
    prior_table,
)
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace

NOISE_LEVELS = (0.01, 0.02, 0.04, 0.08, 0.16)
"""Candidate standard deviations of a measured log FID; the marginal likelihood chooses."""

RELATIVE_SDS = (0.3, 1.0)
"""Candidate standard deviations of interval weights, relative to the mean weight."""

RESIDUAL_SDS = (0.1, 0.3)
"""Candidate standard deviations of the residual along the depth, also relative."""

INTERACTION_SDS = (0.03, 0.1)
"""Candidate standard deviations of the interaction between intervals."""

TYPICAL_LOSS = float(np.log(3.0))
"""Prior log FID of the shallowest schedule, minus that of full depth."""

WORST_GAP = float(np.log(10.0))
"""Largest log FID above the best; failed schedules are clipped to it."""

_JITTER = 1e-6
"""Added to variances of log FID, for joint draws of near-duplicates."""


@dataclass(frozen=True, slots=True)
class Surrogate:
    """Posterior of ``log FID = c + sum_i theta[i, d_i] + interaction + noise``.

    The prior mean of theta is the excess of the error table times a scale. Trials correct it by
    a weight per interval and a smooth residual along the depth. The marginal likelihood chooses
    all standard deviations from a small grid. Build it with :meth:`fit`.
    """

    space: SearchSpace
    noise: float
    """Standard deviation of a measured log FID."""
    _prior: Prior
    _levels: Indices
    _residual: Floats
    _offset: float
    _factor: Floats

    @classmethod
    def fit(
        cls,
        space: SearchSpace,
        weights: Sequence[int],
        schedules: Sequence[ExitSchedule],
        fids: Sequence[float],
        table: ErrorTable | None = None,
    ) -> Surrogate:
        """Fit to measured schedules.

        Args:
            space: The space of schedules.
            weights: Network calls per interval, from data to noise.
            schedules: Measured schedules, at least one.
            fids: Their FIDs, > 0.
            table: The error table, if there is one.

        Raises:
            ValueError: If there is no trial, or an FID is not a positive number.
        """
        # Check the FIDs.
        values = np.array(fids, dtype=float)
        if not len(values) or len(values) != len(schedules) or not np.isfinite(values).all():
            raise ValueError(f"A surrogate needs finite FIDs, one per schedule, got {fids}.")
        if (values <= 0).any():
            raise ValueError(f"A surrogate needs FIDs > 0, got {min(fids)}.")
        levels = np.array([s.depths for s in schedules], dtype=np.int64) - space.min_depth
        log_fids = np.minimum(np.log(values), np.log(values.min()) + WORST_GAP)
        offset = float(log_fids.min())
        # Choose the prior.
        best: tuple[float, float, Prior] | None = None
        for power in POWERS if table is not None else (1.0,):
            shape = prior_table(space, weights, table, power=power)
            slope = _slope(shape[np.arange(space.num_intervals), levels].sum(axis=1), log_fids)
            for sds in itertools.product(RELATIVE_SDS, RESIDUAL_SDS, INTERACTION_SDS):
                prior = Prior(shape, np.array(weights) > 0, missing_shares(space), slope, *sds)
                evidence, noise = _evidence(prior, levels, log_fids - offset)
                if best is None or evidence > best[0]:
                    best = evidence, noise, prior
        assert best is not None
        # Factorise the covariance.
        _, noise, prior = best
        cov = prior.additive(levels, levels) + prior.interaction(levels, levels)
        factor = np.linalg.cholesky(cov + noise**2 * np.eye(len(levels))).astype(np.float64)
        residual = log_fids - offset - prior.mean(levels)
        return cls(space, noise, prior, levels, residual, offset, factor)

    def _solve(self, right: Floats) -> Floats:
        return np.linalg.solve(self._factor.T, np.linalg.solve(self._factor, right))

    def table(self, rng: np.random.Generator | None = None) -> tuple[float, Floats]:
        """Return the additive part as (intercept, costs).

        The costs have shape (num_intervals, num_levels). The intercept plus the cells of a
        schedule is its log FID.

        Args:
            rng: Random generator for a posterior draw; None gives the mean.
        """
        prior, levels = self._prior, self._levels
        drawn, intercept = np.zeros_like(prior.shape), 0.0
        fake = np.zeros(len(levels))
        # Draw from the prior.
        # NOTE: Matheron's rule then conditions the draw in the same way as the mean.
        if rng is not None:
            num_intervals, num_levels = drawn.shape
            jitter = 1e-12 * np.eye(num_levels)
            residual = rng.multivariate_normal(
                np.zeros(num_levels), prior.along_depth + jitter, num_intervals, method="eigh"
            )
            drawn = rng.normal(size=(num_intervals, 1)) * prior.scales + residual
            drawn += SLOPE_SD * float(rng.normal()) * prior.slope * prior.shape
            drawn[~prior.visited] = 0.0
            intercept = INTERCEPT_SD * float(rng.normal())
            rest = prior.interaction(levels, levels) + self.noise**2 * np.eye(len(levels))
            other = np.linalg.cholesky(rest) @ rng.normal(size=len(levels))
            fake = drawn[np.arange(num_intervals), levels].sum(axis=1) + intercept + other
        # Condition on the trials.
        weights = self._solve(self._residual - fake)
        scale = 1.0 + SLOPE_SD**2 * float(prior.mean(levels) @ weights)
        costs = scale * prior.slope * prior.shape + drawn
        for i in np.flatnonzero(prior.visited):
            own = levels[:, i]
            costs[i] += prior.scales[i] * (prior.scales[i, own] @ weights)
            costs[i] += prior.along_depth[:, own] @ weights
        return self._offset + intercept + INTERCEPT_SD**2 * float(weights.sum()), costs

    def predict(self, schedules: Sequence[ExitSchedule]) -> tuple[Floats, Floats]:
        """Predict log FIDs: mean (M,) and covariance without noise (M, M)."""
        levels = np.array([s.depths for s in schedules], dtype=np.int64) - self.space.min_depth
        prior = self._prior
        cross = prior.additive(levels, self._levels) + prior.interaction(levels, self._levels)
        own = prior.additive(levels, levels) + prior.interaction(levels, levels)
        half = np.linalg.solve(self._factor, cross.T)  # (N, M)
        mean = self._offset + prior.mean(levels) + cross @ self._solve(self._residual)
        return mean, own - half.T @ half

    def draw(self, schedules: Sequence[ExitSchedule], rng: np.random.Generator) -> Floats:
        """Draw the log FIDs of schedules jointly, without noise, (M,).

        Args:
            schedules: Members of the space.
            rng: Random generator.
        """
        mean, cov = self.predict(schedules)
        factor = np.linalg.cholesky(cov + _JITTER * np.eye(len(mean)))
        drawn: Floats = mean + factor @ rng.normal(size=len(mean))
        return drawn


def surrogate_front(
    surrogate: Surrogate, weights: Sequence[int]
) -> list[tuple[ExitSchedule, float]]:
    """Return the best front by the surrogate, with expected FIDs.

    The front is exact for the additive part of the model.

    Args:
        surrogate: The model, fitted to all trials.
        weights: Network calls per interval, from data to noise.

    Returns:
        (schedule, expected FID), by increasing latency and decreasing FID.
    """
    intercept, costs = surrogate.table()
    front = optimal_front(costs, surrogate.space, weights)
    return [(plan.schedule, math.exp(intercept + plan.cost)) for plan in front]


def _slope(shares: Floats, log_fids: Floats) -> float:
    """Estimate the log FID of the shallowest schedule minus full depth's, by ridge regression.

    Args:
        shares: Prior cost of each trial, as a share of the shallowest schedule's.
        log_fids: Measured log FIDs.
    """
    x, y = shares - shares.mean(), log_fids - log_fids.mean()
    certainty = 0.01  # NOTE: TYPICAL_LOSS counts like one shallow trial with noise 0.1
    return max(float((x @ y + certainty * TYPICAL_LOSS) / (x @ x + certainty)), 0.05)


def _evidence(prior: Prior, levels: Indices, log_fids: Floats) -> tuple[float, float]:
    """Return the largest log marginal likelihood over noise levels, and its level."""
    cov = prior.additive(levels, levels) + prior.interaction(levels, levels)
    values, vectors = np.linalg.eigh(cov)
    squares = (vectors.T @ (log_fids - prior.mean(levels))) ** 2
    found = []
    for noise in NOISE_LEVELS:
        variances = np.maximum(values, 0.0) + noise**2
        found.append((-0.5 * float((np.log(variances) + squares / variances).sum()), noise))
    return max(found)
