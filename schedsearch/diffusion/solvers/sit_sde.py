"""SiT's stochastic sampler (Ma et al. 2024, Sec. 3.2), with the diffusion of its code."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from schedsearch.diffusion.flow import FlowProcess
from schedsearch.diffusion.solvers.base import FixedTimesSolver, required
from schedsearch.diffusion.solvers.flow import starts_of, steps_of
from schedsearch.protocols import Denoiser, StepNoise, Wants
from schedsearch.schedules.exit_schedule import CLOCK_END

END_TIME = 40.0
"""Clock time where the last step starts (``last_step_size`` 0.04 of SiT's code)."""


class SitSDE(FixedTimesSolver):
    """Euler-Maruyama on the reverse SDE with diffusion w = sigma.

    Backwards in sigma it is ``dx = (-velocity + w score) ds + sqrt(2 w) dW`` with
    ``score = -eps / sigma``. The last step adds no noise ("Mean"). The velocity gives the score
    too, so a step calls the network once; SiT's code calls it twice.

    Args:
        process: Flow matching.
        num_steps: Network calls: equal steps down to ``end_time``, then one to the data.
        end_time: Clock time where the last step starts.
    """

    wants: Wants = "velocity"

    def __init__(self, process: FlowProcess, num_steps: int, end_time: float = END_TIME) -> None:
        grid = (*np.linspace(CLOCK_END, end_time, num_steps).tolist(), 0.0)
        super().__init__(process, starts_of(process, grid))
        self._levels = [t / CLOCK_END for t in grid[:-1]]
        self._steps = steps_of(grid)

    @torch.no_grad()
    def trajectory(
        self, denoiser: Denoiser, noise: Tensor, step_noise: StepNoise | None = None
    ) -> Iterator[Tensor]:
        """Sample step by step; see :meth:`FixedTimesSolver.trajectory`.

        Args:
            denoiser: Predicts the velocity.
            noise: Standard normal starting noise, (N, C, H, W).
            step_noise: Noise of all steps but the last.

        Raises:
            ValueError: If ``step_noise`` is None.
        """
        draw = required(step_noise, "sit_sde")
        x = noise
        levels = zip(self.times, self._levels, self._steps, strict=True)
        for index, (t, sigma, step) in enumerate(levels, start=1):
            velocity = denoiser(x, t)
            eps = x + (1.0 - sigma) * velocity
            x = x + step * (velocity + eps)
            if index < self.num_steps:
                x = x + math.sqrt(-2.0 * sigma * step) * draw()
            yield x
