"""Base class of the solvers: a process, and times known before sampling."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator

from torch import Tensor

from schedsearch.diffusion.process import NoiseProcess
from schedsearch.protocols import Denoiser, StepNoise, Wants


class FixedTimesSolver(ABC):
    """Solver that calls the denoiser once at each of its times.

    Times are on the clock of exit schedules, never indices of a respaced list. So a schedule
    means the same for every solver. Nothing is clipped.

    Args:
        process: Forward process to reverse.
        times: Clock times of the calls, from noise to data.
    """

    wants: Wants = "eps"
    """What the denoiser returns: the noise, or the velocity of flow matching."""
    wants_variance: bool = False
    calls_per_step: int = 1
    """Calls between two states of full accuracy."""
    cfg_interval: tuple[float, float] | None = None
    """Clock times between which guidance is on; None is always."""

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
            denoiser: Predicts what :attr:`wants` says, at one time for the whole batch.
            noise: Standard normal starting noise, (N, C, H, W).
            step_noise: Noise of the steps; deterministic solvers ignore it.

        Yields:
            The state after each call, (N, C, H, W). The last state is the samples.

        Raises:
            ValueError: At the first step, if a stochastic solver gets no ``step_noise``.
        """

    def sample(
        self, denoiser: Denoiser, noise: Tensor, step_noise: StepNoise | None = None
    ) -> Tensor:
        """Integrate from pure noise to data.

        Args:
            denoiser: Predicts what :attr:`wants` says, at one time for the whole batch.
            noise: Standard normal starting noise, (N, C, H, W).
            step_noise: Noise of the steps; deterministic solvers ignore it.

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
    """Return the noise source, which a stochastic solver needs.

    Args:
        step_noise: Noise source from the caller.
        solver: Name for the error message.

    Raises:
        ValueError: If ``step_noise`` is None.
    """
    if step_noise is None:
        raise ValueError(f"{solver} adds noise in its steps, but got no step_noise; pass one.")
    return step_noise
