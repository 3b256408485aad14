"""Proposers by name: Optuna's, and exact uniform or latency-stratified sampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import FrozenTrial

from schedsearch.exceptions import ConfigError
from schedsearch.schedule import ExitSchedule
from schedsearch.space import SearchSpace

_GOLDEN = 0.6180339887498949
"""Step of the golden-ratio sequence: every prefix covers [0, 1) evenly."""


class UniformSampler(optuna.samplers.BaseSampler):
    """Draws schedules exactly uniformly from a space; independent of what was measured.

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


class StratifiedSampler(UniformSampler):
    """Draws uniformly within latency strata that cover the trade-off evenly.

    Latency is affine in the block count of a solver run, so a stratum is a range of block
    counts. Under a uniform draw nearly all schedules cost about the same; strata spread the
    trials over the whole front.

    Args:
        space: The space of schedules.
        seed: Seed of the study.
        weights: Network calls of the solver per interval, data -> noise.
        low: Cheapest block count worth measuring, as a fraction of the way from the
            shallowest schedule to the deepest.
        high: Dearest block count worth measuring, likewise.
        width: Width of a stratum, as a fraction of the same way.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int,
        weights: Sequence[int],
        *,
        low: float = 0.2,
        high: float = 0.9,
        width: float = 0.06,
    ) -> None:
        super().__init__(space, seed)
        self._weights = tuple(weights)
        self._low, self._high, self._width = low, high, width

    @property
    def deepest(self) -> int:
        """Block count of full depth."""
        return sum(self._weights) * self._space.max_depth

    @property
    def width_blocks(self) -> float:
        """Width of a stratum in blocks."""
        return self._width * (self.deepest - sum(self._weights) * self._space.min_depth)

    def blocks(self, depths: Sequence[int]) -> int:
        """Blocks that a solver run executes with these depths."""
        return sum(w * depth for w, depth in zip(self._weights, depths, strict=True))

    def num_drawn(self, study: optuna.Study) -> int:
        """Trials that this sampler proposed, so not those that were enqueued."""
        return sum(
            "fixed_params" not in trial.system_attrs for trial in study.get_trials(deepcopy=False)
        )

    def stratum(self, index: int) -> tuple[int, int]:
        """Range of block counts of a member of the evenly spread sequence."""
        place = self._low + (self._high - self._low) * ((index * _GOLDEN) % 1.0)
        shallow = sum(self._weights) * self._space.min_depth
        middle = shallow + place * (self.deepest - shallow)
        half = self.width_blocks / 2
        return round(middle - half), round(middle + half)

    def draw(self, study: optuna.Study, rng: np.random.Generator) -> ExitSchedule:
        """One schedule from the next stratum of the sequence."""
        return self.draw_between(*self.stratum(self.num_drawn(study)), rng)

    def draw_between(self, low: int, high: int, rng: np.random.Generator) -> ExitSchedule:
        """A uniform draw from a stratum, widened while it is empty."""
        while True:
            found = self._space.sample_with_blocks(rng, low, high, self._weights)
            if found is not None:
                return found
            low, high = low - max(1, (high - low) // 2), high + max(1, (high - low) // 2)


def build_sampler(
    name: str,
    space: SearchSpace,
    seed: int,
    weights: Sequence[int],
    *,
    fixed_blocks: float = 0.0,
    num_asked: int = 0,
) -> optuna.samplers.BaseSampler:
    """The proposer that ``search.sampler`` names.

    Args:
        name: ``additive``, ``stratified``, ``uniform``, ``tpe`` or ``nsga2``.
        space: The space of schedules.
        seed: Seed of the study.
        weights: Network calls of the solver per interval, data -> noise.
        fixed_blocks: Cost of a solver run besides the exit blocks, in blocks.
        num_asked: Trials that the study holds already. Optuna's samplers start their random
            stream anew in every process, so without it a resumed study would repeat itself.

    Raises:
        ConfigError: If no sampler has this name.
    """
    if name == "additive":
        from schedsearch.search.additive import AdditiveSampler

        return AdditiveSampler(space, seed, weights, fixed_blocks=fixed_blocks)
    if name == "stratified":
        return StratifiedSampler(space, seed, weights)
    if name == "uniform":
        return UniformSampler(space, seed)
    if name == "tpe":
        # Independent TPE, Optuna's multi-objective default, ignores how intervals interact.
        return optuna.samplers.TPESampler(seed=seed + num_asked, multivariate=True)
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(seed=seed + num_asked, population_size=20)
    raise ConfigError(
        f"search.sampler must be additive, stratified, uniform, tpe or nsga2, not {name!r}."
    )
