"""The solver of the reverse process, and what it calls."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from schedsearch.protocols.process import NoiseProcess


Wants = Literal["eps", "velocity"]
"""What a solver wants from a denoiser: the noise, or the velocity ``noise - data``."""


class Denoiser(Protocol):
    """A network call with labels and guidance bound, as a solver calls it."""

    def __call__(self, x: Tensor, t: float) -> Tensor:
        """Predict for ``x``, (N, C, H, W), at one clock time for the whole batch.

        Returns:
            What ``Solver.wants`` names, (N, C, H, W), whatever the network predicts: the noise,
            or the velocity ``noise - data``. (N, 2C, H, W), noise then learned variance, if the
            solver wants it.
        """
        ...


class StepNoise(Protocol):
    """Fresh noise for the steps of a stochastic solver, the same for every schedule."""

    def __call__(self) -> Tensor:
        """Draw standard normal noise with the shape, dtype and device of the batch."""
        ...


class Solver(Protocol):
    """Integrates the reverse process from noise to data."""

    num_steps: int

    @property
    def process(self) -> NoiseProcess:
        """The forward process that the solver reverses."""
        ...

    @property
    def times(self) -> tuple[float, ...]:
        """Clock times in [0, 1000] of the denoiser calls, from noise to data."""
        ...

    calls_per_step: int
    """Calls of a step: 2 for Heun's method, else 1."""

    @property
    def wants(self) -> Wants:
        """What the denoiser should return."""
        ...

    @property
    def cfg_interval(self) -> tuple[float, float] | None:
        """Clock times, low and high, between which guidance is on; None is always."""
        ...

    @property
    def wants_variance(self) -> bool:
        """Whether the denoiser should return a learned variance too."""
        ...

    def trajectory(
        self, denoiser: Denoiser, noise: Tensor, step_noise: StepNoise | None = None
    ) -> Iterator[Tensor]:
        """Yield the state after each network call; the last one is the sample."""
        ...

    def sample(
        self, denoiser: Denoiser, noise: Tensor, step_noise: StepNoise | None = None
    ) -> Tensor:
        """Return samples for ``noise``, both (N, C, H, W).

        Args:
            denoiser: Predicts what ``wants`` names.
            noise: Standard normal starting noise.
            step_noise: Noise of the steps; deterministic solvers ignore it.

        Raises:
            ValueError: If a stochastic solver gets no ``step_noise``.
        """
        ...
