"""Networks and processes that only these analyses need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from schedsearch.diffusion.process import DDPMProcess
from schedsearch.protocols import Backbone
from schedsearch.schedules.exit_schedule import CLOCK_END
from schedsearch.settings import Prediction


class OneInterval(DDPMProcess):
    """The process with times of one interval, to train its expert (ASE, Table 4).

    Args:
        interval: Which one, counted from the data.
        num_intervals: Equal intervals of the clock; must divide its 1000 timesteps.
        betas: As in :class:`DDPMProcess`.
        prediction: What the network predicts.

    Raises:
        ValueError: If there is no such interval, or the intervals are not equal.
    """

    def __init__(
        self,
        interval: int,
        num_intervals: int = 10,
        betas: str = "linear",
        prediction: Prediction = "eps",
    ) -> None:
        super().__init__(betas, prediction)
        if not 0 <= interval < num_intervals or self.num_timesteps % num_intervals:
            raise ValueError(f"There is no interval {interval} of {num_intervals} equal ones.")
        self._width = self.num_timesteps // num_intervals
        self._first = interval * self._width

    def draw_times(self, num: int, generator: torch.Generator) -> Tensor:
        """Timesteps, (num,) int64, uniform in the interval."""
        return self._first + super().draw_times(num, generator) % self._width


class PerInterval(nn.Module):
    """One network per interval of time, for sampling: all images share one time.

    Args:
        nets: Networks on a discrete process, data -> noise; one may serve several intervals.
    """

    def __init__(self, nets: Sequence[Backbone]) -> None:
        super().__init__()
        first = nets[0]
        self.num_exit_blocks = first.num_exit_blocks
        self.in_shape = first.in_shape
        self.num_classes = first.num_classes
        self._nets = nn.ModuleList(cast(Sequence[nn.Module], nets))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None, *, exit_depth: int | Tensor) -> Any:
        """As in :class:`Backbone`, with equal ``t``.

        Raises:
            ValueError: If the batch holds more than one time.
        """
        time = float(t.flatten()[0])
        if not bool((t == time).all()):
            raise ValueError("PerInterval samples one time per batch, but got several.")
        interval = min(int(time * len(self._nets) / CLOCK_END), len(self._nets) - 1)
        return self._nets[interval](x, t, y, exit_depth=exit_depth)


class Quiet:
    """Progress of a trainer that is not shown: ``schedsearch.protocols.Progress``."""

    def report(self, step: int, loss: float, **values: float) -> None:
        """Say nothing."""

    def note(self, message: str) -> None:
        """Say nothing."""

    def save(self, step: int, state: Callable[[], Mapping[str, Any]]) -> None:
        """Keep nothing: a case takes a minute at most."""

    def restore(self) -> None:
        """Start afresh."""
        return
