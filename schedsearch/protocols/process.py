"""The forward process from data to noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from schedsearch.settings import Prediction, Process


class NoiseProcess(Protocol):
    """The forward process and the network's prediction target, on the clock [0, 1000]."""

    prediction: Prediction
    kind: Process

    def draw_times(self, num: int, generator: torch.Generator) -> Tensor:
        """Draw training times, (num,), on the CPU."""
        ...

    def network_time(self, t: Tensor) -> Tensor:
        """Convert clock times ``t``, (N,), to the network's time input."""
        ...

    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return (alpha, sigma) of ``x_t = alpha x_0 + sigma eps``, float64, shaped like ``t``."""
        ...

    def alpha_bar(self, t: float) -> float:
        """Return the data's share of the variance at time ``t``."""
        ...

    def q_sample(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Add noise to data, (N, C, H, W), at times ``t``, (N,)."""
        ...

    def target(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """Return the prediction target, (N, C, H, W)."""
        ...

    def loss_weights(self, t: Tensor) -> Tensor | None:
        """Weights of the squared prediction error in training, (N,); None is 1 everywhere."""
        ...

    def eps_from(self, output: Tensor, x: Tensor, t: float) -> Tensor:
        """Convert a prediction to noise, at one time for the whole batch."""
        ...

    def velocity_from(self, output: Tensor, x: Tensor, t: float) -> Tensor:
        """Convert a prediction to the velocity ``noise - data``; flow matching only."""
        ...
