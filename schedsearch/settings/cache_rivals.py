"""Kinds of ``rivals`` that need no training: token merging and caches."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from schedsearch.files.problems import Mistake, shown
from schedsearch.files.validation import rules
from schedsearch.settings.common import Count, Fraction, Positive
from schedsearch.settings.rival_points import (
    Decide,
    Part,
    Point,
    Threshold,
    needs_points,
    raw,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenMergingRival:
    """Merges similar tokens in some blocks: ToMe; no training."""

    kind: Literal["tome"]
    ratios: Annotated[tuple[Annotated[float, Field(ge=0, le=0.75)], ...], Field(min_length=1)]
    """Shares of the tokens that are merged."""
    blocks: str = "all"
    """``all``, or the first (F4), last (R4) or both ends' (B4) blocks."""
    merge: Annotated[tuple[Part, ...], Field(min_length=1)] = ("attention",)
    """Parts of a block that run on merged tokens."""
    random: bool = False
    """Draw the tokens that are kept, instead of the first of every cell."""

    @property
    def points(self) -> tuple[Point, ...]:
        """One row per ratio."""
        return self.ratios

    @rules
    def _rules(self) -> Iterator[Mistake]:
        found = re.fullmatch(r"([FRB])([1-9]\d*)", self.blocks)
        if self.blocks != "all" and found is None:
            yield "blocks", f"must be all, F4, R4 or B4, got {shown(self.blocks)}", None
        elif found is not None and found[1] == "B" and int(found[2]) % 2:
            reason = f"B takes an even number of blocks, half at each end, got {self.blocks}"
            yield "blocks", reason, None


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCacheRival:
    """Reuses outputs inside blocks from the step before: FORA, Block Caching; no training."""

    kind: Literal["block_cache"]
    every: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Recompute everything at every k-th step (FORA)."""
    thresholds: tuple[Threshold, ...] = ()
    """Recompute a block's attention when its summed change exceeds this (Block Caching)."""
    scale_shift: Literal["none", "closed_form"] = "none"
    """``closed_form``: correct reused outputs per channel, fitted on the calibration run."""
    calibration_samples: Count = 64
    """Images of the calibration run."""

    @property
    def points(self) -> tuple[Point, ...]:
        """One row per period and per threshold."""
        return (*self.every, *map(raw, self.thresholds))

    @rules
    def _rules(self) -> Iterator[Mistake]:
        yield from needs_points(self.points, "every: [2] or thresholds: [0.3]")
        if self.scale_shift != "none" and self.every:
            reason = "scale and shift are fitted for plans of thresholds, but every is given"
            yield "scale_shift", reason, "move every to another entry"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterRival:
    """Learns which attentions and MLPs every second step reuses: Learning-to-Cache."""

    kind: Literal["router"]
    penalties: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Prices of a part that runs, in the loss. A higher price reuses more."""
    iterations: Count = 400
    """Optimizer steps of the router; the network stays as it is."""
    batch_size: Count = 32
    """Images of a step."""
    lr: Positive = 0.05
    """Learning rate of Adam."""
    calibration_samples: Count = 64
    """Images whose sampling runs train the router."""

    @property
    def points(self) -> tuple[Point, ...]:
        """One row per price."""
        return self.penalties


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualCacheRival:
    """Reuses what the later blocks add: DeepCache-like, FBCache, TeaCache; no training."""

    kind: Literal["residual_cache"]
    signal: Literal["steps", "residual", "input"]
    """What decides: the step's number, the first blocks' change (FBCache), or the change of the
    network's input (TeaCache)."""
    first: Annotated[int, Field(ge=0)] = 1
    """Blocks in front that always run."""
    every: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """``steps`` only: recompute at every k-th step."""
    targets: tuple[Fraction, ...] = ()
    """Shares of full depth's latency to calibrate thresholds for."""
    thresholds: tuple[Threshold, ...] = ()
    """Thresholds as they are, after the targets."""
    warmup: Count = 1
    """Steps at the start that always compute."""
    decide: Decide = "batch"
    """Whether the batch decides by its mean, or every image by itself."""
    rescale: Literal["identity", "poly4"] = "identity"
    """``input`` only: ``poly4`` fits TeaCache's polynomial on the calibration run."""
    calibration_samples: Count = 64
    """Images of the calibration run."""

    @property
    def points(self) -> tuple[Point, ...]:
        """One row per period, target and threshold."""
        return (*self.every, *self.targets, *map(raw, self.thresholds))

    @rules
    def _rules(self) -> Iterator[Mistake]:
        yield from needs_points(self.points, "targets: [0.75], or every: [2] for signal: steps")
        if (self.signal == "steps") != bool(self.every) or (
            self.every and (self.targets or self.thresholds)
        ):
            reason = "signal: steps takes every, the other signals take targets or thresholds"
            yield "signal", reason, None
        if self.rescale != "identity" and self.signal != "input":
            reason = f"rescales the signal input, but signal is {self.signal}"
            yield "rescale", reason, "remove the key"
        if self.signal == "residual" and self.first == 0:
            reason = "the signal residual is what the first blocks add, but first is 0"
            yield "first", reason, "set it to 1 or more"
