"""Flow matching: the straight path from data to noise (SiT, Sec. 3.1; SD3, Sec. 2).

The clock is 1000 sigma: 0 is data, 1000 is pure noise, whatever a network is fed.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from schedsearch.diffusion.process import NoiseProcess
from schedsearch.schedules.exit_schedule import CLOCK_END
from schedsearch.settings import NetworkTime, Prediction, Process

END_MARGIN = 1.0
"""Clock distance to the end where a prediction says nothing about the velocity (SiT's code)."""

LEAST_SCALE = 0.05
"""Smallest divisor of the velocity loss of x0 and eps (JiT; Li and He 2025, Sec. 4)."""


class FlowProcess(NoiseProcess):
    """Linear path ``x = (1 - sigma) x_0 + sigma eps`` with sigma = t / 1000.

    The velocity is its derivative by sigma, ``eps - x_0``.

    Args:
        time: What the network is fed: ``sigma``, ``sigma1000`` for 1000 sigma, or ``sit`` for
            1 - sigma. With ``sit`` a predicted velocity is ``x_0 - eps``.
        prediction: ``velocity``, ``x0`` or ``eps``.
        times: Law of training times: ``uniform``, or ``logit_normal`` with mean 0 and standard
            deviation 1 (SD3, Sec. 3.1).
        shift: Moves training times towards the noise; see :func:`shifted`.
    """

    kind: Process = "flow"

    def __init__(
        self,
        time: NetworkTime,
        prediction: Prediction = "velocity",
        times: Literal["uniform", "logit_normal"] = "uniform",
        shift: float = 1.0,
    ) -> None:
        super().__init__(prediction)
        self.time, self.times, self.shift = time, times, shift
        self._sign = -1.0 if time == "sit" else 1.0
        self.start_time = CLOCK_END - END_MARGIN if prediction == "eps" else CLOCK_END
        self.end_time = END_MARGIN if prediction == "x0" else 0.0
        """Clock time where training ends, next to the data."""

    def draw_times(self, num: int, generator: torch.Generator) -> Tensor:
        """Draw training times, (num,) float32, on the CPU."""
        if self.times == "uniform":
            sigma = torch.rand(num, generator=generator)
        else:
            sigma = torch.sigmoid(torch.randn(num, generator=generator))
        clock = CLOCK_END * shifted(sigma, self.shift)
        return clock.clamp(self.end_time, self.start_time)

    def network_time(self, t: Tensor) -> Tensor:
        """Convert clock times ``t``, (N,), to the network's time input, float."""
        clock = t if t.is_floating_point() else t.float()
        if self.time == "sigma1000":
            return clock
        # NOTE: In float64, so that 1 - sigma keeps its digits next to the noise.
        sigma = clock.double() / CLOCK_END
        return (1.0 - sigma if self.time == "sit" else sigma).to(clock.dtype)

    def log_alpha_bars(self, t: Tensor) -> Tensor:
        """Return ``log (alpha^2 / (alpha^2 + sigma^2))``, float64; -inf at pure noise."""
        alpha, sigma = self.scales(t)
        return torch.log(alpha**2 / (alpha**2 + sigma**2))

    def time_at(self, log_alpha_bar: float) -> float:
        """Return the time with this data's share; inverts :meth:`log_alpha_bars`."""
        share = math.exp(log_alpha_bar)
        noise = math.sqrt(-math.expm1(log_alpha_bar))
        return CLOCK_END * noise / (math.sqrt(share) + noise)

    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (alpha, sigma) = (1 - sigma, sigma), float64 on the device of ``t``."""
        sigma = t.double() / CLOCK_END
        return 1.0 - sigma, sigma

    def target(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return the prediction target, (N, C, H, W); arguments as in ``q_sample``."""
        if self.prediction == "velocity":
            return self._sign * (noise - x0)
        return super().target(x0, t, noise)

    def loss_weights(self, t: Tensor) -> Tensor | None:
        """Turn squared errors of x0 or eps into those of the velocity, (N,) float32.

        An error of x0 counts 1 / sigma^2, one of eps 1 / (1 - sigma)^2; the divisors are at
        least 0.05.
        """
        if self.prediction == "velocity":
            return None
        alpha, sigma = self.scales(t)
        divisor = sigma if self.prediction == "x0" else alpha
        return divisor.clamp(min=LEAST_SCALE).pow(-2).float()

    def velocity_from(self, output: Tensor, x: Tensor, t: float) -> Tensor:
        """Convert a prediction to the velocity ``eps - x_0``.

        Args:
            output: Prediction of the network, (N, C, H, W).
            x: Noisy inputs, (N, C, H, W).
            t: Clock time of the whole batch.

        Raises:
            ValueError: If x0 is predicted at the data, or the noise at pure noise.
        """
        sigma = t / CLOCK_END
        if self.prediction == "velocity":
            return output if self._sign > 0 else -output
        divisor = sigma if self.prediction == "x0" else 1.0 - sigma
        if divisor <= 0.0:
            raise ValueError(f"A prediction of {self.prediction} has no velocity at t={t}.")
        return (x - output) / divisor if self.prediction == "x0" else (output - x) / divisor

    def eps_from(self, output: Tensor, x: Tensor, t: float) -> Tensor:
        """Convert a prediction to noise; arguments as in :meth:`velocity_from`.

        Raises:
            ValueError: If the network predicts x0 and the inputs at ``t`` hold no noise.
        """
        if self.prediction == "eps":
            return output
        return x + (1.0 - t / CLOCK_END) * self.velocity_from(output, x, t)


def shifted(sigma: Tensor, shift: float) -> Tensor:
    """Move noise levels in [0, 1] towards the noise, ``s sigma / (1 + (s - 1) sigma)``.

    From SD3 (Esser et al. 2024, Eq. 23); 1 leaves them as they are.
    """
    return sigma if shift == 1 else shift * sigma / (1.0 + (shift - 1.0) * sigma)
