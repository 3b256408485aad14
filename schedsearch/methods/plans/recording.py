"""Calibration of plans: full-depth runs that gather what fits and errors need.

Both recordings run the unmodified network, so their samples are those of full depth. They hold
the residuals of the last steps only; what grows with the images is summed up.

Shapes: S steps, L blocks, A ages, M image tokens of a batch, D width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from schedsearch.backbones.guidance import guide
from schedsearch.methods.plans.maps import adapted, diagonal_sums, map_sums, reused
from schedsearch.methods.run import MethodRun, staged
from schedsearch.protocols import Backbone, StagedBackbone
from schedsearch.tokens import Tokens

Cell = tuple[int, int, int]
"""Step, prefix, and age of the residual: steps since it was cached, at least 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What the calibration looks at."""

    prefixes: tuple[int, ...]
    """Blocks f that a reused step may run, ascending."""
    exits: tuple[int, ...]
    """Blocks after which a step may exit."""
    max_age: int

    @classmethod
    def of(cls, net: StagedBackbone, max_age: int, *, max_prefixes: int = 16) -> Layout:
        """All prefixes and exits of a small network, evenly spaced ones of a large one."""
        first_exit = max(1, net.num_blocks - net.num_exit_blocks)
        return cls(
            prefixes=_spaced(0, net.num_blocks - 1, max_prefixes),
            exits=_spaced(first_exit, net.num_blocks - 1, max_prefixes),
            max_age=max_age,
        )


def _spaced(low: int, high: int, limit: int) -> tuple[int, ...]:
    count = min(limit, high - low + 1)
    if count < 2:
        return (low,) * count
    return tuple(round(low + i * (high - low) / (count - 1)) for i in range(count))


class _FullRun(MethodRun):
    """Runs all blocks, and offers the tokens before and after them."""

    def __init__(self, net: StagedBackbone, layout: Layout, *, guided: bool) -> None:
        super().__init__(net, guided=guided)
        self.layout = layout
        self._residuals: deque[dict[int, Tensor]] = deque(maxlen=layout.max_age)

    def held(self) -> Iterable[Tensor]:
        """Residuals of the last steps."""
        return (tensor for step in self._residuals for tensor in step.values())

    def __call__(
        self, x: Tensor, t: Tensor, y: Tensor | None, *, clock: float, step: int
    ) -> Tensor:
        """Predict; see :class:`schedsearch.protocols.NetworkCall`."""
        tokens, stops = self.net.open(x, t, y), {*self.layout.prefixes, *self.layout.exits}
        before: dict[int, Tokens] = {}
        for block in range(self.net.num_blocks):
            if block in stops:
                before[block] = tokens
            tokens = self.net.run(tokens, block)
        output = self.net.close(tokens, self.net.num_blocks)
        self.look(step, before, tokens, output)
        self._residuals.appendleft({f: tokens.h - before[f].h for f in self.layout.prefixes})
        self.note_blocks(self.net.num_blocks, len(x))
        return output

    @abstractmethod
    def look(self, step: int, before: Mapping[int, Tokens], after: Tokens, output: Tensor) -> None:
        """Gather from one step; the residuals are those of earlier steps."""

    def cached(self, prefix: int) -> list[tuple[int, Tensor]]:
        """Ages and residuals of a prefix, youngest first."""
        return [(age, kept[prefix]) for age, kept in enumerate(self._residuals, start=1)]

    def flat(self, h: Tensor) -> Tensor:
        """Tokens of the image alone, (M, D)."""
        return h[:, self.net.num_extras :].flatten(0, 1)


# ---- fits ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FitRecording:
    """Full depth; sums up what fits per channel and adapters need.

    Args:
        layout: What to look at.
        maps: Cells for which a linear map is to be fitted too.
        simple: Whether to gather for fits per channel and for adapters.
    """

    layout: Layout
    maps: frozenset[Cell] = frozenset()
    simple: bool = True

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> FitRun:
        """Start one sampling run; see :class:`schedsearch.protocols.Method`."""
        return FitRun(staged(net, "The calibration of plans"), self, guided=guided)


class FitRun(_FullRun):
    """One sampling run of :class:`FitRecording`.

    Attributes:
        diagonal: Sums per cell, (9, D).
        maps: Sums per cell, (2D + 1, 3D + 1).
        adapters: Sums per exit over all steps, (D + 1, 2D + 1).
    """

    def __init__(self, net: StagedBackbone, recording: FitRecording, *, guided: bool) -> None:
        super().__init__(net, recording.layout, guided=guided)
        self._wanted: Collection[Cell] = recording.maps
        self._simple = recording.simple
        self.diagonal: dict[Cell, Tensor] = {}
        self.maps: dict[Cell, Tensor] = {}
        self.adapters: dict[int, Tensor] = {}

    def look(self, step: int, before: Mapping[int, Tokens], after: Tokens, output: Tensor) -> None:
        """Add to the sums of this step's cells."""
        full = self.flat(after.h)
        for prefix in self.layout.prefixes:
            h = self.flat(before[prefix].h)
            for age, kept in self.cached(prefix):
                cell, residual = (step, prefix, age), self.flat(kept)
                if self._simple:
                    self.diagonal[cell] = diagonal_sums(h, residual, full)
                if cell in self._wanted:
                    inputs = torch.cat([h, residual], dim=1)
                    self.maps[cell] = map_sums(inputs, full - h - residual)
        if not self._simple:
            return
        for depth in self.layout.exits:
            h = self.flat(before[depth].h)
            sums = map_sums(h, full - h)
            self.adapters[depth] = self.adapters.get(depth, 0) + sums


