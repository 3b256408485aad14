"""A large space with a known exact front: 28 blocks, 10 intervals, 348 million schedules.

The truth is a monotone function of a sum over the intervals, so dynamic programming finds its
front exactly. It flatters whoever believes in sums; it tests size, not realism.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmarks.schedulebench.problems import reference_point
from schedsearch.pareto import Point, hypervolume
from schedsearch.planning.dynamic_programming import optimal_front
from schedsearch.planning.error_table import ErrorTable
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace

FULL_FID = 2.3
"""FID of full depth, about that of DiT-XL/2 with guidance."""
NOISE_SD = 0.065
"""Standard deviation of log FID between seeds, less the means of seeds and of schedules.

That of the digits' schedules with an FID below 1.3 (n = 500).
"""
OFFSET_SD = 0.2
"""Standard deviation of the offset that a seed gives to all schedules."""
TABLE_NOISE = 0.4
"""Standard deviation of the logarithm by which a row of the error table is off."""
CELL_NOISE = 0.1
"""The same for single cells."""
TABLE_CHARGE = 3
"""Trials that the error table costs: about 400 steps on the digits."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SyntheticProblem:
    """``FID = 2.3 exp(sum of costs)``, seen with the noise of a seed."""

    space: SearchSpace = field(default_factory=lambda: SearchSpace(1, 28, 10))
    weights: tuple[int, ...] = (5,) * 10
    fixed_blocks: float = 60.0
    name: str = "synthetic-28"
    not_charged: None = None

    @property
    def levels(self) -> tuple[int, ...]:
        """All depths of the space."""
        return tuple(range(self.space.min_depth, self.space.max_depth + 1))

    @cached_property
    def costs(self) -> Floats:
        """(10, 28): what leaving out blocks costs in log FID, convex and falling with depth.

        Scale and shape of the rows vary; near the noise blocks matter less (ASE, Fig. 1), but
        for some intervals in the middle, which hand-made rules miss.
        """
        rng = np.random.default_rng(28)
        n, levels = self.space.num_intervals, self.space.num_levels
        scale = np.linspace(1.0, 0.15, n) * np.exp(0.4 * rng.standard_normal(n))
        power = rng.uniform(1.5, 4.0, n)
        left_out = (levels - 1 - np.arange(levels)) / (levels - 1)
        costs: Floats = scale[:, None] * left_out[None, :] ** power[:, None]
        return costs

    def truth(self, schedule: ExitSchedule) -> Point:
        """FID without noise, and latency in units of one block."""
        cells = [self.costs[i, d - self.space.min_depth] for i, d in enumerate(schedule.depths)]
        latency = self.fixed_blocks + schedule.num_blocks(self.weights)
        return FULL_FID * math.exp(math.fsum(cells)), latency

    def observe(self, schedule: ExitSchedule, seed: int) -> Point:
        """The same noise whenever a schedule is asked for with the same seed."""
        fid, latency = self.truth(schedule)
        offset = OFFSET_SD * np.random.default_rng([seed]).standard_normal()
        key = [seed, zlib.crc32(bytes(schedule.depths))]
        noise = NOISE_SD * np.random.default_rng(key).standard_normal()
        return fid * math.exp(offset + noise), latency

    @cached_property
    def reference(self) -> Point:
        """As for a table."""
        return reference_point(self)

    @cached_property
    def best_hypervolume(self) -> float:
        """Of the exact front."""
        front = optimal_front(self.costs, self.space, self.weights)
        return hypervolume((self.truth(plan.schedule) for plan in front), self.reference)

    def error_table(self, seed: int) -> ErrorTable:
        """The true costs, distorted per row and cell; every seed has its own."""
        rng = np.random.default_rng([seed, 1])
        n, levels = self.costs.shape
        rows = np.exp(TABLE_NOISE * rng.standard_normal((n, 1)))
        cells = np.exp(CELL_NOISE * rng.standard_normal((n, levels)))
        losses = 0.02 + 0.01 * self.costs * rows * cells
        return ErrorTable(
            depths=tuple(range(self.space.min_depth, self.space.max_depth + 1)),
            losses=tuple(map(tuple, losses.tolist())),
            standard_errors=((CELL_NOISE * 0.01,) * levels,) * n,
            exits="uniform",
            num_steps=400,
            num_images=512,
            seed=seed,
            seconds=0.0,
        )

    def charge(self, *, error_table: bool) -> int:
        """One trial for latency, and the error table."""
        return 1 + (TABLE_CHARGE if error_table else 0)
