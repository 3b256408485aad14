"""Where the samples of a training batch exit: by a schedule, or at random.

Shared weights that serve many schedules come from the same trainer with another rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.schedules.space import SearchSpace

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class ScheduleExits:
    """Each sample exits at the depth of its own time (ASE, Sec. 3.2); draws nothing."""

    def __init__(self, schedule: ExitSchedule) -> None:
        self.schedule = schedule

    def __call__(self, t: Tensor, generator: torch.Generator) -> Tensor:
        """Exit depths, (N,) int64, for times ``t`` on the clock [0, 1000]."""
        return self.schedule.depths_at(t)


class RandomScheduleExits:
    """Each sample follows its own schedule, drawn uniformly from a space."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        # The schedule whose depth in every interval is the number of the interval.
        self._numbers = ExitSchedule(tuple(range(space.num_intervals)))

    def __call__(self, t: Tensor, generator: torch.Generator) -> Tensor:
        """Exit depths, (N,) int64, for times ``t`` on the clock [0, 1000]."""
        interval = self._numbers.depths_at(t)
        depths = self._draw(len(t), generator).to(t.device)  # (N, num_intervals)
        return depths.gather(1, interval[:, None])[:, 0]

    def _draw(self, num: int, generator: torch.Generator) -> Tensor:
        """Schedules, (num, num_intervals) int64, exactly uniform and all at once.

        As ``SearchSpace.sample`` draws one: a monotone schedule is a choice of
        ``num_intervals`` among ``num_levels + num_intervals - 1`` places (stars and bars).
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
