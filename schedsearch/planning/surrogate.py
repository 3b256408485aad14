"""The surrogate: a Gaussian process on log FID, fitted to all trials.

The additive part is a table of contributions per interval and depth. So its mean and every
posterior draw are cost tables, and dynamic programming finds their exact optima. A smaller
interaction term is not additive.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, solve_triangular

from schedsearch.planning.dynamic_programming import optimal_front
from schedsearch.planning.error_table import ErrorTable
from schedsearch.planning.prior import INTERCEPT_SD, SLOPE_SD, Floats, Indices, Prior
from schedsearch.planning.prior_choice import PriorChoice, choose_prior
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace

WORST_GAP = float(np.log(10.0))
"""Largest log FID above the best; failed schedules are clipped to it."""

MOST_TRIALS = 1000
"""Trials of a fit, whose time is cubic: those nearest the front and some others."""

_JITTER = 1e-6
"""Added to variances of log FID, for joint draws of near-duplicates."""


@dataclass(frozen=True, slots=True)
class Surrogate:
    """Posterior of ``log FID = c + sum_i theta[i, d_i] + interaction + noise``.

    The prior mean of theta is the excess of the error table times a scale. Trials correct it by
    a weight per interval and a smooth residual along the depth. Build it with :meth:`fit`.
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
        choice: PriorChoice | None = None,
    ) -> Surrogate:
        """Fit to measured schedules, or to :data:`MOST_TRIALS` of them.

        Args:
            space: The space of schedules.
            weights: Network calls per interval, from data to noise.
            schedules: Measured schedules, at least one.
            fids: Their FIDs, > 0.
            table: The error table, if there is one.
            choice: Hyperparameters; None chooses them from these schedules.

        Raises:
            ValueError: If there is no trial, or an FID is not a positive number.
        """
        levels = levels_of(space, schedules)
        log_fids = clipped_log_fids(fids, len(schedules))
        offset = float(log_fids.min())
        if choice is None:
            choice = choose_prior(space, weights, levels, log_fids - offset, table)
        # Leave out what teaches little.
        places = telling_trials(levels @ np.array(weights), log_fids, MOST_TRIALS)
        levels, log_fids = levels[places], log_fids[places]
        # Factorise the covariance.
        prior, noise = choice
        cov = prior.additive(levels, levels) + prior.interaction(levels, levels)
        factor = np.linalg.cholesky(cov + noise**2 * np.eye(len(levels))).astype(np.float64)
        residual = log_fids - offset - prior.mean(levels)
        return cls(space, noise, prior, levels, residual, offset, factor)

    def _solve(self, right: Floats) -> Floats:
        solved: Floats = cho_solve((self._factor, True), right)
        return solved

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
        levels, prior = levels_of(self.space, schedules), self._prior
        cross = prior.additive(levels, self._levels) + prior.interaction(levels, self._levels)
        own = prior.additive(levels, levels) + prior.interaction(levels, levels)
        half = solve_triangular(self._factor, cross.T, lower=True)  # (N, M)
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


def levels_of(space: SearchSpace, schedules: Sequence[ExitSchedule]) -> Indices:
    """Return depths above the smallest one, (N, num_intervals)."""
    return np.array([s.depths for s in schedules], dtype=np.int64) - space.min_depth


def clipped_log_fids(fids: Sequence[float], count: int) -> Floats:
    """Return the logarithms of FIDs, at most :data:`WORST_GAP` above the best.

    Args:
        fids: The FIDs.
        count: Their expected number, at least one.

    Raises:
        ValueError: If the number differs, or an FID is not a positive number.
    """
    values = np.array(fids, dtype=float)
    if not len(values) or len(values) != count or not np.isfinite(values).all():
        raise ValueError(f"A surrogate needs finite FIDs, one per schedule, got {fids}.")
    if (values <= 0).any():
        raise ValueError(f"A surrogate needs FIDs > 0, got {min(fids)}.")
    clipped: Floats = np.minimum(np.log(values), np.log(values.min()) + WORST_GAP)
    return clipped


def telling_trials(blocks: Floats | Indices, log_fids: Floats, count: int) -> Indices:
    """Choose trials to fit: half nearest the front, half spread over the block counts.

    Args:
        blocks: Block counts, (N,).
        log_fids: Log FIDs, (N,).
        count: Number of trials wanted.

    Returns:
        Their places, rising; all of them if there are not more.
    """
    if len(blocks) <= count:
        return np.arange(len(blocks))
    by_nearness = nearest_front(blocks, log_fids)
    near, others = by_nearness[: count // 2], by_nearness[count // 2 :]
    others = others[np.lexsort((others, blocks[others]))]
    places = np.linspace(0, len(others) - 1, count - len(near)).round().astype(int)
    return np.sort(np.concatenate([near, others[places]]))


def nearest_front(blocks: Floats | Indices, values: Floats) -> Indices:
    """Order schedules by their value above the best one with as few blocks, (N,)."""
    order = np.lexsort((values, blocks))
    excess = np.empty(len(order))
    excess[order] = values[order] - np.minimum.accumulate(values[order])
    return np.argsort(excess, kind="stable")


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
