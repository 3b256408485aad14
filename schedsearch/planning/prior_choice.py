"""Chooses the prior of the surrogate by its marginal likelihood."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.linalg import solve_triangular

from schedsearch.planning.error_table import ErrorTable
from schedsearch.planning.prior import (
    POWERS,
    Floats,
    Indices,
    Prior,
    missing_shares,
    prior_table,
)
from schedsearch.schedules.space import SearchSpace

NOISE_LEVELS = (0.01, 0.02, 0.04, 0.08, 0.16)
"""Candidate standard deviations of a measured log FID."""

RELATIVE_SDS = (0.3, 1.0)
"""Candidate standard deviations of interval weights, relative to the mean weight."""

RESIDUAL_SDS = (0.1, 0.3)
"""Candidate standard deviations of the residual along the depth, also relative."""

INTERACTION_SDS = (0.03, 0.1)
"""Candidate standard deviations of the interaction between intervals."""

TYPICAL_LOSS = float(np.log(3.0))
"""Prior log FID of the shallowest schedule, minus that of full depth."""

MOST_TRIALS = 200
"""Trials that decide; of more, every second, third, and so on."""


class PriorChoice(NamedTuple):
    """The chosen hyperparameters."""

    prior: Prior
    noise: float
    """Standard deviation of a measured log FID."""


def choose_prior(
    space: SearchSpace,
    weights: Sequence[int],
    levels: Indices,
    log_fids: Floats,
    table: ErrorTable | None,
) -> PriorChoice:
    """Choose the hyperparameters with the largest marginal likelihood from a small grid.

    Args:
        space: The space of schedules.
        weights: Network calls per interval, from data to noise.
        levels: Depths of measured schedules above the smallest, (N, num_intervals).
        log_fids: Their log FIDs above the best, (N,).
        table: The error table, if there is one.
    """
    places = np.linspace(0, len(levels) - 1, min(len(levels), MOST_TRIALS)).round().astype(int)
    levels, log_fids = levels[places], log_fids[places]
    visited, missing = np.array(weights) > 0, missing_shares(space)
    found: list[tuple[float, PriorChoice]] = []
    for power in POWERS if table is not None else (1.0,):
        shape = prior_table(space, weights, table, power=power)
        slope = _slope(shape[np.arange(space.num_intervals), levels].sum(axis=1), log_fids)

        prior_of = partial(Prior, shape, visited, missing, slope)
        # NOTE: The covariance is linear in the variances, so its parts are computed once.
        fixed = prior_of(0.0, 0.0, 0.0).additive(levels, levels)
        parts = [
            prior_of(1.0, 0.0, 0.0).additive(levels, levels) - fixed,
            prior_of(0.0, 1.0, 0.0).additive(levels, levels) - fixed,
            prior_of(0.0, 0.0, 1.0).interaction(levels, levels),
        ]
        for sds in itertools.product(RELATIVE_SDS, RESIDUAL_SDS, INTERACTION_SDS):
            prior = prior_of(*sds)
            cov = fixed + sum(sd**2 * part for sd, part in zip(sds, parts, strict=True))
            evidence, noise = _evidence(cov, log_fids - prior.mean(levels))
            found.append((evidence, PriorChoice(prior, noise)))
    return max(found, key=lambda pair: pair[0])[1]


def _slope(shares: Floats, log_fids: Floats) -> float:
    """Estimate the log FID of the shallowest schedule minus full depth's, by ridge regression.

    Args:
        shares: Prior cost of each trial, as a share of the shallowest schedule's.
        log_fids: Measured log FIDs.
    """
    x, y = shares - shares.mean(), log_fids - log_fids.mean()
    certainty = 0.01  # NOTE: TYPICAL_LOSS counts like one shallow trial with noise 0.1
    return max(float((x @ y + certainty * TYPICAL_LOSS) / (x @ x + certainty)), 0.05)


def _evidence(cov: Floats, residual: Floats) -> tuple[float, float]:
    """Return the largest log marginal likelihood over noise levels, and its level."""
    found = []
    for noise in NOISE_LEVELS:
        factor = np.linalg.cholesky(cov + noise**2 * np.eye(len(cov)))
        white = solve_triangular(factor, residual, lower=True)
        found.append((-float(np.log(np.diag(factor)).sum() + white @ white / 2), noise))
    return max(found)
