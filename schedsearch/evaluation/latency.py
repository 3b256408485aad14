"""Measures latency: milliseconds to sample one batch with the solver of the space.

Sampling runs are timed in rounds; see :mod:`schedsearch.evaluation.latency_rounds`.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from schedsearch.backbones.compiling import compile_blocks
from schedsearch.backbones.guidance import GuidedDenoiser
from schedsearch.evaluation.clocks import Clock, build_clock
from schedsearch.evaluation.latency_protocol import LatencyProtocol, study_protocol
from schedsearch.evaluation.latency_rounds import (
    LatencyMeasurement,
    Work,
    summarise,
    time_rounds,
)
from schedsearch.evaluation.sampling import balanced_labels, device_of, starting_noise
from schedsearch.evaluation.timing_lock import timing_lock
from schedsearch.exceptions import ConfigError
from schedsearch.protocols import Backbone, Denoiser, Method, Solver
from schedsearch.schedules.exit_schedule import CLOCK_END, ExitSchedule

if TYPE_CHECKING:
    from schedsearch.settings import StudySettings

BASELINE = "full"
"""Name of the schedule against which savings are measured."""


def measure_schedules(
    settings: StudySettings,
    net: Backbone,
    solver: Solver,
    schedules: Mapping[str, ExitSchedule],
) -> dict[str, LatencyMeasurement]:
    """Measure sampling runs of several schedules with the protocol of a study."""
    return measure_interleaved(
        net,
        schedules,
        solver,
        study_protocol(net, settings),
        repeats=settings.evaluation.latency_repeats,
        seed=settings.search.seed,
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
    """Measure interleaved sampling runs of several schedules.

    Args:
        net: The network, on the device to measure; not changed.
        schedules: Schedules by name. ``full`` is the baseline of all savings; it is added if
            missing.
        solver: The solver of the space.
        protocol: Batch, data type, threads and guidance of the measurement.
        repeats: Number of rounds, >= 1; each times every schedule once.
        seed: Seed of the random orders.
        clock: Clock for the measurement; None chooses one for the network's device.

    Returns:
        One measurement per name, in the order of ``schedules``.
    """
    named = dict(schedules)
    named.setdefault(BASELINE, ExitSchedule.flat(net.num_exit_blocks))
    with LatencyBench(net, solver, protocol) as bench:
        work = {name: bench.sampling_run(schedule) for name, schedule in named.items()}
        times = time_rounds(work, clock or build_clock(bench.device), repeats, seed)
    return summarise(times, BASELINE)


class LatencyBench(contextlib.ExitStack):
    """A network prepared for timing; leaving the ``with`` block restores it.

    It sets torch's threads and eval mode; see :meth:`prepare`. Other runs on the machine wait.

    Args:
        net: The network, on the device to measure.
        solver: The solver of the space.
        protocol: Batch, data type, threads and guidance of the measurement.
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
        self._noise = self._batch(0)
        self._prepared: list[tuple[Backbone, Backbone]] = []
        self._middle = _middle_time(solver)

    def __enter__(self) -> LatencyBench:
        try:
            self._set_up()
        except BaseException:  # NOTE: __exit__ is not called if __enter__ fails
            self.close()
            raise
        return self

    def _set_up(self) -> None:
        self.enter_context(timing_lock(self.device))
        self.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(self.protocol.threads)
        self.enter_context(torch.inference_mode())
        if self.protocol.compile:
            torch.compiler.reset()  # NOTE: graphs of other batch sizes count towards the limit
        self._net = self.prepare(self._net)

    def prepare(self, net: Backbone) -> Backbone:
        """Return a network in eval mode, in the data type and compilation of the protocol.

        Half precision and compiled blocks use a copy, one for every network.
        """
        for known, prepared in self._prepared:
            if net is known or net is prepared:
                return prepared
        module = cast(nn.Module, net)
        weight = next(module.parameters(), None)
        if self.protocol.compile or (weight is not None and weight.dtype != self.dtype):
            module = copy.deepcopy(module).to(self.dtype)
        self.callback(module.train, module.training)
        module.eval()
        prepared = cast(Backbone, module)
        self._prepared.append((net, prepared))
        if self.protocol.compile:
            self._compile(prepared)
        return prepared

    def _batch(self, seed: int) -> Tensor:
        """The starting noise of a timed batch, (N, C, H, W)."""
        return starting_noise(seed, self.protocol.batch, self._net.in_shape).to(self.device)

    def _compile(self, net: Backbone) -> None:
        """Compile the blocks and call them once, because torch fails at the first call."""
        compile_blocks(cast(nn.Module, net))
        try:
            full = ExitSchedule.flat(net.num_exit_blocks)
            self.denoiser(full, net)(self._noise, self._middle)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # NOTE: the type depends on the backend
            reason = str(error).strip().partition("\n")[0]
            raise ConfigError(
                "Latencies of compiled blocks need a working torch.compile, which failed here "
                f"({type(error).__name__}: {reason}). Install its requirements (on a CPU a C++ "
                "compiler), or leave out evaluation.latency_compile and --compile."
            ) from error

    def denoiser(
        self, method: Method, net: Backbone | None = None, solver: Solver | None = None
    ) -> Denoiser:
        """Start a run of a method, with guidance and float32 in and out."""
        return GuidedDenoiser(
            self._net if net is None else net,
            method,
            solver or self.solver,
            self._labels,
            cfg_scale=self.protocol.cfg_scale,
            cfg_channels=self.protocol.cfg_channels,
        )

    def sampling_run(
        self,
        method: Method,
        *,
        net: Backbone | None = None,
        solver: Solver | None = None,
        seed: int = 0,
    ) -> Work:
        """Return the work of sampling a batch once, step by step.

        Every start of the work is a new run of the method. Two runs may be interleaved.

        Args:
            method: How the network is called.
            net: Another network than the bench's.
            solver: Another solver than the bench's.
            seed: Seed of the starting noise. It changes the time of a dynamic method.
        """
        prepared = self._net if net is None else self.prepare(net)
        used = solver or self.solver
        noise = self._noise if seed == 0 else self._batch(seed)
        # NOTE: Step noise is drawn on the device, as users of stochastic solvers do.
        return lambda: used.trajectory(
            self.denoiser(method, prepared, used), noise, lambda: torch.randn_like(noise)
        )

    def network_calls(self, depth: int, num: int) -> Work:
        """Return the work of ``num`` network calls at one exit depth."""
        denoiser = self.denoiser(ExitSchedule.flat(depth))
        return lambda: (denoiser(self._noise, self._middle) for _ in range(num))


def cost_times(solver: Solver) -> tuple[float, ...]:
    """Clock times of the network calls, by what they cost.

    With ``solver.cfg_interval`` a guided call has twice the batch of the others, so it is listed
    twice.
    """
    if solver.cfg_interval is None:
        return solver.times
    low, high = solver.cfg_interval
    return tuple(t for t in solver.times for _ in range(1 + (low <= t <= high)))


def _middle_time(solver: Solver) -> float:
    """A time in the middle of the run, outside of an interval of guidance."""
    if solver.cfg_interval is None:
        return solver.times[len(solver.times) // 2]
    low, high = solver.cfg_interval
    return low / 2 if low > 0 else (high + CLOCK_END) / 2
