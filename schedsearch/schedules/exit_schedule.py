"""Exit schedules: how many blocks run in each tenth of diffusion time (ASE, Sec. 3.2)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

CLOCK_END = 1000.0
"""End of the clock that schedules use: 0 is the data, 1000 is pure noise."""

CLOCK_SLACK = 1e-3
"""Rounding of float32 solvers that the clock forgives at both ends."""


@dataclass(frozen=True, slots=True)
class ExitSchedule:
    """Number of blocks to run per interval of diffusion time.

    The clock [0, 1000] is the model's own time and never the index of a solver step, so a
    schedule means the same for every solver and step count. It is cut into as many equal
    intervals as there are depths; interval 0 is next to the data (ASE, Sec. 3.2 and Table 5).
    The depths may have any shape: monotonicity belongs to the search space.

    Args:
        depths: Blocks to run per interval, data -> noise. Counted from the first block in a
            DiT; in a U-ViT the number of decoder blocks that run whole.

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
        """The schedule that runs ``depth`` blocks at every time."""
        return cls((depth,) * num_intervals)

    @property
    def num_intervals(self) -> int:
        """Number of equal intervals of the clock."""
        return len(self.depths)

    @property
    def is_nonincreasing(self) -> bool:
        """Whether depth never grows from the data to the noise ("noise-easy", ASE, Fig. 1)."""
        return all(a >= b for a, b in zip(self.depths, self.depths[1:], strict=False))

    def interval_of(self, t: float) -> int:
        """Interval of a time on the clock.

        Args:
            t: Time in [0, 1000]; 1e-3 of rounding is forgiven at both ends.

        Returns:
            ``min(n - 1, floor(t / (1000 / n)))``; a time just below 0 counts as 0.

        Raises:
            ValueError: If ``t`` lies outside the clock or is not a number.
        """
        if not -CLOCK_SLACK <= t <= CLOCK_END + CLOCK_SLACK:
            raise ValueError(
                f"An exit schedule is defined for times in [0, {CLOCK_END:g}], but got t={t}. "
                "Pass the model's timestep (U-ViT: 1000 s), not a solver's step index."
            )
        last = len(self.depths) - 1
        return min(last, max(0, math.floor(t / (CLOCK_END / len(self.depths)))))

    def depth_at(self, t: float) -> int:
        """Blocks to run at time ``t``, a number on the clock [0, 1000]."""
        return self.depths[self.interval_of(t)]

    def num_blocks(self, visits: Sequence[int]) -> int:
        """Blocks that one solver run executes.

        Args:
            visits: Network calls of the solver per interval, data -> noise.
        """
        return sum(calls * depth for calls, depth in zip(visits, self.depths, strict=True))

    def depths_at(self, t: Tensor) -> Tensor:
        """Blocks to run at each time of a batch.

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
            self.interval_of(first)  # raises with the explanation
        interval = torch.floor(clock / (CLOCK_END / len(self.depths))).long()
        interval = interval.clamp(0, len(self.depths) - 1)
        return torch.tensor(self.depths, dtype=torch.long, device=t.device)[interval]

    def visited(self, times: Iterable[float]) -> tuple[int, ...]:
        """Depths at the times where a solver calls the network.

        Two schedules that visit the same depths give the same samples at the same cost.
        """
        return tuple(self.depth_at(t) for t in times)

    def __str__(self) -> str:
        return " ".join(str(depth) for depth in self.depths)