# ---- errors -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRecording:
    """Full depth; measures what every reuse and exit would have predicted instead.

    Args:
        layout: What to look at.
        reuse: Fitted numbers by cell; None measures plain reuse of every cell.
        adapters: Fitted numbers by exit; None measures plain exits.
        cfg_scale: Scale of classifier-free guidance.
        cfg_channels: Number of guided channels; None guides all.
        channels: Channels of the image; a learned variance does not count.
    """

    layout: Layout
    reuse: Mapping[Cell, Tensor] | None = None
    adapters: Mapping[int, Tensor] | None = None
    cfg_scale: float = 1.0
    cfg_channels: int | None = None
    channels: int

    def begin(self, net: Backbone, times: Sequence[float], *, guided: bool) -> ErrorRun:
        """Start one sampling run; see :class:`schedsearch.protocols.Method`."""
        return ErrorRun(staged(net, "The calibration of plans"), self, guided=guided)


class ErrorRun(_FullRun):
    """One sampling run of :class:`ErrorRecording`.

    Attributes:
        reuse: Squared error of the guided prediction per cell, summed over images.
        exits: The same per (step, exit).
        num_images: Images of the batch.
    """

    def __init__(self, net: StagedBackbone, recording: ErrorRecording, *, guided: bool) -> None:
        super().__init__(net, recording.layout, guided=guided)
        self._recording = recording
        self.reuse: dict[Cell, float] = {}
        self.exits: dict[tuple[int, int], float] = {}
        self.num_images = 0

    def look(self, step: int, before: Mapping[int, Tokens], after: Tokens, output: Tensor) -> None:
        """Measure every cell and exit of this step."""
        self.num_images = len(output) // (2 if self.guided else 1)
        reuse, adapters = self._recording.reuse, self._recording.adapters
        for prefix in self.layout.prefixes:
            tokens = before[prefix]
            for age, residual in self.cached(prefix):
                cell = (step, prefix, age)
                if reuse is not None and cell not in reuse:
                    continue
                numbers = None if reuse is None else reuse[cell].to(tokens.h)
                h = reused(tokens.h, residual, numbers)
                self.reuse[cell] = self._error(self._head(after, h), output)
        for depth in self.layout.exits:
            if adapters is None:
                found = self.net.close(before[depth], depth)
            elif depth in adapters:
                h = adapted(before[depth].h, adapters[depth].to(before[depth].h))
                found = self._head(after, h)
            else:
                continue
            self.exits[step, depth] = self._error(found, output)

    def _head(self, after: Tokens, h: Tensor) -> Tensor:
        return self.net.close(replace(after, h=h, skips=()), self.net.num_blocks, "all")

    def _error(self, found: Tensor, wanted: Tensor) -> float:
        """Mean squared error of the guided prediction, summed over images."""
        difference = self.difference(found, wanted)
        return float(difference.double().square().flatten(1).mean(1).sum())

    def difference(self, found: Tensor, wanted: Tensor) -> Tensor:
        """Difference of two guided predictions, (N, C, H, W)."""
        recording = self._recording
        difference = found[:, : recording.channels] - wanted[:, : recording.channels]
        if not self.guided:
            return difference
        return guide(difference, recording.cfg_scale, recording.cfg_channels)
