"""Measured latency: milliseconds to sample one batch with the space's solver.

Clock speeds, caches and neighbours drift by more than schedules differ, so nothing is measured
once or in a block: every round runs all schedules in a new order, and a saving is the median
over rounds of the ratio to full depth in the same round.
"""

from __future__ import annotations

import contextlib
import copy
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import nn

from schedsearch.backbones.guidance import ScheduledDenoiser
from schedsearch.evaluation.sampling import balanced_labels, device_of, starting_noise
from schedsearch.protocols import Backbone, Denoiser, Solver
from schedsearch.schedule import ExitSchedule
from schedsearch.settings import EvaluationSettings, SolverSettings

BASELINE = "full"
"""Name of the schedule that savings are measured against."""

UNSTABLE_ABOVE = 0.05
"""A median whose 95 % half-width exceeds this share of it should not be trusted."""


class Clock(Protocol):
    """Times work on one kind of device."""

    num_warmups: int
    """Runs before the first one that counts."""

    def time_ms(self, work: Callable[[], object]) -> float:
        """Run ``work`` to its end and return the milliseconds it took."""
        ...


class CpuClock:
    """Wall clock; the work is done when the call returns."""

    num_warmups = 1

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


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyProtocol:
    """What a latency was measured on and with; only equal protocols compare."""

    device: str
    """Name of the processor or GPU."""
    dtype: str
    """Of the weights: ``float32``, ``bfloat16`` or ``float16``."""
    batch: int
    """Images sampled at once."""
    threads: int
    """Threads of torch on the CPU."""
    solver: str
    num_steps: int
    spacing: str
    cfg_scale: float
    """Above 1 every network call runs twice the batch, which the latency includes."""
    cfg_channels: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyMeasurement:
    """Latency of one schedule over several rounds."""

    median_ms: float
    half_width_ms: float
    """95 % half-width of the median; see :func:`median_half_width`."""
    repeats: int
    acceleration: float
    """Fraction of time saved against full depth: 1 - median of the rounds' ratios."""
    acceleration_half_width: float
    """95 % half-width of ``acceleration``."""

    @property
    def unstable(self) -> bool:
        """Whether the rounds disagree too much to be trusted: measure again."""
        return self.half_width_ms > UNSTABLE_ABOVE * self.median_ms

    def to_dict(self) -> dict[str, Any]:
        """Plain data, with the verdict."""
        return {**asdict(self), "unstable": self.unstable}


def latency_protocol(
    net: Backbone, solver: SolverSettings, evaluation: EvaluationSettings, threads: int
) -> LatencyProtocol:
    """The protocol that a search space asks for, on the device of ``net``."""
    return LatencyProtocol(
        device=device_name(device_of(net)),
        dtype=evaluation.latency_dtype,
        batch=evaluation.latency_batch,
        threads=threads,
        solver=solver.name,
        num_steps=solver.num_steps,
        spacing=solver.spacing,
        cfg_scale=float(solver.cfg_scale),
        cfg_channels=solver.cfg_channels,
    )


def measure_interleaved(
    net: Backbone,
    schedules: Mapping[str, ExitSchedule],
    solver: Solver,
    protocol: LatencyProtocol,
    *,
    repeats: int,
    seed: int = 0,
    clock: Clock | None = None,
) -> dict[str, LatencyMeasurement]:
    """Measure whole sampling runs of several schedules, round-robin.

    Args:
        net: The network, on the device to measure; changed in nothing.
        schedules: Schedules by name. ``full`` is the baseline of all savings; full depth is
            added under that name when it is missing.
        solver: The solver of the space.
        protocol: Batch, data type, threads and guidance to measure with.
        repeats: Rounds, >= 1; each runs every schedule once, in an order of its own.
        seed: Of the orders.
        clock: Times the work; None takes the one for the network's device.

    Returns:
        A measurement per name, in the order of ``schedules``.
    """
    named = dict(schedules)
    named.setdefault(BASELINE, ExitSchedule.flat(net.num_exit_blocks))
    with LatencyBench(net, solver, protocol) as bench:
        work = {name: bench.sampling_run(schedule) for name, schedule in named.items()}
        times = time_rounds(work, clock or build_clock(bench.device), repeats, seed)
    return {name: summarise(times[name], times[BASELINE]) for name in named}


