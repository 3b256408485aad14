"""Exit schedules: blocks to run per interval of diffusion time (ASE, Sec. 3.2)."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from schedsearch.schedules.clocks import Clock, LogSnr, time_of_same_snr
from schedsearch.schedules.edges import CLOCK_END as CLOCK_END
from schedsearch.schedules.edges import EDGE_SLACK, Edges, equal_edges, why_no_edges

if TYPE_CHECKING:
    from torch import Tensor

CLOCK_SLACK = 1e-3
"""Tolerance at both ends of the clock, for rounding in float32 solvers."""


@dataclass(frozen=True, slots=True)
class ExitSchedule:
    """Number of blocks to run per interval of diffusion time.

    The clock [0, 1000] is the model's time, never the index of a solver step. So a schedule
    means the same for every solver and number of steps. The clock is split into intervals, one
    per depth; interval 0 is next to the data (ASE, Sec. 3.2 and Table 5). Depths need not be
    monotone; that is a rule of the search space.

    Args:
        depths: Blocks to run per interval, from data to noise. In a DiT they count from the
            first block, in a U-ViT they count decoder blocks.
        edges: Ends of the intervals, n + 1 rising times from 0 to 1000; None for equal ones.
        clock: Process whose times the clock counts: ``ddpm`` (also the continuous process) or
            ``flow`` (1000 sigma). None where nobody said.

    Raises:
        ValueError: If ``depths`` is empty or holds anything but integers >= 0, or the edges are
            not those of the intervals.
    """

    depths: tuple[int, ...]
    edges: Edges | None = None
    clock: Clock | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name in ("depths", "edges"):
            value = getattr(self, name)
            if not (isinstance(value, Iterable) or (name == "edges" and value is None)):
                raise ValueError(f"The {name} of an exit schedule are a sequence, got {value!r}.")
        depths: tuple[Any, ...] = tuple(self.depths)
        if not depths:
            raise ValueError("An exit schedule needs at least one interval, but got ().")
        for interval, depth in enumerate(depths):
            if isinstance(depth, bool) or not isinstance(depth, Integral) or depth < 0:
                raise ValueError(
                    f"An exit depth is an integer >= 0, but interval {interval} has {depth!r}."
                )
        object.__setattr__(self, "depths", tuple(map(int, depths)))
        if self.edges is not None:
            if any(isinstance(e, bool) or not isinstance(e, Real) for e in self.edges):
                raise ValueError(f"The edges of an exit schedule are numbers, got {self.edges!r}.")
            edges = tuple(float(edge) for edge in self.edges)
            if (reason := why_no_edges(edges, len(self.depths))) is not None:
                raise ValueError(f"The edges of an exit schedule are wrong: {reason}.")
            # NOTE: Equal edges are None, so that equal schedules compare equal.
            equal = edges == equal_edges(len(self.depths))
            object.__setattr__(self, "edges", None if equal else edges)

    @classmethod
    def flat(cls, depth: int, num_intervals: int = 10, edges: Edges | None = None) -> ExitSchedule:
        """Return the schedule that runs ``depth`` blocks at every time."""
        return cls((depth,) * num_intervals, edges)

    @property
    def num_intervals(self) -> int:
        """Number of intervals of the clock."""
        return len(self.depths)

    @property
    def is_nonincreasing(self) -> bool:
        """Whether depth never increases towards the noise ("noise-easy", ASE, Fig. 1)."""
        return all(a >= b for a, b in zip(self.depths, self.depths[1:], strict=False))

    def interval_of(self, t: float) -> int:
        """Return the interval of a clock time.

        Args:
            t: Time in [0, 1000], with a tolerance of 1e-3 at both ends.

        Returns:
            ``min(n - 1, floor(t n / 1000))``, at least 0, for equal intervals. Else the i with
            ``edges[i] <= t < edges[i + 1]``. A time 2e-4 below an edge counts as on it.

        Raises:
            ValueError: If ``t`` lies outside the clock or is not a number.
        """
        try:
            inside = bool(-CLOCK_SLACK <= t <= CLOCK_END + CLOCK_SLACK)
        except (TypeError, RuntimeError) as error:
            raise ValueError(f"A time is one number on the clock, got {t!r}.") from error
        if not inside:
            raise ValueError(
                f"An exit schedule is defined for times in [0, {CLOCK_END:g}], but got t={t}. "
                "Pass the model's timestep (U-ViT: 1000 s), not a solver's step index."
            )
        num = len(self.depths)
        near = t + EDGE_SLACK
        if self.edges is not None:
            return min(num - 1, max(0, bisect_right(self.edges, near) - 1))
        # NOTE: Multiplied first, because 1000 / 30 is rounded and would move whole timesteps.
        return min(num - 1, max(0, math.floor(near * num / CLOCK_END)))

    def depth_at(self, t: float) -> int:
        """Return the number of blocks to run at clock time ``t``."""
        return self.depths[self.interval_of(t)]

    def num_blocks(self, visits: Sequence[int]) -> int:
        """Count the blocks that one solver run executes.

        Args:
            visits: Network calls of the solver per interval, from data to noise.
        """
        return sum(calls * depth for calls, depth in zip(visits, self.depths, strict=True))

    def depths_at(self, t: Tensor) -> Tensor:
        """Return the number of blocks to run at each time of a batch.

        Args:
            t: Times on the clock [0, 1000], (N,), any dtype and device.

        Returns:
            Exit depths, (N,), int64, on the device of ``t``.

        Raises:
            ValueError: If any time lies outside the clock or is not a number.
        """
        import torch

        clock = torch.as_tensor(t).to(torch.float64)
        inside = (clock >= -CLOCK_SLACK) & (clock <= CLOCK_END + CLOCK_SLACK)
        if not bool(inside.all()):
            first = float(clock[~inside].flatten()[0])
            self.interval_of(first)  # NOTE: raises the ValueError with its explanation
        clock = clock + EDGE_SLACK
        if self.edges is None:
            interval = torch.floor(clock * len(self.depths) / CLOCK_END).long()
        else:
            edges = torch.tensor(self.edges, dtype=torch.float64, device=clock.device)
            interval = torch.bucketize(clock, edges, right=True) - 1
        interval = interval.clamp(0, len(self.depths) - 1)
        return torch.tensor(self.depths, dtype=torch.long, device=clock.device)[interval]

    def moved(
        self,
        from_process: str | LogSnr,
        to_process: str | LogSnr,
        *,
        num_intervals: int = 10,
        edges: Edges | None = None,
    ) -> ExitSchedule:
        """Return the schedule for another process with equal signal-to-noise ratios.

        An interval gets the depth that this schedule has where the ratio is that of the
        interval's middle.

        Args:
            from_process: Process that this schedule is written for: ``ddpm`` (linear betas),
                ``vp``, ``flow``, or an object with ``half_log_snr`` and
                ``time_at_half_log_snr``.
            to_process: Process of the result, likewise.
            num_intervals: Intervals of the result.
            edges: Their edges; None for equal ones.
        """
        ends = equal_edges(num_intervals) if edges is None else edges
        middles = [(low + high) / 2 for low, high in itertools.pairwise(ends)]
        depths = (self.depth_at(time_of_same_snr(to_process, t, from_process)) for t in middles)
        clock: Clock | None = None
        if isinstance(to_process, str):
            clock = "flow" if to_process == "flow" else "ddpm"
        return ExitSchedule(tuple(depths), edges, clock)

    def visited(self, times: Iterable[float]) -> tuple[int, ...]:
        """Return the depths at the times where a solver calls the network.

        Schedules with equal visited depths give the same samples at the same cost.
        """
        return tuple(self.depth_at(t) for t in times)

    def begin(
        self, net: Callable[..., Any], times: Sequence[float], *, guided: bool
    ) -> ScheduledCall:
        """Start one sampling run; so a schedule is a :class:`schedsearch.protocols.Method`."""
        return ScheduledCall(net, self)

    def __str__(self) -> str:
        return " ".join(str(depth) for depth in self.depths)


@dataclass(frozen=True, slots=True)
class ScheduledCall:
    """Calls a network with the depth that a schedule gives for the time."""

    net: Callable[..., Any]
    schedule: ExitSchedule

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, clock: float, step: int
    ) -> Tensor:
        """Predict; see :class:`schedsearch.protocols.NetworkCall`."""
        output: Tensor = self.net(x, t, y, exit_depth=self.schedule.depth_at(clock))
        return output
