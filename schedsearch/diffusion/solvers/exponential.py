"""The exponential integrators behind DPM-Solver (Lu et al. 2022, Sec. 3.1 and App. B.2).

In lambda = log(alpha / sigma) the linear part of the diffusion ODE is solved exactly. The
prediction m is expanded in lambda. A step h from s to t, with z = h (DPM-Solver, Eq. 3.6)::

    x_t = (alpha_t / alpha_s) x - sigma_t (phi_1(z) m + phi_2(z) h m' + phi_3(z) h^2 m'')

Here m is the noise. If m is the data (DPM-Solver++, Prop. 4.1), alpha and sigma swap and z = -h.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from schedsearch.diffusion.process import NoiseProcess


@dataclass(frozen=True, slots=True)
class Point:
    """A noise level on the way from noise to data."""

    time: float
    """Time on the clock [0, 1000]."""
    half_log_snr: float
    """lambda; infinite at the data."""

    @property
    def alpha(self) -> float:
        """Scale of the data."""
        return 1.0 / math.sqrt(1.0 + math.exp(-2.0 * self.half_log_snr))

    @property
    def sigma(self) -> float:
        """Scale of the noise."""
        return 1.0 / math.sqrt(1.0 + math.exp(2.0 * self.half_log_snr))

    def scales(self, *, in_data: bool) -> tuple[float, float]:
        """Return the scale that x is divided by, and the scale of the prediction."""
        return (self.sigma, self.alpha) if in_data else (self.alpha, self.sigma)


DATA = Point(time=0.0, half_log_snr=math.inf)
"""End of a last step that removes all noise."""


def points_at(process: NoiseProcess, times: Sequence[float]) -> list[Point]:
    """Return the points of a process at these clock times."""
    return [Point(t, process.half_log_snr(t)) for t in times]


def phi_1(z: float) -> float:
    """Return ``e^z - 1``."""
    return math.expm1(z)


def phi_2(z: float) -> float:
    """Return ``phi_1(z) / z - 1``, about z / 2."""
    return math.expm1(z) / z - 1.0


def phi_3(z: float) -> float:
    """Return ``phi_2(z) / z - 1 / 2``, about z / 6."""
    return phi_2(z) / z - 0.5
