"""Plans of Block Caching and their closed-form scale and shift, from runs at full depth."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from schedsearch.methods.caches.block_cache import ScaleShift
from schedsearch.methods.run import MethodRun, staged
from schedsearch.protocols import Backbone, StagedBackbone

Plan = tuple[tuple[bool, ...], ...]
"""S steps of L blocks: whether the block computes."""


@dataclass(frozen=True, slots=True)
class BlockRecorder:
    """Runs the full network and records its attention outputs; a ``Method``.

    Args:
        plan: Also sum what :func:`fit_scale_shift` needs for this plan; None sums changes only.
    """

    plan: Plan | None = None

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> BlockRecorderRun:
        """Start one sampling run."""
        run_by = staged(net, "Block Caching's calibration")
        return BlockRecorderRun(run_by, self.plan, num_steps=len(times), guided=guided)


class BlockRecorderRun(MethodRun):
    """A run that compares every attention output with earlier ones."""

    def __init__(
        self, net: StagedBackbone, plan: Plan | None, *, num_steps: int, guided: bool
    ) -> None:
        super().__init__(net, guided=guided)
        self._plan = plan
        self._previous: dict[int, Tensor] = {}
        self._computed: dict[int, Tensor] = {}
        size = (num_steps, net.num_blocks)
        self.changes = torch.full(size, math.inf, dtype=torch.float64)
        """Relative L1 change of every attention output since the step before, (S, L)."""
        self.moments = torch.zeros(5, *size, net.width, dtype=torch.float64)
        """Sums per reused cell and channel: count, c, f, c c, c f of cached c and fresh f."""

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, clock: float, step: int
    ) -> Tensor:
        """Predict at full depth."""
        tokens = self.net.open(x, t, y)
        for block in range(self.net.num_blocks):
            tokens = self.net.run(tokens, block, _Watch(self, step, block))
        self.note_blocks(self.net.num_blocks, len(x))
        return self.net.close(tokens, self.net.num_blocks)

    def see(self, step: int, block: int, fresh: Tensor) -> None:
        """Take note of an attention output, (N, T, D)."""
        if (before := self._previous.get(block)) is not None:
            self.changes[step, block] = float((fresh - before).abs().sum() / fresh.abs().sum())
        self._previous[block] = fresh
        if self._plan is None:
            return
        if step == 0 or self._plan[step][block]:
            self._computed[block] = fresh
            return
        c, f = (value.double().flatten(0, 1) for value in (self._computed[block], fresh))
        sums = [torch.full_like(c[0], len(c)), c.sum(0), f.sum(0), c.square().sum(0)]
        self.moments[:, step, block] += torch.stack([*sums, (c * f).sum(0)]).cpu()


@dataclass(frozen=True, slots=True)
class _Watch:
    run: BlockRecorderRun
    step: int
    block: int

    def attention(self, inner: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        output = inner(h)
        self.run.see(self.step, self.block, output)
        return output

    def mlp(self, inner: Callable[[Tensor], Tensor], h: Tensor) -> Tensor:
        return inner(h)


def plan_from_changes(changes: Tensor, threshold: float) -> Plan:
    """Plan Block Caching: compute a block when its summed change would exceed the threshold.

    Args:
        changes: Relative L1 change since the step before, (S, L); row 0 is not read.
        threshold: delta of the paper (2312.03209); 0 recomputes wherever anything changes.
    """
    plan = [[True] * changes.shape[1]]
    summed = torch.zeros(changes.shape[1], dtype=torch.float64)
    for change in changes[1:]:
        summed = summed + change
        computes = summed > threshold
        summed = torch.where(computes, 0.0, summed)
        plan.append(computes.tolist())
    return tuple(tuple(row) for row in plan)


def fit_scale_shift(moments: Tensor) -> ScaleShift:
    """Fit gamma and beta of every reused cell and channel by least squares.

    Args:
        moments: Sums of :attr:`BlockRecorderRun.moments`, added up over batches.
    """
    count, c, f, cc, cf = moments
    num = count.clamp(min=1)
    mean_c, mean_f = c / num, f / num
    variance = cc / num - mean_c**2
    covariance = cf / num - mean_c * mean_f
    # NOTE: A channel that hardly varies has no slope; only its mean is shifted then.
    varies = variance > 1e-12 * (cc / num).clamp(min=1e-30)
    gamma = torch.where(varies, covariance / torch.where(varies, variance, 1.0), 1.0)
    gamma = torch.where(count > 0, gamma, 1.0)
    beta = torch.where(count > 0, mean_f - gamma * mean_c, 0.0)
    return ScaleShift(gamma=gamma.float(), beta=beta.float())
