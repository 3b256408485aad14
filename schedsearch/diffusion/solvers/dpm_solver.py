"""Multistep DPM-Solver and DPM-Solver++ of orders 1 and 2, with diffusers' scheduler."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from schedsearch.diffusion.flow import FlowProcess
from schedsearch.diffusion.process import NoiseProcess
from schedsearch.diffusion.solvers.base import FixedTimesSolver
from schedsearch.protocols import Denoiser, StepNoise
from schedsearch.schedules.exit_schedule import CLOCK_END

Algorithm = Literal["dpmsolver++", "dpmsolver"]


class MultistepDPMSolver(FixedTimesSolver):
    """DPM-Solver that reuses earlier predictions, with one network call per update.

    diffusers computes the updates (``midpoint``). With fewer than 15 steps the last update has
    order 1. The scheduler gets noise levels in float64 instead of timesteps: this serves the
    continuous process and flow matching too, and avoids its float32 table. For order 3 see
    ``dpm_third_order``.

    Args:
        process: Forward process.
        times: Clock times of the network calls, from noise to data.
        order: 1 (DDIM) or 2.
        algorithm: ``dpmsolver++`` integrates the data prediction (DPM-Solver++, Algorithm 2),
            ``dpmsolver`` the noise prediction (DPM-Solver, Sec. 3.2).
        end_time: Clock time of the samples. None means the data itself, which diffusers allows
            only for ``dpmsolver++``. Flow matching always ends there.
    """

    def __init__(
        self,
        process: NoiseProcess,
        times: Sequence[float],
        *,
        order: int = 2,
        algorithm: Algorithm = "dpmsolver++",
        end_time: float | None = None,
    ) -> None:
        super().__init__(process, times)
        self._order = order
        self._algorithm = algorithm
        self._on_flow = isinstance(process, FlowProcess)
        if self._on_flow:
            self.wants = "velocity"
            self._levels = torch.tensor([*self.times, 0.0], dtype=torch.float64) / CLOCK_END
            return
        visited = self.times if end_time is None else (*self.times, end_time)
        log_bars = process.log_alpha_bars(torch.tensor(visited, dtype=torch.float64))
        levels = torch.expm1(-log_bars).sqrt()  # sigma / alpha, called sigma in diffusers
        self._levels = levels if end_time is not None else torch.cat([levels, torch.zeros(1)])

    @torch.no_grad()
    def trajectory(
        self, denoiser: Denoiser, noise: Tensor, step_noise: StepNoise | None = None
    ) -> Iterator[Tensor]:
        """Sample step by step; see :meth:`FixedTimesSolver.trajectory`.

        Args:
            denoiser: Predicts the noise, or the velocity of flow matching.
            noise: Standard normal starting noise, (N, C, H, W).
            step_noise: Not used.
        """
        scheduler = self._new_scheduler()
        x = noise
        for t in self.times:
            x = scheduler.step(denoiser(x, t), t, x, return_dict=False)[0]
            yield x

    def _new_scheduler(self) -> Any:
        """Build a new scheduler, because a used one keeps earlier predictions."""
        from diffusers import DPMSolverMultistepScheduler

        with warnings.catch_warnings():
            # NOTE: It warns that a later release, which our bounds exclude, drops "dpmsolver".
            warnings.simplefilter("ignore", FutureWarning)
            scheduler = DPMSolverMultistepScheduler(
                solver_order=self._order,
                algorithm_type=self._algorithm,
                solver_type="midpoint",
                prediction_type="flow_prediction" if self._on_flow else "epsilon",
                use_flow_sigmas=self._on_flow,
                final_sigmas_type="zero" if self._levels[-1] == 0 else "sigma_min",
            )
        # NOTE: Replaces set_timesteps, which accepts whole timesteps only.
        scheduler.num_inference_steps = self.num_steps
        scheduler.timesteps = torch.tensor(self.times)
        scheduler.sigmas = self._levels
        scheduler.set_begin_index(0)  # NOTE: avoids a search, which would wait for the GPU
        return scheduler
