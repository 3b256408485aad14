"""Ancestral sampling (Ho et al. 2020, Algorithm 2), respaced as in DiT's code."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from schedsearch.diffusion.process import NoiseProcess
from schedsearch.diffusion.solvers.base import FixedTimesSolver, required
from schedsearch.protocols import Denoiser, StepNoise

StepVariance = Literal["learned", "fixed_small", "fixed_large"]


@dataclass(frozen=True, slots=True)
class _Step:
    """One update: ``x * of_x + eps * of_eps``, and its two log variances."""

    of_x: float
    of_eps: float
    log_small: float
    """Log of the posterior variance (DDPM, Eq. 7); -inf and unused in the last step."""
    log_large: float
    """Log of beta."""


class DDPM(FixedTimesSolver):
    """DDPM on any list of timesteps.

    An update goes to the *next timestep of the list*, the last one to alpha_bar = 1. For each
    update ``beta = 1 - alpha_bar_t / alpha_bar_next`` (Improved DDPM, Sec. 4). The last step adds
    no noise. diffusers' ``DDPMScheduler`` computes the same numbers, but draws noise from one
    generator per batch, so images would depend on the batch size.

    Args:
        process: Forward process.
        times: Timesteps, from noise to data.
        variance: ``fixed_small`` is the posterior variance, ``fixed_large`` is beta (DDPM,
            Sec. 3.2). ``learned`` interpolates their logarithms by the network's output in
            [-1, 1] (Improved DDPM, Eq. 15).
    """

    def __init__(
        self, process: NoiseProcess, times: Sequence[float], variance: StepVariance
    ) -> None:
        super().__init__(process, times)
        self.wants_variance = variance == "learned"
        self._variance = variance
        log_bars = process.log_alpha_bars(torch.tensor(self.times, dtype=torch.float64)).tolist()
        self._steps = [
            _step(now, after) for now, after in zip(log_bars, [*log_bars[1:], 0.0], strict=True)
        ]

    @torch.no_grad()
    def trajectory(
        self, denoiser: Denoiser, noise: Tensor, step_noise: StepNoise | None = None
    ) -> Iterator[Tensor]:
        """Sample step by step; see :meth:`FixedTimesSolver.trajectory`.

        Args:
            denoiser: Predicts the noise and, if :attr:`wants_variance`, the variance.
            noise: Standard normal starting noise, (N, C, H, W).
            step_noise: Noise of all steps but the last.

        Raises:
            ValueError: If ``step_noise`` is None, or the learned variance is missing.
        """
        draw = required(step_noise, "ddpm")
        channels = noise.shape[1]
        x = noise
        for index, (t, step) in enumerate(zip(self.times, self._steps, strict=True), start=1):
            output = denoiser(x, t)
            x = step.of_x * x + step.of_eps * output[:, :channels]
            if index < self.num_steps:
                x = x + self._std(step, output[:, channels:], channels) * draw()
            yield x

    def _std(self, step: _Step, raw: Tensor, channels: int) -> Tensor | float:
        if self._variance == "fixed_small":
            return math.exp(0.5 * step.log_small)
        if self._variance == "fixed_large":
            return math.exp(0.5 * step.log_large)
        if raw.shape[1] != channels:
            raise ValueError(
                f"A learned variance needs {channels} channels behind the noise, but the network "
                f"has {raw.shape[1]} there; set solver.variance to fixed_small."
            )
        share = (raw + 1) / 2
        return torch.exp(0.5 * (share * step.log_large + (1 - share) * step.log_small))


def _step(log_bar: float, log_bar_next: float) -> _Step:
    """Compute the update from one alpha_bar to the next.

    In terms of eps the posterior mean is ``(x - beta / sigma eps) / sqrt(1 - beta)`` (DDPM,
    Eq. 11).
    """
    beta = -math.expm1(log_bar - log_bar_next)
    noise, noise_next = -math.expm1(log_bar), -math.expm1(log_bar_next)
    scale = math.exp(0.5 * (log_bar_next - log_bar))
    small = beta * noise_next / noise
    return _Step(
        of_x=scale,
        of_eps=-scale * beta / math.sqrt(noise),
        log_small=math.log(small) if small > 0 else -math.inf,
        log_large=math.log(beta),
    )
