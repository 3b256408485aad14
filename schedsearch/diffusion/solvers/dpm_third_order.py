"""Multistep DPM-Solver and DPM-Solver++ of order 3."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from schedsearch.diffusion.process import NoiseProcess
from schedsearch.diffusion.solvers.base import FixedTimesSolver
from schedsearch.diffusion.solvers.dpm_solver import Algorithm
from schedsearch.diffusion.solvers.exponential import (
    DATA,
    Point,
    phi_1,
    phi_2,
    phi_3,
    points_at,
)
from schedsearch.protocols import Denoiser, StepNoise

FEW_STEPS = 15
"""With fewer steps the last two updates have lower order (DPM-Solver's code).

Extrapolation over large steps next to the data is unstable.
"""


@dataclass(frozen=True, slots=True)
class _Update:
    """One update: ``of_x x + sum(weights * predictions)``, newest prediction first."""

    time: float
    alpha: float
    sigma: float
    of_x: float
    weights: tuple[float, ...]


class ThirdOrderDPMSolver(FixedTimesSolver):
    """DPM-Solver that fits a parabola to the last three predictions.

    The update is the Taylor expansion of DPM-Solver, Eq. 3.6, with Newton's divided differences.
    diffusers and the authors' code use half of the second derivative, so their "order 3" has
    order 2. So we do not use ``DPMSolverMultistepScheduler`` here.

    Args:
        process: Forward process.
        times: Clock times of the network calls, from noise to data.
        algorithm: ``dpmsolver++`` integrates the data prediction, ``dpmsolver`` the noise
            prediction.
        end_time: Clock time of the samples. None means the data itself, and then the last
            update has order 1.
    """

    def __init__(
        self,
        process: NoiseProcess,
        times: Sequence[float],
        *,
        algorithm: Algorithm = "dpmsolver++",
        end_time: float | None = None,
    ) -> None:
        super().__init__(process, times)
        self._in_data = algorithm == "dpmsolver++"
        points = points_at(process, self.times)
        points.append(DATA if end_time is None else points_at(process, [end_time])[0])
        self._updates = [
            _update(points[: index + 2], self._order_at(index, end_time), in_data=self._in_data)
            for index in range(self.num_steps)
        ]

    def _order_at(self, index: int, end_time: float | None) -> int:
        left = self.num_steps - index
        order = min(3, index + 1)
        if left == 1 and end_time is None:
            return 1
        return min(order, left) if self.num_steps < FEW_STEPS else order

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
        x = noise
        predictions: deque[Tensor] = deque(maxlen=3)
        for update in self._updates:
            prediction = denoiser(x, update.time)
            if self._in_data:
                prediction = (x - update.sigma * prediction) / update.alpha
            predictions.appendleft(prediction)
            x = update.of_x * x
            for weight, earlier in zip(update.weights, predictions, strict=False):
                x = x + weight * earlier
            yield x


def _update(points: Sequence[Point], order: int, *, in_data: bool) -> _Update:
    """Compute the update from the second last point to the last.

    The steps in half logSNR are h, before it r_0 h and r_1 h. Divided differences of the
    predictions m::

        first = (m_0 - m_1) / r_0;  second = (first - (m_1 - m_2) / r_1) / (r_0 + r_1)
        h m' = first + r_0 second;  h^2 m'' = 2 second
    """
    here, end = points[-2], points[-1]
    kept, _ = here.scales(in_data=in_data)
    kept_end, other_end = end.scales(in_data=in_data)
    h = end.half_log_snr - here.half_log_snr
    z = -h if in_data else h
    weights = [phi_1(z)]
    if order > 1:
        r_0 = (here.half_log_snr - points[-3].half_log_snr) / h
        # NOTE: Order 2 uses the midpoint form of DPM-Solver++, Algorithm 2.
        of_first = phi_2(z) if order == 3 else 0.5 * phi_1(z)
        weights = [weights[0] + of_first / r_0, -of_first / r_0]
    if order > 2:
        r_1 = (points[-3].half_log_snr - points[-4].half_log_snr) / h
        of_second = (r_0 * phi_2(z) + 2.0 * phi_3(z)) / (r_0 + r_1)
        weights = [
            weights[0] + of_second / r_0,
            weights[1] - of_second * (1.0 / r_0 + 1.0 / r_1),
            of_second / r_1,
        ]
    return _Update(
        time=here.time,
        alpha=here.alpha,
        sigma=here.sigma,
        of_x=kept_end / kept,
        weights=tuple(-other_end * weight for weight in weights),
    )
