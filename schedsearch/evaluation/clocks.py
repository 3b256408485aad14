"""Clocks that know when work on a device is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import torch


class Clock(Protocol):
    """Times work on one kind of device."""

    num_warmups: int
    """Runs before the first one that counts; of what takes turns, first steps."""
    in_turns: bool
    """Whether work may take turns at every step, each timed by itself: it has ended when the call
    returns."""

    def time_ms(self, work: Callable[[], object]) -> float:
        """Run ``work`` to its end and return the milliseconds it took."""
        ...


class CpuClock:
    """Wall clock; the work is done when the call returns."""

    num_warmups = 1
    in_turns = True

    def time_ms(self, work: Callable[[], object]) -> float:
        """Run ``work`` and return the milliseconds it took."""
        start = time.perf_counter()
        work()
        return (time.perf_counter() - start) * 1000.0


class CudaClock:
    """Events on the device, which also count the gaps while it waits for the host.

    Args:
        device: The CUDA device.
    """

    num_warmups = 3  # lazy kernels, cuBLAS handles and the clock ramp
    in_turns = False  # the host works ahead of the device, which a wait at every step would end

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
