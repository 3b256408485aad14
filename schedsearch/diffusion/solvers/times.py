"""Which times a solver visits.

Lists run from the noise to the data. Those of a process with timesteps hold whole timesteps
on the model's clock 0..T-1; those of the continuous process are times on the clock [0, 1000].
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from schedsearch.diffusion.process import NoiseProcess
from schedsearch.schedules.exit_schedule import CLOCK_END

Spacing = Literal["linspace", "leading", "trailing"]

LOWEST_HALF_LOG_SNR = -5.1
"""Where grids in logSNR start at the latest: below it the last cosine betas would take up half
of the grid for pure noise (DPM-Solver's code). The linear schedules end at -5.06 and -5.03."""


def ddim_times(spacing: Spacing, num_steps: int, num_timesteps: int = 1000) -> tuple[int, ...]:
    """Timesteps of DDIM and DDPM.

    ``linspace`` is DiT's respacing, ``round(linspace(0, T - 1, N))``; ``leading`` and
    ``trailing`` are those of diffusers (Lin et al. 2024, Table 2).

    Args:
        spacing: Rule of the list.
        num_steps: Number N of timesteps; with ``linspace`` and N = 1 the noise end is taken.
        num_timesteps: Number T of timesteps of the process.
    """
    if spacing == "leading":
        return _descending(np.arange(num_steps) * (num_timesteps // num_steps))
    if spacing == "trailing":
        ends = num_timesteps - np.arange(num_steps) * (num_timesteps / num_steps)
        return _descending(ends.round()[::-1] - 1)
    if num_steps == 1:
        return (num_timesteps - 1,)
    return _descending(np.linspace(0, num_timesteps - 1, num_steps).round())


def dpm_solver_times(
    spacing: Spacing, num_steps: int, num_timesteps: int = 1000
) -> tuple[int, ...]:
    """Timesteps of multistep DPM-Solver, as diffusers lays them out.

    ``linspace`` and ``leading`` cut the clock at N + 1 points of which the last, timestep 0, is
    not evaluated: the final step goes from the last timestep of the list to the data.
    """
    if spacing == "leading":
        stride = num_timesteps // (num_steps + 1)
        return _descending(np.arange(1, num_steps + 1) * stride)
    if spacing == "trailing":
        return ddim_times("trailing", num_steps, num_timesteps)
    return _descending(np.linspace(0, num_timesteps - 1, num_steps + 1).round()[1:])


def log_snr_times(process: NoiseProcess, num_updates: int, end_time: float) -> tuple[float, ...]:
    """Times uniform in logSNR, ``num_updates`` + 1 with both ends (DPM-Solver, Sec. 3.3).

    Args:
        process: Says what the logSNR of a time is.
        num_updates: Number of equal steps in logSNR.
        end_time: Last time, next to the data.
    """
    start_time = process.start_time
    if process.half_log_snr(start_time) < LOWEST_HALF_LOG_SNR:
        start_time = process.time_at_half_log_snr(LOWEST_HALF_LOG_SNR)
    grid = np.linspace(
        process.half_log_snr(start_time), process.half_log_snr(end_time), num_updates + 1
    )
    # The ends are kept exactly; inverting them would cost a rounding.
    inner = (process.time_at_half_log_snr(float(value)) for value in grid[1:-1])
    return (start_time, *inner, end_time)


def euler_maruyama_times(num_steps: int, end_time: float) -> tuple[float, ...]:
    """Equal steps from 1000 down to ``end_time``, both evaluated (U-ViT's code).

    With one step the noise end is taken.
    """
    if num_steps == 1:
        return (CLOCK_END,)
    return tuple(float(t) for t in np.linspace(CLOCK_END, end_time, num_steps))


def _descending(ascending: np.ndarray) -> tuple[int, ...]:
    return tuple(int(t) for t in ascending[::-1])
