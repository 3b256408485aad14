"""Exit schedules: blocks to run per tenth of diffusion time (ASE, Sec. 3.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

CLOCK_END = 1000.0
"""End of the schedules' clock: 0 is data, 1000 is pure noise."""

CLOCK_SLACK = 1e-3
"""Tolerance at both ends of the clock, for rounding in float32 solvers."""


@dataclass(frozen=True, slots=True)
class ExitSchedule:
    """Number of blocks to run per interval of diffusion time.

    The clock [0, 1000] is the model's time, never the index of a solver step. So a schedule
    means the same for every solver and number of steps. The clock is split into equal
    intervals, one per depth; interval 0 is next to the data (ASE, Sec. 3.2 and Table 5). Depths
    need not be monotone; that is a rule of the search space.

    Args:
        depths: Blocks to run per interval, from data to noise. In a DiT they count from the
            first block, in a U-ViT they count decoder blocks.

    Raises:
        ValueError: If ``depths`` is empty or holds anything but integers >= 0.
    """

    depths: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "depths", tuple(self.depths))
        if not self.depths:
            raise ValueError("An exit schedule needs at least one interval, but got ().")
        for interval, depth in enumerate(self.depths):
            if isinstance(depth, bool) or not isinstance(depth, int) or depth < 0:
                raise ValueError(
                    f"An exit depth is an integer >= 0, but interval {interval} has {depth!r}."
                )

    @classmethod
    def flat(cls, depth: int, num_intervals: int = 10) -> ExitSchedule:
        """Return the schedule that runs ``depth`` blocks at every time."""
        return cls((depth,) * num_intervals)

    @property
    def num_intervals(self) -> int:
        """Number of equal intervals of the clock."""
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
            ``min(n - 1, floor(t n / 1000))``, at least 0.

        Raises:
            ValueError: If ``t`` lies outside the clock or is not a number.
        """
        if not -CLOCK_SLACK <= t <= CLOCK_END + CLOCK_SLACK:
            raise ValueError(
                f"An exit schedule is defined for times in [0, {CLOCK_END:g}], but got t={t}. "
                "Pass the model's timestep (U-ViT: 1000 s), not a solver's step index."
            )
        num = len(self.depths)
        # NOTE: Multiplied first, because 1000 / 30 is rounded and would move whole timesteps.
        return min(num - 1, max(0, math.floor(t * num / CLOCK_END)))

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

        clock = t.to(torch.float64)
        inside = (clock >= -CLOCK_SLACK) & (clock <= CLOCK_END + CLOCK_SLACK)
        if not bool(inside.all()):
            first = float(clock[~inside].flatten()[0])
            self.interval_of(first)  # NOTE: raises the ValueError with its explanation
        interval = torch.floor(clock * len(self.depths) / CLOCK_END).long()
        interval = interval.clamp(0, len(self.depths) - 1)
        return torch.tensor(self.depths, dtype=torch.long, device=t.device)[interval]

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
