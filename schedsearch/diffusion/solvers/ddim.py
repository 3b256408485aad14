"""DDIM without noise (Song et al. 2021, Eq. 12 with eta = 0)."""

from __future__ import annotations

from schedsearch.diffusion.solvers.dpm_solver import DPMSolver
from schedsearch.diffusion.solvers.times import Spacing, ddim_times


class DDIM(DPMSolver):
    """Deterministic DDIM, which is DPM-Solver++ of order 1 (Lu et al. 2022, Sec. 4).

    An update goes to the *next timestep of the list* and the last one to alpha_bar = 1, as in
    DiT's sampler. diffusers' ``DDIMScheduler`` goes to ``t - 1000 // N`` instead, which is
    another update with ``linspace`` spacing; hence not that class.
    """

    order = 1

    @staticmethod
    def _lay_out(spacing: Spacing, num_steps: int, num_timesteps: int) -> tuple[int, ...]:
        return ddim_times(spacing, num_steps, num_timesteps)
