"""lambda(t), a loss weight that is first larger near the noise (ASE, Sec. 3.3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from schedsearch.schedules.edges import Edges
from schedsearch.schedules.exit_schedule import ExitSchedule
from schedsearch.settings import LambdaSettings

NUM_INTERVALS = 10
"""Intervals over which lambda rises (ASE, Sec. 3.2)."""

PLATEAU_WINDOW_SHARE = 0.1
"""Length of the compared loss windows, as a share of the steps."""
MIN_PLATEAU_WINDOW = 10
"""Shortest window in steps; a mean over fewer steps is too noisy."""
PLATEAU_THRESHOLD = 0.01
"""Relative improvement between windows below which the loss counts as flat."""


class LambdaWeighting:
    """Weights of the samples' losses during one fine-tune.

    The paper gives no numbers, so these are ours. lambda rises linearly over the intervals, from
    1 next to the data to ``max``. It becomes 1 everywhere after a fraction of the steps, or at a
    plateau: when a window's mean unweighted loss is less than 1 % below the previous window's. A
    window is a tenth of the steps, at least 10.

    Args:
        settings: Shape, size and end of the weighting.
        num_steps: Optimizer steps of the fine-tune.
        edges: Edges of the intervals; None for ten equal ones.
    """

    def __init__(
        self, settings: LambdaSettings, num_steps: int, edges: Edges | None = None
    ) -> None:
        self._until = settings.until
        self._window = max(MIN_PLATEAU_WINDOW, round(PLATEAU_WINDOW_SHARE * num_steps))
        largest = settings.max if settings.kind == "linear" else 1.0
        num_intervals = NUM_INTERVALS if edges is None else len(edges) - 1
        self._table = torch.linspace(1.0, largest, num_intervals)
        self._intervals = ExitSchedule(tuple(range(num_intervals)), edges)
        self._last_step = num_steps
        if not isinstance(self._until, str):
            self._last_step = round(self._until * num_steps)
        self._flat = False
        self._losses: list[float] = []
        self._previous_mean: float | None = None

    def weights(self, t: Tensor, step: int) -> Tensor:
        """Return the weights of one batch.

        Args:
            t: Clock times in [0, 1000], (N,).
            step: Optimizer step, counted from 1.

        Returns:
            Weights, (N,) float32, on the device of ``t``.
        """
        if self._flat or step > self._last_step:
            return torch.ones(t.shape, device=t.device)
        return self._table.to(t.device)[self._intervals.depths_at(t)]

    def observe(self, step: int, loss: float) -> str | None:
        """Record the unweighted loss of a step.

        Returns:
            A line for the log when a plateau ends the weighting, else None.
        """
        if self._until != "plateau" or self._flat:
            return None
        self._losses.append(loss)
        if len(self._losses) < self._window:
            return None
        mean, previous = sum(self._losses) / len(self._losses), self._previous_mean
        self._losses, self._previous_mean = [], mean
        if previous is None or mean < (1.0 - PLATEAU_THRESHOLD) * previous:
            return None
        self._flat = True
        return (
            f"step {step}: the loss is flat ({previous:.4g} -> {mean:.4g} over "
            f"{self._window} steps each); lambda(t) is 1 from here on"
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed fine-tune needs."""
        return {
            "flat": self._flat,
            "losses": list(self._losses),
            "previous_mean": self._previous_mean,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the output of :meth:`state_dict`."""
        self._flat = state["flat"]
        self._losses = list(state["losses"])
        self._previous_mean = state["previous_mean"]
