"""What all solvers share: a process and a list of times that is known before sampling."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

from torch import Tensor

from schedsearch.diffusion.process import NoiseProcess
from schedsearch.protocols import Denoiser, StepNoise


class FixedTimesSolver(ABC):
    """Solver that calls the denoiser once at each of its times.

    The times are on the clock of exit schedules and never indices of a respaced list, so that
    a schedule means the same for every solver. Nothing is clipped.

    Args:
        process: Forward process whose reverse is integrated.
        times: Times of the calls, noise -> data.
    """

    wants_variance: bool = False

    def __init__(self, process: NoiseProcess, times: Iterable[float]) -> None:
        self.process = process
        self.times = tuple(float(t) for t in times)
        self.num_steps = len(self.times)

    @abstractmethod
    def trajectory(
        self, denoiser: Denoiser, noise: Tensor, step_noise: StepNoise | None = None
    ) -> Iterator[Tensor]:
        """Integrate from pure noise to data, one network call at a time.

        Args:
            denoiser: Predicts the noise at one time for the whole batch.
            noise: Standard normal start, (N, C, H, W).
            step_noise: Noise of the steps; a deterministic solver needs none.

        Yields:
            What each call leads to, (N, C, H, W); the last are the samples.

        Raises:
            ValueError: At the first step, if a stochastic solver gets no ``step_noise``.
        """

    def sample(
        self, denoiser: Denoiser, noise: Tensor, step_noise: StepNoise | None = None
    ) -> Tensor:
        """Integrate from pure noise to data.

        Args:
            denoiser: Predicts the noise at one time for the whole batch.
            noise: Standard normal start, (N, C, H, W).
            step_noise: Noise of the steps; a deterministic solver needs none.

        Returns:
            Samples, (N, C, H, W), in the dtype of ``noise``.

        Raises:
            ValueError: If a stochastic solver gets no ``step_noise``.
        """
        x = noise
        for x in self.trajectory(denoiser, noise, step_noise):  # noqa: B007
            pass
        return x


def required(step_noise: StepNoise | None, solver: str) -> StepNoise:
    """The noise source of a stochastic solver.

    Args:
        step_noise: What the caller passed.
        solver: Name for the message.

    Raises:
        ValueError: If there is none.
    """
    if step_noise is None:
        raise ValueError(f"{solver} adds noise in its steps, but got no step_noise; pass one.")
    return step_noise
