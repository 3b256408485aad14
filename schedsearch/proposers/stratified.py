"""Latency-stratified random proposals, a baseline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import optuna

from schedsearch.proposers.uniform import UniformSampler
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace

_GOLDEN = 0.6180339887498949
"""Step of the golden-ratio sequence, whose every prefix covers [0, 1) evenly."""


class StratifiedSampler(UniformSampler):
    """Draws uniformly within latency strata that cover the range evenly.

    Latency is affine in the block count of a solver run, so a stratum is a range of block
    counts. Without strata, nearly all uniform draws have about the same latency.

    Args:
        space: The space of schedules.
        seed: Seed of the study.
        weights: Network calls of the solver per interval, from data to noise.
        low: Smallest block count: 0 is the shallowest schedule, 1 the deepest.
        high: Largest block count, on the same scale.
        width: Width of a stratum, on the same scale.
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
    def shallowest(self) -> int:
        """Block count of the shallowest schedule."""
        return sum(self._weights) * self._space.min_depth

    def num_drawn(self, study: optuna.Study) -> int:
        """Count the trials that this sampler proposed, without enqueued ones."""
        return sum(
            "fixed_params" not in trial.system_attrs for trial in study.get_trials(deepcopy=False)
        )

    def stratum(self, index: int) -> tuple[int, int]:
        """Return the range of block counts of one stratum in the sequence."""
        place = self._low + (self._high - self._low) * ((index * _GOLDEN) % 1.0)
        whole = self.deepest - self.shallowest
        middle, half = self.shallowest + place * whole, self._width * whole / 2
        return round(middle - half), round(middle + half)

    def draw(self, study: optuna.Study, rng: np.random.Generator) -> ExitSchedule:
        """Draw one schedule from the next stratum of the sequence."""
        return self.draw_between(*self.stratum(self.num_drawn(study)), rng)

    def draw_between(self, low: int, high: int, rng: np.random.Generator) -> ExitSchedule:
        """Draw uniformly from a stratum; widen it while it is empty."""
        while True:
            found = self._space.sample_with_blocks(rng, low, high, self._weights)
            if found is not None:
                return found
            low, high = low - max(1, (high - low) // 2), high + max(1, (high - low) // 2)
