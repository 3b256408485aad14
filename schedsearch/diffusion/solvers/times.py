"""Which timesteps a solver visits.

Lists run from the noise to the data and hold timesteps on the model's clock 0..T-1.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

Spacing = Literal["linspace", "leading", "trailing"]


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
    """Timesteps of DPM-Solver, as diffusers lays them out.

    ``linspace`` and ``leading`` cut the clock at N + 1 points of which the last, timestep 0, is
    not evaluated: the final step goes from the last timestep of the list to the data.
    """
    if spacing == "leading":
        stride = num_timesteps // (num_steps + 1)
        return _descending(np.arange(1, num_steps + 1) * stride)
    if spacing == "trailing":
        return ddim_times("trailing", num_steps, num_timesteps)
    return _descending(np.linspace(0, num_timesteps - 1, num_steps + 1).round()[1:])


def _descending(ascending: np.ndarray) -> tuple[int, ...]:
    return tuple(int(t) for t in ascending[::-1])
