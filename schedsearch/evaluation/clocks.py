"""Clocks that wait for the device to finish."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import torch


class Clock(Protocol):
    """Times work on one kind of device."""

    num_warmups: int
    """Number of untimed warm-up runs. With interleaved steps only the first step runs."""
    interleaves_steps: bool
    """Whether runs are interleaved step by step instead of timed as a whole."""

    def time_ms(self, work: Callable[[], object]) -> float:
        """Run ``work`` to its end and return the milliseconds it took."""
        ...


class CpuClock:
    """Wall clock; CPU work is finished when the call returns."""

    num_warmups = 1
    interleaves_steps = True

    def time_ms(self, work: Callable[[], object]) -> float:
        """Run ``work`` and return the milliseconds it took."""
        start = time.perf_counter()
        work()
        return (time.perf_counter() - start) * 1000.0


class CudaClock:
    """CUDA events; gaps in which the device waits for the host count too.

    Args:
        device: The CUDA device.
    """

    num_warmups = 3  # NOTE: for lazy kernels, cuBLAS handles and the clock ramp
    # NOTE: The host runs ahead of the device. Waiting at every step would change the latency.
    interleaves_steps = False

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def time_ms(self, work: Callable[[], object]) -> float:
        """Run ``work``, wait for the device and return the milliseconds it took."""
        with torch.cuda.device(self.device):
            start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
            start.record()
            work()
            end.record()
            torch.cuda.synchronize()
            return float(start.elapsed_time(end))


def build_clock(device: torch.device) -> Clock:
    """Return the clock of a device: events on CUDA, else the wall clock."""
    return CudaClock(device) if device.type == "cuda" else CpuClock()
