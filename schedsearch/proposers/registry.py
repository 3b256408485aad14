"""Builds proposers by name: ours, the baselines, and Optuna's samplers."""

from __future__ import annotations

from collections.abc import Sequence

import optuna

from schedsearch.exceptions import ConfigError
from schedsearch.planning.error_table import ErrorTable
from schedsearch.proposers.additive import AdditiveSampler
from schedsearch.proposers.stratified import StratifiedSampler
from schedsearch.proposers.uniform import UniformSampler
from schedsearch.schedules.space import SearchSpace

NAMES = ("additive", "stratified", "uniform", "tpe", "nsga2", "gp")
"""Valid values of ``search.sampler``."""


def build_sampler(
    name: str,
    space: SearchSpace,
    seed: int,
    weights: Sequence[int],
    *,
    fixed_blocks: float = 0.0,
    num_asked: int = 0,
    error_table: ErrorTable | None = None,
) -> optuna.samplers.BaseSampler:
    """Build the proposer set by ``search.sampler``.

    Args:
        name: One of :data:`NAMES`.
        space: The space of schedules.
        seed: Seed of the study.
        weights: Network calls of the solver per interval, from data to noise.
        fixed_blocks: Cost of a solver run outside the exit blocks, in blocks.
        num_asked: Number of trials in the study. It changes the seed of Optuna's samplers, so
            that a resumed study does not repeat its proposals.
        error_table: Prior of ``additive``; the others ignore it.

    Raises:
        ConfigError: If no sampler has this name.
        ValueError: If the error table does not cover the space.
    """
    if name == "additive":
        return AdditiveSampler(
            space, seed, weights, fixed_blocks=fixed_blocks, error_table=error_table
        )
    if name == "stratified":
        return StratifiedSampler(space, seed, weights)
    if name == "uniform":
        return UniformSampler(space, seed)
    if name == "tpe":
        # NOTE: Univariate TPE, Optuna's default, ignores interactions between intervals.
        return optuna.samplers.TPESampler(seed=seed + num_asked, multivariate=True)
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed + num_asked, population_size=20)
    if name == "gp":
        # NOTE: Expected hypervolume improvement, with one Gaussian process per objective.
        return optuna.samplers.GPSampler(seed=seed + num_asked)
    raise ConfigError(
        f"search.sampler must be {', '.join(NAMES[:-1])} or {NAMES[-1]}, not {name!r}."
    )
