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
        super().__init__(process, starts_of(process, grid))
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
    that of Euler's method. Where the data are predicted, the last step is the midpoint rule: its
    second call is in its middle, and order 2 stays.

    Args:
        process: Flow matching.
        num_steps: Network calls, an even number.
        shift: Moves the times towards the noise (SD3, Eq. 23).
    """

    wants: Wants = "velocity"
    calls_per_step = 2

    def __init__(self, process: FlowProcess, num_steps: int, shift: float = 1.0) -> None:
        grid = flow_times(num_steps // 2, shift)
        self._midpoint = process.end_time > 0
        ends = [*grid[1:-1], grid[-2] / 2 if self._midpoint else grid[-1]]
        pairs = zip(starts_of(process, grid), ends, strict=True)
        super().__init__(process, itertools.chain.from_iterable(pairs))
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
        halves = [False] * (len(self._steps) - 1) + [self._midpoint]
        calls = zip(self._steps, halves, self.times[::2], self.times[1::2], strict=True)
        for step, half, start, end in calls:
            first = denoiser(x, start)
            guess = x + (0.5 * step if half else step) * first
            yield guess
            second = denoiser(guess, end)
            x = x + step * (second if half else 0.5 * (first + second))
            yield x


def starts_of(process: FlowProcess, grid: tuple[float, ...]) -> tuple[float, ...]:
    """Return the times of the calls that start a step.

    A network of the noise says nothing about the velocity at pure noise, and little next to it:
    an error counts 1 / (1 - sigma). So it is asked in the middle of the first step, with the
    state of its start. That is an error of second order in one step.
    """
    if process.start_time == CLOCK_END:
        return grid[:-1]
    return ((grid[0] + grid[1]) / 2, *grid[1:-1])


def steps_of(grid: tuple[float, ...]) -> list[float]:
    """Return the change of sigma between neighbouring clock times."""
    return [(after - now) / CLOCK_END for now, after in itertools.pairwise(grid)]
