"""Euler's and Heun's method on the straight path of flow matching."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from schedsearch.diffusion.flow import FlowProcess
from schedsearch.diffusion.solvers.base import FixedTimesSolver
from schedsearch.diffusion.solvers.times import flow_times
from schedsearch.protocols import Denoiser, StepNoise, Wants
from schedsearch.schedules.exit_schedule import CLOCK_END


class FlowEuler(FixedTimesSolver):
    """Euler's method on ``dx / dsigma = velocity``: one network call per step.

    Args:
        process: Flow matching.
        num_steps: Equal steps from sigma = 1 to 0, before the shift.
        shift: Moves the times towards the noise (SD3, Eq. 23).
    """

    wants: Wants = "velocity"

    def __init__(self, process: FlowProcess, num_steps: int, shift: float = 1.0) -> None:
        grid = flow_times(num_steps, shift)
        super().__init__(process, (asked_at(process, t) for t in grid[:-1]))
        self._steps = steps_of(grid)

    @torch.no_grad()
    def trajectory(
        self, denoiser: Denoiser, noise: Tensor, step_noise: StepNoise | None = None
    ) -> Iterator[Tensor]:
        """Sample step by step; see :meth:`FixedTimesSolver.trajectory`.

        Args:
            denoiser: Predicts the velocity.
            noise: Standard normal starting noise, (N, C, H, W).
            step_noise: Not used.
        """
        x = noise
        for t, step in zip(self.times, self._steps, strict=True):
            x = x + step * denoiser(x, t)
            yield x


class FlowHeun(FixedTimesSolver):
    """Heun's method on ``dx / dsigma = velocity``: two network calls per step, order 2.

    The second call of a step is at its end, as in SiT's sampler. The state after a first call is
    that of Euler's method.

    Args:
        process: Flow matching.
        num_steps: Network calls, an even number.
        shift: Moves the times towards the noise (SD3, Eq. 23).
    """

    wants: Wants = "velocity"
    calls_per_step = 2

    def __init__(self, process: FlowProcess, num_steps: int, shift: float = 1.0) -> None:
        grid = flow_times(num_steps // 2, shift)
        ends = itertools.chain.from_iterable(itertools.pairwise(grid))
        super().__init__(process, (asked_at(process, t) for t in ends))
        self._steps = steps_of(grid)

    @torch.no_grad()
    def trajectory(
        self, denoiser: Denoiser, noise: Tensor, step_noise: StepNoise | None = None
    ) -> Iterator[Tensor]:
        """Sample call by call; see :meth:`FixedTimesSolver.trajectory`.

        Args:
            denoiser: Predicts the velocity.
            noise: Standard normal starting noise, (N, C, H, W).
            step_noise: Not used.
        """
        x = noise
        for step, start, end in zip(self._steps, self.times[::2], self.times[1::2], strict=True):
            first = denoiser(x, start)
            guess = x + step * first
            yield guess
            x = x + 0.5 * step * (first + denoiser(guess, end))
            yield x


def asked_at(process: FlowProcess, t: float) -> float:
    """Return the nearest time at which the network can be asked for a velocity."""
    return min(max(t, process.end_time), process.start_time)


def steps_of(grid: tuple[float, ...]) -> list[float]:
    """Return the change of sigma between neighbouring clock times."""
    return [(after - now) / CLOCK_END for now, after in itertools.pairwise(grid)]
