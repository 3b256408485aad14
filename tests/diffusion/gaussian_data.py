"""Data for which everything about a solver has an exact answer: pixels are N(MEAN, STD ** 2).

The best noise prediction is affine in x, and so is everything that a solver makes of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from schedsearch.diffusion.process import NoiseProcess
from schedsearch.protocols import Solver

MEAN, STD = 0.4, 0.3


def scales_at(process: NoiseProcess, t: float) -> tuple[float, float]:
    alpha, sigma = process.scales(torch.tensor(t, dtype=torch.float64))
    return float(alpha), float(sigma)


def gaussian_denoiser(process: NoiseProcess) -> Callable[[Tensor, float], Tensor]:
    def denoise(x: Tensor, t: float) -> Tensor:
        alpha, sigma = scales_at(process, t)
        return sigma * (x - alpha * MEAN) / (alpha**2 * STD**2 + sigma**2)

    return denoise


def gaussian_velocity(process: NoiseProcess) -> Callable[[Tensor, float], Tensor]:
    """The best velocity, noise minus data, in closed form."""

    def velocity(x: Tensor, t: float) -> Tensor:
        alpha, sigma = scales_at(process, t)
        return (sigma - alpha * STD**2) * (x - alpha * MEAN) / (
            alpha**2 * STD**2 + sigma**2
        ) - MEAN

    return velocity


def best_denoiser(solver: Solver) -> Callable[[Tensor, float], Tensor]:
    """What the solver wants, for this data."""
    assert isinstance(solver.process, NoiseProcess)
    make = gaussian_velocity if solver.process.kind == "flow" else gaussian_denoiser
    return make(solver.process)


def bent_denoiser(x: Tensor, t: float) -> Tensor:
    """Some smooth, nonlinear function of x and t."""
    return torch.tanh(x * (0.5 + t / 1000)) + 0.1 * math.sin(t / 100)


def make_noise(n: int = 4, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 1, 4, 4, generator=generator, dtype=torch.float64).to(dtype)


class Tape:
    """Step noise that is the same each time it is played; knows how often it was asked."""

    def __init__(self, like: Tensor) -> None:
        self._like, self._generator, self.calls = like, torch.Generator().manual_seed(1), 0

    def __call__(self) -> Tensor:
        self.calls += 1
        shape = self._like.shape
        return torch.randn(shape, generator=self._generator, dtype=torch.float64).to(self._like)


def flow_error(solver: Solver, end_time: float | None) -> float:
    """Largest distance from the exact solution of the probability-flow ODE.

    The flow keeps the whitened x. ``end_time`` None is the data itself.
    """
    noise = make_noise()
    alpha, sigma = scales_at(solver.process, solver.times[0])
    whitened = (noise - alpha * MEAN) / math.hypot(alpha * STD, sigma)
    alpha, sigma = (1.0, 0.0) if end_time is None else scales_at(solver.process, end_time)
    exact = alpha * MEAN + math.hypot(alpha * STD, sigma) * whitened
    samples = solver.sample(best_denoiser(solver), noise)
    return float((samples - exact).abs().max())


def observed_order(steps: Sequence[int], errors: Sequence[float]) -> float:
    """Slope of the error over the number of steps, in logarithms."""
    return -float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


def moments(solver: Solver) -> tuple[float, float]:
    """Mean and standard deviation of the samples, exactly and not by drawing.

    A sample is affine in the start and in each step's noise. Row 0 gets no noise at all, and
    row k a 1 as the k-th noise and no other, so its difference to row 0 is a factor.
    """
    rows = torch.zeros(solver.num_steps + 1, 1, 1, 1, dtype=torch.float64)
    drawn = 1

    def step_noise() -> Tensor:
        nonlocal drawn
        drawn += 1
        noise = torch.zeros_like(rows)
        noise[drawn] = 1.0
        return noise

    start = torch.zeros_like(rows)
    start[1] = 1.0
    out = solver.sample(best_denoiser(solver), start, step_noise).flatten()
    return float(out[0]), float((out[1:] - out[0]).square().sum().sqrt())
