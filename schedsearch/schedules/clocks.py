"""Signal-to-noise ratios on the clocks of DDPM, of the continuous process and of flow matching.

Only what moving a schedule needs; the processes themselves are in ``schedsearch.diffusion``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from schedsearch.schedules.edges import CLOCK_END

Clock = Literal["ddpm", "flow"]
"""What a schedule's clock counts.

``ddpm``: timesteps of DDPM, or 1000 s for continuous time s. ``flow``: 1000 sigma, after the
sampler's shift."""

NUM_TIMESTEPS = 1000
"""Timesteps of DDPM (Sec. 4)."""

BETA_START, BETA_END = 1e-4, 0.02
"""Ends of DDPM's linear betas (Sec. 4)."""

BETA_MIN, BETA_MAX = 0.1, 20.0
"""Ends of the continuous betas (Song et al. 2021, App. C)."""


class LogSnr(Protocol):
    """A process that relates its clock to half the log signal-to-noise ratio."""

    def half_log_snr(self, t: float) -> float:
        """Return ``log(alpha_t / sigma_t)`` at a clock time."""
        ...

    def time_at_half_log_snr(self, value: float) -> float:
        """Return the clock time with this value."""
        ...


class _Ddpm:
    """DDPM with linear betas; between timesteps the log of alpha_bar is linear."""

    def half_log_snr(self, t: float) -> float:
        log_bar = float(np.interp(t, np.arange(NUM_TIMESTEPS), _log_alpha_bars()))
        return _half_log_snr(log_bar)

    def time_at_half_log_snr(self, value: float) -> float:
        falling = -_log_alpha_bars()
        return float(np.interp(-_log_alpha_bar(value), falling, np.arange(NUM_TIMESTEPS)))


class _Vp:
    """The continuous process (Song et al. 2021, Eq. 33)."""

    def half_log_snr(self, t: float) -> float:
        s = t / CLOCK_END
        return _half_log_snr(-(BETA_MIN * s + 0.5 * (BETA_MAX - BETA_MIN) * s**2))

    def time_at_half_log_snr(self, value: float) -> float:
        twice = -2.0 * _log_alpha_bar(value)
        # NOTE: This form of the root avoids cancellation near 0.
        root = math.sqrt(BETA_MIN**2 + (BETA_MAX - BETA_MIN) * twice)
        return CLOCK_END * twice / (BETA_MIN + root)


class _Flow:
    """Flow matching, ``(1 - sigma) x_0 + sigma eps``; the clock is 1000 sigma."""

    def half_log_snr(self, t: float) -> float:
        return math.log((CLOCK_END - t) / t)

    def time_at_half_log_snr(self, value: float) -> float:
        return CLOCK_END / (1.0 + math.exp(value))


PROCESSES: Mapping[str, LogSnr] = MappingProxyType({"ddpm": _Ddpm(), "vp": _Vp(), "flow": _Flow()})
"""Processes by the values of ``diffusion.process``."""


def time_of_same_snr(here: str | LogSnr, t: float, there: str | LogSnr) -> float:
    """Return the time of one process where its signal-to-noise ratio is that of another.

    Args:
        here: Process of ``t``: ``ddpm``, ``vp``, ``flow``, or an object.
        t: Clock time strictly inside [0, 1000].
        there: Process of the result.

    Raises:
        ValueError: If a name is unknown.
    """
    value = _process(here).half_log_snr(t)
    return min(CLOCK_END, max(0.0, _process(there).time_at_half_log_snr(value)))


def _process(name: str | LogSnr) -> LogSnr:
    if not isinstance(name, str):
        return name
    if name not in PROCESSES:
        raise ValueError(f"Known processes are {', '.join(PROCESSES)}, got {name!r}.")
    return PROCESSES[name]


@cache
def _log_alpha_bars() -> NDArray[np.float64]:
    betas = np.linspace(BETA_START, BETA_END, NUM_TIMESTEPS)
    bars: NDArray[np.float64] = np.cumsum(np.log1p(-betas))
    return bars


def _half_log_snr(log_alpha_bar: float) -> float:
    return 0.5 * (log_alpha_bar - math.log(-math.expm1(log_alpha_bar)))


def _log_alpha_bar(half_log_snr: float) -> float:
    return -math.log1p(math.exp(-2.0 * half_log_snr))
