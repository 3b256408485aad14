"""Exactly uniform proposals, and what all samplers of our own share."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import FrozenTrial

from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace


class UniformSampler(optuna.samplers.BaseSampler):
    """Draws schedules exactly uniformly from a space, whatever was measured.

    Optuna's own random sampler draws ten integers, which the sorting encoding turns into a
    biased draw with 12-27 % duplicates.

    Args:
        space: The space of schedules.
        seed: Seed of the study; with the trial number it fixes the draw, so that a resumed
            study proposes what an undisturbed one would.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space = space
        self._seed = seed

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """All intervals are drawn together."""
        bounds = IntDistribution(self._space.min_depth, self._space.max_depth)
        return dict.fromkeys(self._space.param_names(), bounds)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """One schedule as canonical parameters."""
        rng = np.random.default_rng([self._seed, trial.number])
        return self._space.to_params(self.draw(study, rng))

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Refuse: a parameter outside the space is a mistake of the caller."""
        raise ValueError(f"{param_name!r} is no parameter of this space of schedules.")

    def draw(self, study: optuna.Study, rng: np.random.Generator) -> ExitSchedule:
        """One schedule of the space."""
        return self._space.sample(rng)
