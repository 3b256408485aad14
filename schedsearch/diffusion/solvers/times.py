"""Times at which a solver calls the network, from noise to data.

For a discrete process they are whole timesteps 0..T-1, for the continuous process clock times
in [0, 1000].
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from schedsearch.diffusion.process import NoiseProcess
from schedsearch.schedules.exit_schedule import CLOCK_END

Spacing = Literal["linspace", "leading", "trailing"]

LOWEST_HALF_LOG_SNR = -5.1
"""Lowest start of a grid in half logSNR (DPM-Solver's code).

Below it, the last cosine betas would spend half of the grid on pure noise. The linear schedules
end at -5.06 and -5.03.
"""


def ddim_times(spacing: Spacing, num_steps: int, num_timesteps: int = 1000) -> tuple[int, ...]:
    """Return the timesteps of DDIM and DDPM.

    ``linspace`` is DiT's respacing, ``round(linspace(0, T - 1, N))``. ``leading`` and
    ``trailing`` are the rules of diffusers (Lin et al. 2024, Table 2).

    Args:
        spacing: Spacing rule.
        num_steps: Number N of timesteps. ``linspace`` with N = 1 gives the timestep T - 1.
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
    """Return the timesteps of multistep DPM-Solver, spaced as in diffusers.

    ``linspace`` and ``leading`` place N + 1 points and drop the last one, timestep 0. The final
    step goes from the last timestep of the list to the data.
    """
    if spacing == "leading":
        stride = num_timesteps // (num_steps + 1)
        return _descending(np.arange(1, num_steps + 1) * stride)
    if spacing == "trailing":
        return ddim_times("trailing", num_steps, num_timesteps)
    return _descending(np.linspace(0, num_timesteps - 1, num_steps + 1).round()[1:])


def log_snr_times(process: NoiseProcess, num_updates: int, end_time: float) -> tuple[float, ...]:
    """Return times uniform in logSNR (DPM-Solver, Sec. 3.3).

    Args:
        process: Converts between time and logSNR.
        num_updates: Number of equal steps in logSNR.
        end_time: Last time, next to the data.

    Returns:
        ``num_updates`` + 1 times, including both ends.
    """
    start_time = process.start_time
    if process.half_log_snr(start_time) < LOWEST_HALF_LOG_SNR:
        start_time = process.time_at_half_log_snr(LOWEST_HALF_LOG_SNR)
    grid = np.linspace(
        process.half_log_snr(start_time), process.half_log_snr(end_time), num_updates + 1
    )
    # NOTE: The ends are not inverted, so that they stay exact.
    inner = (process.time_at_half_log_snr(float(value)) for value in grid[1:-1])
    return (start_time, *inner, end_time)


def euler_maruyama_times(num_steps: int, end_time: float) -> tuple[float, ...]:
    """Return equally spaced times from 1000 to ``end_time``, both included (U-ViT's code).

    One step gives the time 1000.
    """
    if num_steps == 1:
        return (CLOCK_END,)
    return tuple(float(t) for t in np.linspace(CLOCK_END, end_time, num_steps))


def flow_times(num_steps: int, shift: float = 1.0) -> tuple[float, ...]:
    """Return the ``num_steps`` + 1 clock times of flow matching, from noise to data.

    Equal steps of sigma, moved by ``shift`` (SD3, Eq. 23).
    """
    sigmas = [(num_steps - k) / num_steps for k in range(num_steps + 1)]
    if shift == 1:  # NOTE: exact, so that 900 lies in the interval that starts there
        return tuple(CLOCK_END * (num_steps - k) / num_steps for k in range(num_steps + 1))
    return tuple(CLOCK_END * shift * s / (1.0 + (shift - 1.0) * s) for s in sigmas)


def flow_dpm_times(num_steps: int, shift: float = 1.0) -> tuple[float, ...]:
    """Return the clock times of DPM-Solver on flow matching, spaced as in diffusers.

    They start at 999, because its logSNR is infinite at 1000. The last step ends at the data.
    """
    last = CLOCK_END - 1.0
    sigmas = [last / CLOCK_END * (num_steps - k) / num_steps for k in range(num_steps)]
    return tuple(CLOCK_END * shift * s / (1.0 + (shift - 1.0) * s) for s in sigmas)


def _descending(ascending: np.ndarray) -> tuple[int, ...]:
    return tuple(int(t) for t in ascending[::-1])
