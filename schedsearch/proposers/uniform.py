"""Exactly uniform proposals; the base class of our samplers."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import FrozenTrial

from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace


class UniformSampler(optuna.samplers.BaseSampler):
    """Draws schedules exactly uniformly from a space.

    Optuna's random sampler draws the intervals independently. Sorted to a monotone schedule,
    such draws are not uniform and repeat often.

    Args:
        space: The space of schedules.
        seed: Seed of the study. Together with the number of earlier trials it fixes the draw, so
            a resumed study proposes the same schedules. Retries do not count.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self._space = space
        self._seed = seed

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return all parameters, so that they are drawn together."""
        bounds = IntDistribution(self._space.min_depth, self._space.max_depth)
        return dict.fromkeys(self._space.param_names(), bounds)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw one schedule as canonical parameters."""
        rng = np.random.default_rng([self._seed, _number_without_retries(study, trial)])
        return self._space.to_params(self.draw(study, rng))

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Raise an error, because no parameter lies outside the space."""
        raise ValueError(f"{param_name!r} is not a parameter of this space of schedules.")

    def draw(self, study: optuna.Study, rng: np.random.Generator) -> ExitSchedule:
        """Draw one schedule of the space."""
        return self._space.sample(rng)


def _number_without_retries(study: optuna.Study, trial: FrozenTrial) -> int:
    """The number that a trial would have if nothing had died before it."""
    retries = sum(
        "retry_of" in other.user_attrs and other.number < trial.number
        for other in study.get_trials(deepcopy=False)
    )
    return trial.number - retries