def summarise(times_ms: Sequence[float], baseline_ms: Sequence[float]) -> LatencyMeasurement:
    """Median, spread and saving from the times of the same rounds."""
    ratios = [t / base for t, base in zip(times_ms, baseline_ms, strict=True)]
    return LatencyMeasurement(
        median_ms=statistics.median(times_ms),
        half_width_ms=median_half_width(times_ms),
        repeats=len(times_ms),
        acceleration=1.0 - statistics.median(ratios),
        acceleration_half_width=median_half_width(ratios),
    )


def median_half_width(values: Sequence[float]) -> float:
    """95 % half-width of a median: 1.96 * 1.2533 * (IQR / 1.349) / sqrt(n).

    The interquartile range stands for the standard deviation because single rounds may be
    hit by other processes; 1.2533 = sqrt(pi / 2) is the price of a median over a mean. Normal
    approximation: with fewer than about ten rounds it is a rough figure.
    """
    low, high = np.quantile(values, [0.25, 0.75])
    return float(1.96 * 1.2533 * (high - low) / 1.349 / len(values) ** 0.5)


def time_rounds(
    work: Mapping[str, Callable[[], object]], clock: Clock, repeats: int, seed: int = 0
) -> dict[str, list[float]]:
    """Time every piece of work once per round, each round in a random order.

    Returns:
        Milliseconds by name, one per round, rounds in the same order for every name.
    """
    if repeats < 1:
        raise ValueError(f"A latency needs at least one repeat, but got {repeats}.")
    rng = np.random.default_rng(seed)
    names = list(work)
    for name in names:
        for _ in range(clock.num_warmups):
            work[name]()
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(repeats):
        for index in rng.permutation(len(names)):
            times[names[index]].append(clock.time_ms(work[names[index]]))
    return times


class LatencyBench(contextlib.ExitStack):
    """A network set up as the protocol says, with one batch; undone when the block ends.

    Sets torch's threads and eval mode, and takes a copy of the network for half precision.

    Args:
        net: The network, on the device to measure.
        solver: The solver of the space.
        protocol: Batch, data type, threads and guidance to measure with.
    """

    def __init__(self, net: Backbone, solver: Solver, protocol: LatencyProtocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.solver = solver
        self.device = device_of(net)
        self.dtype: torch.dtype = getattr(torch, protocol.dtype)
        self._net = net
        labels = balanced_labels(protocol.batch, net.num_classes)
        self._labels = None if labels is None else labels.to(self.device)
        self._noise = starting_noise(0, protocol.batch, net.in_shape).to(self.device)

    def __enter__(self) -> LatencyBench:
        self.enter_context(_torch_threads(self.protocol.threads))
        self.enter_context(torch.inference_mode())
        module = cast(nn.Module, self._net)
        weight = next(module.parameters(), None)
        if weight is not None and weight.dtype != self.dtype:
            module = copy.deepcopy(module).to(self.dtype)
            self._net = cast(Backbone, module)
        self.enter_context(_eval_mode(module))
        return self

    def denoiser(self, schedule: ExitSchedule) -> Denoiser:
        """The network as a solver calls it: guided, with exits, in float32 at the seam."""
        return ScheduledDenoiser(
            self._net,
            schedule,
            self._labels,
            self.solver.process,
            cfg_scale=self.protocol.cfg_scale,
            cfg_channels=self.protocol.cfg_channels,
            keep_variance=self.solver.wants_variance,
        )

    def sampling_run(self, schedule: ExitSchedule) -> Callable[[], object]:
        """Work that samples the batch once."""
        denoiser = self.denoiser(schedule)
        # Drawn on the device, as a user of a stochastic solver would.
        return lambda: self.solver.sample(
            denoiser, self._noise, lambda: torch.randn_like(self._noise)
        )

    def network_call(self, depth: int) -> Callable[[], object]:
        """Work that calls the network once, at one exit depth."""
        denoiser = self.denoiser(ExitSchedule.flat(depth))
        t = self.solver.times[len(self.solver.times) // 2]
        return lambda: denoiser(self._noise, t)


def build_clock(device: torch.device) -> Clock:
    """The clock for a device: events on CUDA, the wall clock on the CPU."""
    return CudaClock(device) if device.type == "cuda" else CpuClock()


def device_name(device: torch.device) -> str:
    """Name for people: the GPU's, or ``cpu`` with the processor's where the system tells it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return str(device)
    with contextlib.suppress(OSError):  # Linux only
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return f"cpu ({line.partition(':')[2].strip()})"
    return f"cpu ({platform.processor()})" if platform.processor() else "cpu"


@contextlib.contextmanager
def _torch_threads(num: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(num)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _eval_mode(module: nn.Module) -> Iterator[None]:
    before = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(before)
