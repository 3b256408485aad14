"""Proposers by name: ours, the baselines, and Optuna's."""

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
"""What ``search.sampler`` may be."""


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
    """The proposer that ``search.sampler`` names.

    Args:
        name: One of :data:`NAMES`.
        space: The space of schedules.
        seed: Seed of the study.
        weights: Network calls of the solver per interval, data -> noise.
        fixed_blocks: Cost of a solver run besides the exit blocks, in blocks.
        num_asked: Trials that the study holds already. Optuna's samplers restart their random
            stream in every process, so without it a resumed study would repeat itself.
        error_table: Prior knowledge for ``additive``; the others cannot use any.

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
        # Independent TPE, Optuna's multi-objective default, ignores how intervals interact.
        return optuna.samplers.TPESampler(seed=seed + num_asked, multivariate=True)
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed + num_asked, population_size=20)
    if name == "gp":
        # Expected hypervolume improvement over Gaussian processes, one per objective.
        return optuna.samplers.GPSampler(seed=seed + num_asked)
    raise ConfigError(
        f"search.sampler must be {', '.join(NAMES[:-1])} or {NAMES[-1]}, not {name!r}."
    )
