"""Multistep DPM-Solver and DPM-Solver++ of orders 1 and 2, on diffusers' scheduler."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from schedsearch.diffusion.process import NoiseProcess
from schedsearch.diffusion.solvers.base import FixedTimesSolver
from schedsearch.protocols import Denoiser, StepNoise

Algorithm = Literal["dpmsolver++", "dpmsolver"]


class MultistepDPMSolver(FixedTimesSolver):
    """DPM-Solver that reuses earlier predictions: one network call per update.

    diffusers does the arithmetic (``midpoint``; with fewer than 15 steps the last update is of
    order 1). It is handed noise levels in float64 instead of timesteps, so that it serves the
    continuous process too: its own table is float32, which costs three digits next to the
    data. Its order 3 is not one; see ``dpm_third_order``.

    Args:
        process: Forward process.
        times: Times of the network calls, noise -> data.
        order: 1 (which is DDIM) or 2.
        algorithm: ``dpmsolver++`` integrates in the data (DPM-Solver++, Algorithm 2),
            ``dpmsolver`` in the noise (DPM-Solver, Sec. 3.2).
        end_time: Where the last update goes, the time of the samples; None goes to the data
            itself, which diffusers allows for ``dpmsolver++`` only.
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
        visited = self.times if end_time is None else (*self.times, end_time)
        log_bars = process.log_alpha_bars(torch.tensor(visited, dtype=torch.float64))
        levels = torch.expm1(-log_bars).sqrt()  # sigma / alpha, what diffusers calls sigma
        self._levels = levels if end_time is not None else torch.cat([levels, torch.zeros(1)])

    @torch.no_grad()
    def trajectory(
        self, denoiser: Denoiser, noise: Tensor, step_noise: StepNoise | None = None
    ) -> Iterator[Tensor]:
        """Sample step by step; see :meth:`FixedTimesSolver.trajectory`.

        Args:
            denoiser: Predicts the noise.
            noise: Standard normal start, (N, C, H, W).
            step_noise: Not used.
        """
        scheduler = self._new_scheduler()
        x = noise
        for t in self.times:
            x = scheduler.step(denoiser(x, t), t, x, return_dict=False)[0]
            yield x

    def _new_scheduler(self) -> Any:
        """A scheduler at its first step; a used one remembers earlier predictions."""
        from diffusers import DPMSolverMultistepScheduler

        with warnings.catch_warnings():
            # It announces the end of "dpmsolver" in a release that our bounds exclude.
            warnings.simplefilter("ignore", FutureWarning)
            scheduler = DPMSolverMultistepScheduler(
                solver_order=self._order,
                algorithm_type=self._algorithm,
                solver_type="midpoint",
                final_sigmas_type="zero" if self._levels[-1] == 0 else "sigma_min",
            )
        # What its set_timesteps would set from whole timesteps.
        scheduler.num_inference_steps = self.num_steps
        scheduler.timesteps = torch.tensor(self.times)
        scheduler.sigmas = self._levels
        scheduler.set_begin_index(0)  # saves a search, and on a GPU a wait, at the first step
        return scheduler
