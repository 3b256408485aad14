"""DPM-Solver++ in its multistep form (Lu et al. 2022), on diffusers' scheduler."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from schedsearch.diffusion.process import DDPMProcess
from schedsearch.diffusion.solvers.times import Spacing, dpm_solver_times
from schedsearch.protocols import Denoiser, StepNoise


class DPMSolver:
    """DPM-Solver++ of order 2 ("2M", midpoint) with a final step to zero noise.

    Nothing is clipped. A list of timesteps, not a respaced index, is what the denoiser sees,
    so that an exit schedule means the same for every solver.

    Args:
        process: Forward process whose reverse is integrated.
        num_steps: Calls of the denoiser.
        spacing: Rule that lays out the timesteps.

    Raises:
        ValueError: If the clock has too few timesteps for ``num_steps`` different ones.
    """

    order = 2

    def __init__(
        self, process: DDPMProcess, num_steps: int, spacing: Spacing = "linspace"
    ) -> None:
        self.num_steps = num_steps
        self._process = process
        self._times = self._lay_out(spacing, num_steps, process.num_timesteps)
        if len(set(self._times)) < num_steps:
            raise ValueError(
                f"{num_steps} steps with {spacing} spacing visit a timestep twice, because the "
                f"clock has only {process.num_timesteps}; take fewer steps."
            )

    @staticmethod
    def _lay_out(spacing: Spacing, num_steps: int, num_timesteps: int) -> tuple[int, ...]:
        return dpm_solver_times(spacing, num_steps, num_timesteps)

    @property
    def times(self) -> tuple[float, ...]:
        """Timesteps where the denoiser is called, noise -> data."""
        return tuple(float(t) for t in self._times)

    @property
    def process(self) -> DDPMProcess:
        """The process whose reverse is integrated."""
        return self._process

    @property
    def wants_variance(self) -> bool:
        """No: the ODE has no variance."""
        return False

    @torch.no_grad()
    def sample(
        self, denoiser: Denoiser, noise: Tensor, step_noise: StepNoise | None = None
    ) -> Tensor:
        """Integrate from pure noise to data.

        Args:
            denoiser: Predicts the noise at one timestep for the whole batch.
            noise: Standard normal start, (N, C, H, W).
            step_noise: Not used.

        Returns:
            Samples, (N, C, H, W), in the dtype of ``noise``.
        """
        scheduler = self._new_scheduler()
        x = noise
        for t in self._times:
            prediction = denoiser(x, float(t))
            x = scheduler.step(prediction, t, x, return_dict=False)[0]
        return x

    def _new_scheduler(self) -> Any:
        """A scheduler at its first step; a used one remembers earlier predictions."""
        from diffusers import DPMSolverMultistepScheduler

        scheduler = DPMSolverMultistepScheduler(
            num_train_timesteps=self._process.num_timesteps,
            trained_betas=self._process.betas.tolist(),
            solver_order=self.order,
            algorithm_type="dpmsolver++",
            solver_type="midpoint",
            final_sigmas_type="zero",
        )
        # diffusers multiplies its table in float32, which costs three digits next to the data.
        scheduler.alphas_cumprod = self._process.alpha_bars.numpy()
        scheduler.set_timesteps(timesteps=list(self._times))
        scheduler.set_begin_index(0)  # saves a search, and on a GPU a wait, at the first step
        return scheduler
