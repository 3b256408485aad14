"""Clocks that wait until work on a device is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import torch


class Clock(Protocol):
    """Times work on one kind of device."""

    num_warmups: int
    """Untimed warm-up runs; with interleaved steps only the first step is run."""
    interleaves_steps: bool
    """Whether runs are interleaved step by step, instead of timed as a whole."""

    def time_ms(self, work: Callable[[], object]) -> float:
        """Run ``work`` to its end and return the milliseconds it took."""
        ...


class CpuClock:
    """Wall clock; work on a CPU is done when the call returns."""

    num_warmups = 1
    interleaves_steps = True

    def time_ms(self, work: Callable[[], object]) -> float:
        """Run ``work`` and return the milliseconds it took."""
        start = time.perf_counter()
        work()
        return (time.perf_counter() - start) * 1000.0


class CudaClock:
    """Events on the device; the gaps while it waits for the host count too.

    Args:
        device: The CUDA device.
    """

    num_warmups = 3  # lazy kernels, cuBLAS handles and the clock ramp
    # NOTE: The host runs ahead of the device; waiting at every step would change the latency.
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
    """The clock for a device: events on CUDA, the wall clock on the CPU."""
    return CudaClock(device) if device.type == "cuda" else CpuClock()
