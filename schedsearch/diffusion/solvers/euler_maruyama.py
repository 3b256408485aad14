"""Euler-Maruyama on the reverse SDE (Song et al. 2021, App. D.1), as in U-ViT's code."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from schedsearch.diffusion.process import VPProcess
from schedsearch.diffusion.solvers.base import FixedTimesSolver, required
from schedsearch.diffusion.solvers.times import euler_maruyama_times
from schedsearch.protocols import Denoiser, StepNoise
from schedsearch.schedules.exit_schedule import CLOCK_END

END_TIME = 1.0
"""Clock time of the last network call, s = 1e-3 (U-ViT's code)."""


class EulerMaruyama(FixedTimesSolver):
    """Equal steps on the reverse of the variance-preserving SDE.

    The network is called at N equally spaced times from 1000 to ``end_time``. The last step goes
    from there to 0 and adds no noise. diffusers' ``ScoreSdeVpScheduler`` ignores its list of
    times, so we do not use that class. A step (Eq. 6; drift -beta x / 2, score -eps / sigma) is::

        x + ds (beta x / 2 - beta eps / sigma) + sqrt(beta ds) z

    Args:
        process: The continuous process.
        num_steps: Number N of network calls.
        end_time: Clock time of the last network call.
    """

    def __init__(self, process: VPProcess, num_steps: int, end_time: float = END_TIME) -> None:
        super().__init__(process, euler_maruyama_times(num_steps, end_time))
        self._steps: list[tuple[float, float, float]] = []
        for t, after in zip(self.times, [*self.times[1:], 0.0], strict=True):
            moved = process.beta(t) * (t - after) / CLOCK_END
            sigma = math.sqrt(1.0 - process.alpha_bar(t))
            std = math.sqrt(moved) if after > 0 else 0.0
            self._steps.append((1.0 + 0.5 * moved, -moved / sigma, std))

    @torch.no_grad()
    def trajectory(
        self, denoiser: Denoiser, noise: Tensor, step_noise: StepNoise | None = None
    ) -> Iterator[Tensor]:
        """Sample step by step; see :meth:`FixedTimesSolver.trajectory`.

        Args:
            denoiser: Predicts the noise.
            noise: Standard normal starting noise, (N, C, H, W).
            step_noise: Noise of all steps but the last.

        Raises:
            ValueError: If ``step_noise`` is None.
        """
        draw = required(step_noise, "euler_maruyama")
        x = noise
        for t, (of_x, of_eps, std) in zip(self.times, self._steps, strict=True):
            x = of_x * x + of_eps * denoiser(x, t)
            if std > 0:
                x = x + std * draw()
            yield x
