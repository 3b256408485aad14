"""Singlestep DPM-Solver and DPM-Solver++ (Lu et al. 2022), as in U-ViT's code."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from schedsearch.diffusion.process import NoiseProcess
from schedsearch.diffusion.solvers.base import FixedTimesSolver
from schedsearch.diffusion.solvers.dpm_solver import Algorithm
from schedsearch.diffusion.solvers.exponential import Point, phi_1, phi_2, points_at
from schedsearch.diffusion.solvers.times import log_snr_times
from schedsearch.protocols import Denoiser, StepNoise

NODES: dict[int, tuple[float, ...]] = {1: (), 2: (1 / 2,), 3: (1 / 3, 2 / 3)}
"""Intermediate points of an update by order, as fractions of its step in logSNR.

From DPM-Solver, Algorithms 1 and 2.
"""


@dataclass(frozen=True, slots=True)
class _Stage:
    """One network call and the state that it leads to.

    That state is ``of_start x + of_first m + of_change (m' - m)``. Here x and m are state and
    prediction at the start of the update, and m' is the newest prediction.
    """

    time: float
    alpha: float
    sigma: float
    opens: bool
    """Whether an update starts here."""
    of_start: float
    of_first: float
    of_change: float


class SinglestepDPMSolver(FixedTimesSolver):
    """DPM-Solver with independent updates and extra network calls inside each.

    Updates are equal steps in logSNR, and their orders sum to N ("DPM-Solver-fast", App. D).
    ``times`` includes the points inside the updates, which may be fractional. The samples are x
    at ``end_time``; the noise left there (std 0.003 to 0.01) is not removed. diffusers'
    ``DPMSolverSinglestepScheduler`` rounds the inner points to whole timesteps and so loses
    third order. So we do not use that class.

    Args:
        process: Forward process.
        num_steps: Number N of network calls.
        order: Largest order of an update: 1, 2 or 3.
        algorithm: ``dpmsolver`` integrates the noise prediction (as in U-ViT's code),
            ``dpmsolver++`` the data prediction.
        end_time: Clock time of the samples.
    """

    def __init__(
        self,
        process: NoiseProcess,
        num_steps: int,
        *,
        order: int = 3,
        algorithm: Algorithm = "dpmsolver",
        end_time: float,
    ) -> None:
        orders = orders_of_updates(num_steps, order)
        grid = points_at(process, log_snr_times(process, len(orders), end_time))
        self._in_data = algorithm == "dpmsolver++"
        self._stages = [
            stage
            for update_order, (start, end) in zip(orders, itertools.pairwise(grid), strict=True)
            for stage in _update(start, end, update_order, process, in_data=self._in_data)
        ]
        super().__init__(process, (stage.time for stage in self._stages))

    @torch.no_grad()
    def trajectory(
        self, denoiser: Denoiser, noise: Tensor, step_noise: StepNoise | None = None
    ) -> Iterator[Tensor]:
        """Sample step by step; see :meth:`FixedTimesSolver.trajectory`.

        Args:
            denoiser: Predicts the noise.
            noise: Standard normal starting noise, (N, C, H, W).
            step_noise: Not used.
        """
        x = start = first = noise
        for stage in self._stages:
            prediction = denoiser(x, stage.time)
            if self._in_data:
                prediction = (x - stage.sigma * prediction) / stage.alpha
            if stage.opens:
                start, first = x, prediction
            x = stage.of_start * start + stage.of_first * first
            if not stage.opens:
                x = x + stage.of_change * (prediction - first)
            yield x


def orders_of_updates(num_steps: int, order: int) -> tuple[int, ...]:
    """Return the orders of the updates, which sum to ``num_steps`` (DPM-Solver, App. D).

    The last update has a lower order if the sum requires it. With order 3 it always has, as in
    U-ViT's code.
    """
    full, rest = divmod(num_steps, order)
    if order == 3 and rest == 0:
        return (*(3,) * (full - 1), 2, 1)
    return (*(order,) * full, *((rest,) if rest else ()))


def _update(
    start: Point, end: Point, order: int, process: NoiseProcess, *, in_data: bool
) -> Iterator[_Stage]:
    """Compute the stages of one update (DPM-Solver, Algorithms 1 and 2)."""
    nodes = (0.0, *NODES[order], 1.0)
    h = end.half_log_snr - start.half_log_snr
    between = (start.half_log_snr + r * h for r in NODES[order])
    points = [start, *(Point(process.time_at_half_log_snr(v), v) for v in between), end]
    kept_start, _ = start.scales(in_data=in_data)
    for index, (here, reached) in enumerate(itertools.pairwise(points)):
        kept, other = reached.scales(in_data=in_data)
        r, z = nodes[index + 1], nodes[index + 1] * (-h if in_data else h)
        # NOTE: The slope goes from the start to the point of the newest prediction.
        of_slope = 0.5 * phi_1(z) if order == 2 else phi_2(z)
        yield _Stage(
            time=here.time,
            alpha=here.alpha,
            sigma=here.sigma,
            opens=index == 0,
            of_start=kept / kept_start,
            of_first=-other * phi_1(z),
            of_change=-other * of_slope * r / nodes[index] if index else 0.0,
        )
