"""Where the samples of a training batch exit: by a schedule, or at random.

A shared fine-tune that serves many schedules is the same trainer with another rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from schedsearch.schedule import ExitSchedule
from schedsearch.space import SearchSpace

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


class UniformExits:
    """Each sample exits at a depth drawn uniformly from [min_depth, max_depth].

    Raises:
        ValueError: If the range is empty or holds depths below 1.
    """

    def __init__(self, min_depth: int, max_depth: int) -> None:
        if not 1 <= min_depth <= max_depth:
            raise ValueError(
                f"UniformExits needs 1 <= min_depth <= max_depth, got {min_depth}..{max_depth}."
            )
        self.min_depth = min_depth
        self.max_depth = max_depth

    def __call__(self, t: Tensor, generator: torch.Generator) -> Tensor:
        """Exit depths, (N,) int64, whatever the times."""
        import torch

        depths = torch.randint(self.min_depth, self.max_depth + 1, t.shape, generator=generator)
        return depths.to(t.device)


class RandomScheduleExits:
    """Each sample follows a schedule of its own, drawn uniformly from a space."""

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    def __call__(self, t: Tensor, generator: torch.Generator) -> Tensor:
        """Exit depths, (N,) int64, for times ``t`` on the clock [0, 1000]."""
        import numpy as np
        import torch

        # The space draws with NumPy; one number of the given generator seeds it, so that the
        # state of that generator is all a resumed fine-tune has to restore.
        seed = int(torch.randint(2**31, (1,), generator=generator))
        rng = np.random.default_rng(seed)
        depths = [self.space.sample(rng).depth_at(time) for time in t.tolist()]
        return torch.tensor(depths, dtype=torch.long, device=t.device)
