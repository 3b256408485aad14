"""The forward process and the prediction target of the network.

All times are on the clock [0, 1000] of exit schedules: 0 is data, 1000 is pure noise.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from schedsearch.schedules.exit_schedule import CLOCK_END
from schedsearch.settings import DiffusionSettings, Prediction, Process

NUM_TIMESTEPS = 1000
"""Number T of timesteps of the discrete process (DDPM, Sec. 4)."""

BETA_START, BETA_END = 1e-4, 0.02
"""Ends of the linear noise schedule (DDPM, Sec. 4)."""

BETA_MIN, BETA_MAX = 0.1, 20.0
"""Ends of the continuous linear noise schedule (Song et al. 2021, App. C)."""

COSINE_OFFSET = 0.008
"""Keeps beta from vanishing at the data (Improved DDPM, Eq. 17)."""

MAX_COSINE_BETA = 0.999
"""Largest beta of the cosine schedule (Improved DDPM, Sec. 3.2)."""

U_VIT_TIME_SCALE = 999.0
"""Time input of a continuous model: 999 s for s in [0, 1] (U-ViT's code)."""


class NoiseProcess(ABC):
    """Forward process ``x_t = alpha_t x_0 + sigma_t eps``.

    Here ``alpha_t^2 + sigma_t^2 = 1``; ``FlowProcess`` has its own scales. All scales are
    computed in float64. In float32 they would lose digits at both ends of the clock, where
    alpha^2 or sigma is below 1e-4.

    Args:
        prediction: Prediction target: ``eps``, ``x0``, or ``v = alpha eps - sigma x0``
            (Salimans and Ho 2022, App. D).
    """

    kind: Process
    start_time: float
    """Clock time where sampling starts, the noisiest one."""

    def __init__(self, prediction: Prediction = "eps") -> None:
        self.prediction = prediction

    @abstractmethod
    def draw_times(self, num: int, generator: torch.Generator) -> Tensor:
        """Draw training times, (num,), uniformly on the CPU."""

    @abstractmethod
    def network_time(self, t: Tensor) -> Tensor:
        """Convert clock times ``t``, (N,), to the network's time input."""

    @abstractmethod
    def log_alpha_bars(self, t: Tensor) -> Tensor:
        """Return ``log alpha_t^2``, float64, at whole or fractional times of any shape."""

    @abstractmethod
    def time_at(self, log_alpha_bar: float) -> float:
        """Return the time with this ``log alpha_t^2``; inverts :meth:`log_alpha_bars`."""

    def loss_weights(self, t: Tensor) -> Tensor | None:
        """Weights of the squared prediction error in training, (N,); None is 1 everywhere."""
        return None

    def half_log_snr(self, t: float) -> float:
        """Return ``lambda_t = log(alpha_t / sigma_t)`` (DPM-Solver, Sec. 3.1)."""
        log_bar = float(self.log_alpha_bars(torch.tensor(t, dtype=torch.float64)))
        return 0.5 * (log_bar - math.log(-math.expm1(log_bar)))

    def time_at_half_log_snr(self, value: float) -> float:
        """Return the time where ``lambda_t`` is ``value``; inverts :meth:`half_log_snr`."""
        return self.time_at(-math.log1p(math.exp(-2.0 * value)))

    def alpha_bar(self, t: float) -> float:
        """Return the data's share of the variance at time ``t``."""
        return math.exp(float(self.log_alpha_bars(torch.tensor(t, dtype=torch.float64))))

    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (alpha, sigma) at times of any shape, float64 on the device of ``t``."""
        log_bar = self.log_alpha_bars(t)
        return torch.exp(0.5 * log_bar), torch.sqrt(-torch.expm1(log_bar))

    def q_sample(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Add noise to data.

        Args:
            x0: Data, (N, C, H, W).
            t: Clock times, (N,).
            noise: Standard normal noise, (N, C, H, W).

        Returns:
            Noisy inputs, (N, C, H, W), in the dtype of ``x0``.
        """
        alpha, sigma = self._scales_like(t, x0)
        return alpha * x0 + sigma * noise

    def target(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return the prediction target; arguments and shapes as in :meth:`q_sample`."""
        if self.prediction == "eps":
            return noise
        if self.prediction == "x0":
            return x0
        alpha, sigma = self._scales_like(t, x0)
        return alpha * noise - sigma * x0

    def eps_from(self, output: Tensor, x: Tensor, t: float) -> Tensor:
        """Convert a prediction to noise.

        Args:
            output: Prediction of the network, (N, C, H, W), without a variance half.
            x: Noisy inputs, (N, C, H, W).
            t: Clock time of the whole batch.

        Raises:
            ValueError: If the network predicts x0 and the inputs at ``t`` hold no noise.
        """
        if self.prediction == "eps":
            return output
        log_bar = float(self.log_alpha_bars(torch.tensor(t, dtype=torch.float64)))
        alpha, sigma = math.exp(0.5 * log_bar), math.sqrt(-math.expm1(log_bar))
        if self.prediction == "v":
            return alpha * output + sigma * x
        if sigma == 0.0:
            raise ValueError(f"A prediction of x0 says nothing about the noise at t={t}.")
        return (x - alpha * output) / sigma

    def velocity_from(self, output: Tensor, x: Tensor, t: float) -> Tensor:
        """Convert a prediction to the velocity of flow matching.

        Raises:
            ValueError: Always; only ``FlowProcess`` has this velocity.
        """
        raise ValueError(f"The process {self.kind} has no velocity; use a solver that wants eps.")

    def _scales_like(self, t: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        alpha, sigma = (
            scale.to(device=x.device, dtype=x.dtype).view(-1, 1, 1, 1) for scale in self.scales(t)
        )
        return alpha, sigma


class DDPMProcess(NoiseProcess):
    """Discrete process with T = 1000 timesteps (DDPM, Eq. 4); the clock counts timesteps.

    At fractional times log alpha_bar is interpolated linearly, as in DPM-Solver (Sec. 4.3).

    Args:
        betas: ``linear`` (DDPM, Sec. 4) or ``cosine`` (Improved DDPM, Eq. 17).
        prediction: Prediction target, as for :class:`NoiseProcess`.
    """

    kind: Process = "ddpm"
    num_timesteps = NUM_TIMESTEPS
    start_time = float(NUM_TIMESTEPS - 1)

    def __init__(self, betas: str = "linear", prediction: Prediction = "eps") -> None:
        super().__init__(prediction)
        self.betas = cosine_betas() if betas == "cosine" else linear_betas()
        self.alpha_bars = torch.cumprod(1.0 - self.betas, dim=0)
        # NOTE: One copy per device, so that a training step copies nothing to the device.
        self._log_bars = {torch.device("cpu"): torch.cumsum(torch.log1p(-self.betas), dim=0)}

    def draw_times(self, num: int, generator: torch.Generator) -> Tensor:
        """Draw timesteps, (num,) int64, uniformly from 0..T-1."""
        return torch.randint(self.num_timesteps, (num,), generator=generator)

    def network_time(self, t: Tensor) -> Tensor:
        """Return the timesteps unchanged."""
        return t

    def log_alpha_bars(self, t: Tensor) -> Tensor:
        """Return ``log alpha_bar`` at timesteps, interpolated between them."""
        table = self._log_bars.get(t.device)
        if table is None:
            table = self._log_bars[t.device] = self._log_bars[torch.device("cpu")].to(t.device)
        if not t.is_floating_point():
            return table[t]
        time = t.double()
        lower = time.floor().long().clamp(0, self.num_timesteps - 2)
        return torch.lerp(table[lower], table[lower + 1], time - lower)

    def time_at(self, log_alpha_bar: float) -> float:
        """Return a fractional timestep, clamped to 0..T-1."""
        falling = self._log_bars[torch.device("cpu")].numpy()
        return float(np.interp(-log_alpha_bar, -falling, np.arange(self.num_timesteps)))


class VPProcess(NoiseProcess):
    """Continuous variance-preserving SDE (Song et al. 2021, Eq. 33).

    beta(s) = 0.1 + 19.9 s for s in [0, 1]. The clock is 1000 s. The network's time input is
    999 s, as in U-ViT's training.
    """

    kind: Process = "vp"
    start_time = CLOCK_END

    def draw_times(self, num: int, generator: torch.Generator) -> Tensor:
        """Draw times, (num,) float32, uniformly on the clock."""
        return CLOCK_END * torch.rand(num, generator=generator)

    def network_time(self, t: Tensor) -> Tensor:
        """Convert clock times to 999 s."""
        return t * (U_VIT_TIME_SCALE / CLOCK_END)

    def log_alpha_bars(self, t: Tensor) -> Tensor:
        """Return minus the integral of beta from 0 to s."""
        s = t.double() / CLOCK_END
        return -(BETA_MIN * s + 0.5 * (BETA_MAX - BETA_MIN) * s**2)

    def time_at(self, log_alpha_bar: float) -> float:
        """Solve the quadratic equation of :meth:`log_alpha_bars` for the time."""
        # NOTE: This form of the root avoids cancellation near 0.
        twice = -2.0 * log_alpha_bar
        root = math.sqrt(BETA_MIN**2 + (BETA_MAX - BETA_MIN) * twice)
        return CLOCK_END * twice / (BETA_MIN + root)

    def beta(self, t: float) -> float:
        """Return the rate beta at a clock time, per unit of s."""
        return BETA_MIN + (BETA_MAX - BETA_MIN) * t / CLOCK_END


def linear_betas() -> Tensor:
    """Return the linear betas of DDPM, (1000,) float64."""
    return torch.linspace(BETA_START, BETA_END, NUM_TIMESTEPS, dtype=torch.float64)


def cosine_betas() -> Tensor:
    """Return the cosine betas of Improved DDPM, (1000,) float64."""
    time = torch.arange(NUM_TIMESTEPS + 1, dtype=torch.float64) / NUM_TIMESTEPS
    angle = (time + COSINE_OFFSET) / (1 + COSINE_OFFSET) * (math.pi / 2)
    bars = torch.cos(angle) ** 2
    return (1 - bars[1:] / bars[:-1]).clamp(max=MAX_COSINE_BETA)


def build_process(settings: DiffusionSettings) -> NoiseProcess:
    """Build the forward process of the section ``diffusion``."""
    from schedsearch.diffusion.flow import FlowProcess  # NOTE: it extends this module

    prediction = settings.prediction or "eps"
    if settings.process == "flow":
        assert settings.time is not None  # DiffusionSettings
        return FlowProcess(settings.time, prediction, settings.times, settings.shift)
    if settings.process == "vp":
        return VPProcess(prediction)
    return DDPMProcess(settings.betas or "linear", prediction)
