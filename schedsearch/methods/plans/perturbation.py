"""Full-depth runs that disturb one step by the error of plain reuse there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from schedsearch.backbones.guidance import guide
from schedsearch.methods.run import MethodRun, staged
from schedsearch.protocols import Backbone, StagedBackbone


@dataclass(frozen=True, slots=True)
class OutputRecording:
    """Full depth; keeps every prediction, and what reuse without blocks would miss.

    It keeps all predictions of a batch, so batches should be small.
    """

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> OutputRun:
        """Start one sampling run; see :class:`schedsearch.protocols.Method`."""
        return OutputRun(staged(net, "The calibration of plans"), guided=guided)


class OutputRun(MethodRun):
    """One sampling run of :class:`OutputRecording`.

    Attributes:
        outputs: Predictions by step, (N, C, H, W).
        misses: Predictions with the residual of the step before, minus ``outputs``; zero at
            the first step.
    """

    def __init__(self, net: StagedBackbone, *, guided: bool) -> None:
        super().__init__(net, guided=guided)
        self.outputs: list[Tensor] = []
        self.misses: list[Tensor] = []
        self._residual: Tensor | None = None

    def held(self) -> list[Tensor]:
        """All predictions and misses, and the residual of the last step."""
        kept = [] if self._residual is None else [self._residual]
        return [*self.outputs, *self.misses, *kept]

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, clock: float, step: int
    ) -> Tensor:
        """Predict; see :class:`schedsearch.protocols.NetworkCall`."""
        tokens = opened = self.net.open(x, t, y)
        for block in range(self.net.num_blocks):
            tokens = self.net.run(tokens, block)
        output = self.net.close(tokens, self.net.num_blocks)
        miss = torch.zeros_like(output)
        if self._residual is not None:
            reused = tokens.with_h(opened.h + self._residual)
            miss = self.net.close(reused, self.net.num_blocks, "all") - output
        self._residual = tokens.h - opened.h
        self.outputs.append(output)
        self.misses.append(miss)
        self.note_blocks(self.net.num_blocks, len(x))
        return output


@dataclass(frozen=True, slots=True, eq=False)
class Disturbed:
    """Repeats a recorded batch up to a step, disturbs that step, and runs the others.

    Args:
        recorded: The run of the same batch.
        step: The step that gets the error of reuse.
    """

    recorded: OutputRun
    step: int

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> DisturbedRun:
        """Start one sampling run; see :class:`schedsearch.protocols.Method`."""
        return DisturbedRun(staged(net, "The calibration of plans"), self, guided=guided)


class DisturbedRun(MethodRun):
    """One sampling run of :class:`Disturbed`."""

    def __init__(self, net: StagedBackbone, disturbed: Disturbed, *, guided: bool) -> None:
        super().__init__(net, guided=guided)
        self._disturbed = disturbed

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, clock: float, step: int
    ) -> Tensor:
        """Predict; see :class:`schedsearch.protocols.NetworkCall`."""
        recorded, disturbed = self._disturbed.recorded, self._disturbed.step
        self.note_blocks(0 if step <= disturbed else self.net.num_blocks, len(x))
        if step < disturbed:
            return recorded.outputs[step]
        if step == disturbed:
            return recorded.outputs[step] + recorded.misses[step]
        output: Tensor = self.net(x, t, y, exit_depth=self.net.num_exit_blocks)
        return output


def miss_size(
    run: OutputRun, step: int, channels: int, cfg_scale: float, cfg_channels: int | None = None
) -> Tensor:
    """Mean square of the guided miss of every image, (N,) float64 on the CPU."""
    miss = run.misses[step][:, :channels].double()
    if run.guided:
        miss = guide(miss, cfg_scale, cfg_channels)
    return miss.square().flatten(1).mean(1).cpu()
