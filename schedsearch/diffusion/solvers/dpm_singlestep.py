"""Singlestep DPM-Solver and DPM-Solver++ ("fast"; Lu et al. 2022), as U-ViT samples."""

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
"""Intermediate points of an update by its order, as shares of its step in logSNR (DPM-Solver,
Algorithms 1 and 2)."""


@dataclass(frozen=True, slots=True)
class _Stage:
    """One network call and the point that is reached with it.

    With x and m the state and the prediction where the update opened, and m' the newest
    prediction, the point is ``of_start x + of_first m + of_change (m' - m)``.
    """

    time: float
    alpha: float
    sigma: float
    opens: bool
    """Whether an update begins here."""
    of_start: float
    of_first: float
    of_change: float


class SinglestepDPMSolver(FixedTimesSolver):
    """DPM-Solver whose updates are independent, with extra network calls inside each.

    Updates have equal steps in logSNR. With order 3, N network calls make N // 3 + 1 updates,
    the last ones of lower order so that the orders sum to N (DPM-Solver, App. D:
    "DPM-Solver-fast"); order 2 likewise. The times include the points inside the updates,
    which for a process with timesteps lie between these. The samples are x at ``end_time``:
    what little noise is left there (a standard deviation of 0.003 with U-ViT's setting, 0.01
    at timestep 0 of the linear betas) is not removed.

    diffusers' ``DPMSolverSinglestepScheduler`` puts the points inside an update on whole,
    equally spaced timesteps, where its third order is lost; hence not that class.

    Args:
        process: Forward process.
        num_steps: Number N of network calls.
        order: Largest order of an update: 1, 2 or 3.
        algorithm: ``dpmsolver`` integrates in the noise (as U-ViT's code), ``dpmsolver++`` in
            the data.
        end_time: Time on the clock of the samples.
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
            noise: Standard normal start, (N, C, H, W).
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
    """Orders of the updates, noise -> data, which sum to ``num_steps`` (App. D).

    The last update is of lower order where the sum asks for it; with order 3 it always is,
    as in U-ViT's code.
    """
    full, rest = divmod(num_steps, order)
    if order == 3 and rest == 0:
        return (*(3,) * (full - 1), 2, 1)
    return (*(order,) * full, *((rest,) if rest else ()))


def _update(
    start: Point, end: Point, order: int, process: NoiseProcess, *, in_data: bool
) -> Iterator[_Stage]:
    """The stages of one update (DPM-Solver, Algorithms 1 and 2; see ``exponential``)."""
    nodes = (0.0, *NODES[order], 1.0)
    h = end.half_log_snr - start.half_log_snr
    between = (start.half_log_snr + r * h for r in NODES[order])
    points = [start, *(Point(process.time_at_half_log_snr(v), v) for v in between), end]
    kept_start, _ = start.scales(in_data=in_data)
    for index, (here, reached) in enumerate(itertools.pairwise(points)):
        kept, other = reached.scales(in_data=in_data)
        r, z = nodes[index + 1], nodes[index + 1] * (-h if in_data else h)
        # The slope is taken from the start to where the newest prediction was made.
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
