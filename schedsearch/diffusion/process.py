"""The forward process: how noise is added to data (DDPM, Sec. 2)."""

from __future__ import annotations

import torch
from torch import Tensor

from schedsearch.settings import DiffusionSettings

BETA_START, BETA_END = 1e-4, 0.02
"""Ends of the linear noise schedule (DDPM, Sec. 4)."""


class DDPMProcess:
    """Discrete variance-preserving process with a linear noise schedule.

    ``x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps`` for t in 0..T-1 (DDPM, Eq. 4).
    Tables are float64: alpha_bar falls to 4e-5, where float32 products lose digits.

    Args:
        num_timesteps: Number T of timesteps.
        beta_start: Variance added at timestep 0.
        beta_end: Variance added at timestep T - 1.
    """

    def __init__(
        self,
        num_timesteps: int = 1000,
        beta_start: float = BETA_START,
        beta_end: float = BETA_END,
    ) -> None:
        self.num_timesteps = num_timesteps
        self.betas = torch.linspace(beta_start, beta_end, num_timesteps, dtype=torch.float64)
        self.alpha_bars = torch.cumprod(1.0 - self.betas, dim=0)
        # Rows (signal, noise); one copy per device, so a training step uploads nothing.
        self._scales = {
            torch.device("cpu"): torch.stack([self.alpha_bars, 1.0 - self.alpha_bars]).sqrt()
        }

    def alpha_bar(self, t: int) -> float:
        """Share of the variance that is still data at timestep ``t``."""
        return float(self.alpha_bars[t])

    def q_sample(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Add noise to data.

        Args:
            x0: Data, (N, C, H, W).
            t: Timesteps, (N,) int64, each in 0..T-1.
            noise: Standard normal noise, (N, C, H, W).

        Returns:
            Noisy inputs, (N, C, H, W), in the dtype of ``x0``.
        """
        scales = self._scales.get(t.device)
        if scales is None:
            cpu_scales = self._scales[torch.device("cpu")]
            scales = self._scales[t.device] = cpu_scales.to(t.device)
        signal, spread = scales[:, t].to(device=x0.device, dtype=x0.dtype)
        noisy: Tensor = signal.view(-1, 1, 1, 1) * x0 + spread.view(-1, 1, 1, 1) * noise
        return noisy


def build_process(settings: DiffusionSettings) -> DDPMProcess:
    """The forward process that the section ``diffusion`` of a search space names."""
    del settings  # one noise schedule and one prediction exist so far; the file layer checks
    return DDPMProcess()
