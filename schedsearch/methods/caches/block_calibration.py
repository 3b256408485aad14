"""Calibration of Block Caching: changes of attention outputs, a plan, and its scale-shift.

Both recordings run the unmodified network, so their samples are those of full depth. Start them
like any method and read their runs (``observe`` of ``generate``).

Shapes: S steps, L blocks, N batch, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from schedsearch.methods.around import PassThrough, run_around
from schedsearch.methods.caches.block_cache import Plan, check_plan
from schedsearch.methods.run import MethodRun, staged
from schedsearch.protocols import Backbone, StagedBackbone

# ---- changes of the outputs -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ChangeRecording:
    """Full depth; records how much every attention output changes per step."""

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> ChangeRun:
        """Start one sampling run; see :class:`schedsearch.protocols.Method`."""
        return ChangeRun(staged(net, "The calibration of a cache"), len(times), guided=guided)


class ChangeRun(MethodRun):
    """One sampling run of :class:`ChangeRecording`.

    Attributes:
        sums: Relative L1 change against the step before, summed over rows, (S, L) float64.
        num_rows: Rows of the batch, both halves of a guided one.
    """

    def __init__(self, net: StagedBackbone, num_steps: int, *, guided: bool) -> None:
        super().__init__(net, guided=guided)
        self.sums = torch.zeros(num_steps, net.num_blocks, dtype=torch.float64)
        self.num_rows = 0
        self._outputs: list[Tensor] = []

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, clock: float, step: int
    ) -> Tensor:
        """Predict; see :class:`schedsearch.protocols.NetworkCall`."""
        arounds = [OutputRecord() for _ in range(self.net.num_blocks)]
        prediction = run_around(self.net, x, t, y, arounds)
        outputs = [around.output for around in arounds]
        for block, before in enumerate(self._outputs):
            self.sums[step, block] = _relative_change(outputs[block], before).sum().cpu()
        self._outputs, self.num_rows = outputs, len(x)
        self.note_blocks(self.net.num_blocks, len(x))
        return prediction

    def held(self) -> list[Tensor]:
        """Outputs of the step before."""
        return self._outputs


class OutputRecord(PassThrough):
    """Runs a block as it is and keeps its attention output."""

    output: Tensor

    def attention(self, inner: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        """Run the attention and keep its output."""
        self.output = inner(h)
        return self.output


def _relative_change(now: Tensor, before: Tensor) -> Tensor:
    """Return ``|now - before|_1 / |now|_1`` of every row, (N,) float64."""
    moved = (now.double() - before.double()).abs().flatten(1).sum(1)
    size = now.double().abs().flatten(1).sum(1)
    return torch.where(moved == 0, 0.0, moved / size)


def mean_changes(runs: Iterable[ChangeRun]) -> Tensor:
    """Average the changes over all rows, (S, L) float64; 0 at the first step."""
    recorded = list(runs)
    total = torch.stack([run.sums for run in recorded]).sum(0)
    return total / sum(run.num_rows for run in recorded)


def plan_from_changes(changes: Tensor, threshold: float) -> Plan:
    """Recompute a block when its changes since then exceed a threshold.

    Args:
        changes: Relative L1 change against the step before, (S, L).
        threshold: The delta of the paper; 0 recomputes whatever changes.
    """
    num_steps, num_blocks = changes.shape
    plan = [[True] * num_blocks for _ in range(num_steps)]
    for block in range(num_blocks):
        added = 0.0
        for step in range(1, num_steps):
            added += float(changes[step, block])
            plan[step][block] = added > threshold
            if plan[step][block]:
                added = 0.0
    return tuple(tuple(row) for row in plan)


# ---- scale and shift ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ScaleShiftRecording:
    """Full depth; records what relates the outputs that a plan replaces to those it reuses.

    Args:
        recompute: The plan, (S, L).
    """

    recompute: Plan

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> ScaleShiftRun:
        """Start one sampling run; see :class:`schedsearch.protocols.Method`."""
        stages = staged(net, "The calibration of a cache")
        check_plan(self.recompute, len(times), stages.num_blocks)
        return ScaleShiftRun(stages, self.recompute, guided=guided)


class ScaleShiftRun(MethodRun):
    """One sampling run of :class:`ScaleShiftRecording`.

    Attributes:
        plan: The plan, (S, L).
        sums: For every reused (step, block) and channel the sums over N x T of 1, x, y, x x
            and x y, (5, D) float64; x is the cached output, y the fresh one.
    """

    def __init__(self, net: StagedBackbone, plan: Plan, *, guided: bool) -> None:
        super().__init__(net, guided=guided)
        self.plan = plan
        self.sums: dict[tuple[int, int], Tensor] = {}
        self._cached: dict[int, Tensor] = {}

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, clock: float, step: int
    ) -> Tensor:
        """Predict; see :class:`schedsearch.protocols.NetworkCall`."""
        arounds = [OutputRecord() for _ in range(self.net.num_blocks)]
        prediction = run_around(self.net, x, t, y, arounds)
        for block, around in enumerate(arounds):
            if self.plan[step][block]:
                self._cached[block] = around.output
            else:
                self.sums[step, block] = _sums(self._cached[block], around.output)
        self.note_blocks(self.net.num_blocks, len(x))
        return prediction

    def held(self) -> Iterable[Tensor]:
        """Outputs of the last steps that the plan recomputes."""
        return self._cached.values()


def _sums(cached: Tensor, fresh: Tensor) -> Tensor:
    """Return the sums of one cell, (5, D) float64 on the CPU."""
    x, y = cached.double().flatten(0, 1), fresh.double().flatten(0, 1)
    return torch.stack([term.sum(0) for term in (torch.ones_like(x), x, y, x * x, x * y)]).cpu()


def fit_scale_shift(runs: Iterable[ScaleShiftRun]) -> Tensor:
    """Fit the fresh outputs to the cached ones by least squares, per channel.

    Args:
        runs: Finished runs of one plan and one network.

    Returns:
        Scale and shift, (S, L, 2, D) float32; 1 and 0 where the plan recomputes.
    """
    recorded = list(runs)
    plan, width = recorded[0].plan, recorded[0].net.width
    fitted = torch.zeros(len(plan), len(plan[0]), 2, width)
    fitted[:, :, 0] = 1.0
    for step, block in recorded[0].sums:
        total = torch.stack([run.sums[step, block] for run in recorded]).sum(0)
        fitted[step, block] = _least_squares(total)
    return fitted


def _least_squares(sums: Tensor) -> Tensor:
    """Return scale and shift, (2, D), from the sums (5, D) of a cell."""
    mean_x, mean_y, mean_xx, mean_xy = sums[1:] / sums[0]
    variance = mean_xx - mean_x**2
    # NOTE: A channel that never varies says nothing about its scale.
    constant = variance <= 1e-12 * mean_xx
    scale = torch.where(constant, 1.0, (mean_xy - mean_x * mean_y) / variance)
    return torch.stack([scale, mean_y - scale * mean_x]).float()
