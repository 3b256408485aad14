"""Exit rules of training batches: by one schedule, or by random schedules.

Shared weights come from the same trainer, with the second rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedsearch.schedules.edges import Edges
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class ScheduleExits:
    """Each sample exits at its schedule's depth for its time (ASE, Sec. 3.2)."""

    def __init__(self, schedule: ExitSchedule) -> None:
        self.schedule = schedule

    @property
    def edges(self) -> Edges | None:
        """Edges of the intervals; None for equal ones."""
        return self.schedule.edges

    def __call__(self, t: Tensor, generator: torch.Generator) -> Tensor:
        """Return exit depths, (N,) int64, for clock times ``t``; draw no numbers."""
        return self.schedule.depths_at(t)


class RandomScheduleExits:
    """Each sample follows another schedule, drawn uniformly from a space."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        # NOTE: The depth of interval i is i, so depths_at returns the index of the interval.
        self._numbers = ExitSchedule(tuple(range(space.num_intervals)), space.edges)

    @property
    def edges(self) -> Edges | None:
        """Edges of the intervals; None for equal ones."""
        return self.space.edges

    def __call__(self, t: Tensor, generator: torch.Generator) -> Tensor:
        """Return exit depths, (N,) int64, for clock times ``t``."""
        interval = self._numbers.depths_at(t)
        depths = self._draw(len(t), generator).to(t.device)  # (N, num_intervals)
        return depths.gather(1, interval[:, None])[:, 0]

    def _draw(self, num: int, generator: torch.Generator) -> Tensor:
        """Draw schedules, (num, num_intervals) int64, exactly uniformly.

        A monotone schedule is a choice of ``num_intervals`` among
        ``num_levels + num_intervals - 1`` places (stars and bars).
        """
        import torch

        space = self.space
        num_intervals, num_levels = space.num_intervals, space.num_levels
        if space.monotone == "free":
            shape = (num, num_intervals)
            return space.min_depth + torch.randint(num_levels, shape, generator=generator)
        places = num_levels + num_intervals - 1
        order = torch.rand(num, places, dtype=torch.float64, generator=generator).argsort(1)
        stars = order[:, :num_intervals].sort(1, descending=True).values
        return space.min_depth + stars - torch.arange(num_intervals - 1, -1, -1)
