"""DDIM (Song et al. 2021), deterministic or with a share of DDPM's noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from schedsearch.diffusion.process import NoiseProcess
from schedsearch.diffusion.solvers.base import FixedTimesSolver, required
from schedsearch.protocols import Denoiser, StepNoise


class DDIM(FixedTimesSolver):
    """DDIM on any list of timesteps.

    An update (Eq. 12) goes to the *next timestep of the list*, the last one to alpha_bar = 1, as
    in DiT's code. diffusers' ``DDIMScheduler`` goes to ``t - 1000 // N`` instead, which differs
    with ``linspace`` spacing. So we do not use that class.

    Args:
        process: Forward process.
        times: Timesteps, from noise to data.
        eta: Share of DDPM's noise (Eq. 16): 0 is deterministic, 1 is DDPM with ``fixed_small``
            variance. The last step adds no noise, because Eq. 16 is 0 there.
    """

    def __init__(self, process: NoiseProcess, times: Sequence[float], eta: float = 0.0) -> None:
        super().__init__(process, times)
        self._eta = eta
        log_bars = process.log_alpha_bars(torch.tensor(self.times, dtype=torch.float64)).tolist()
        self._steps = [
            _coefficients(now, after, eta)
            for now, after in zip(log_bars, [*log_bars[1:], 0.0], strict=True)
        ]

    @torch.no_grad()
    def trajectory(
        self, denoiser: Denoiser, noise: Tensor, step_noise: StepNoise | None = None
    ) -> Iterator[Tensor]:
        """Sample step by step; see :meth:`FixedTimesSolver.trajectory`.

        Args:
            denoiser: Predicts the noise.
            noise: Standard normal starting noise, (N, C, H, W).
            step_noise: Noise of all steps but the last; not used if ``eta`` is 0.

        Raises:
            ValueError: If ``eta`` > 0 and ``step_noise`` is None.
        """
        draw = required(step_noise, f"ddim with eta={self._eta:g}") if self._eta else None
        x = noise
        for t, (of_x, of_eps, std) in zip(self.times, self._steps, strict=True):
            x = of_x * x + of_eps * denoiser(x, t)
            if draw is not None and std > 0:
                x = x + std * draw()
            yield x


def _coefficients(log_bar: float, log_bar_next: float, eta: float) -> tuple[float, float, float]:
    """Return the factors of x, eps and new noise in Eq. 12."""
    noise, noise_next = -math.expm1(log_bar), -math.expm1(log_bar_next)
    beta = -math.expm1(log_bar - log_bar_next)
    variance = eta**2 * noise_next / noise * beta
    scale = math.exp(0.5 * (log_bar_next - log_bar))
    # NOTE: With eta = 1, rounding can make the difference slightly negative.
    direction = math.sqrt(max(noise_next - variance, 0.0))
    return scale, direction - scale * math.sqrt(noise), math.sqrt(variance)
