"""The section ``rivals``: other ways to save compute, measured beside the schedules.

One entry with one operating point is one row of the comparison. ``targets`` are shares of full
depth's latency; a threshold that meets them is found by calibration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from schedsearch.files.problems import Mistake, shown
from schedsearch.files.validation import rules
from schedsearch.settings.common import Count, Fraction

Depths = tuple[Annotated[int, Field(ge=0)], ...]
Threshold = Annotated[float, Field(ge=0)]
Decide = Literal["sample", "batch"]
ExitLayers = Literal["decoder", "all"]
Part = Literal["attention", "mlp"]

Point = str | int | float
"""One operating point of an entry: a target, a threshold, a ratio, a schedule, ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleRival:
    """Exit schedules, each fine-tuned by the space's trainer and recipe, as a trial is."""

    kind: Literal["schedule"]
    schedules: Annotated[tuple[str | Depths, ...], Field(min_length=1)]
    """``flat-7`` (seven blocks at every time), ``full``, presets, or lists of depths."""
    weights: str | None = None
    """Name of another entry whose network they use as it is; null fine-tunes each."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Keys of ``recipe`` that differ from the space's."""

    @property
    def points(self) -> tuple[Point, ...]:
        """One row per schedule."""
        return tuple(s if isinstance(s, str) else " ".join(map(str, s)) for s in self.schedules)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsRival:
    """Full depth with fewer solver steps; no training."""

    kind: Literal["steps"]
    num_steps: Annotated[tuple[Count, ...], Field(min_length=1)]

    @property
    def points(self) -> tuple[Point, ...]:
        """One row per number of steps."""
        return self.num_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class UncertaintyRival:
    """Exits where a trained module is certain enough: DeeDiff, BERxiT."""

    kind: Literal["uncertainty"]
    trainer: str
    """Import string of the class that trains network and module together."""
    targets: tuple[Fraction, ...] = ()
    """Shares of full depth's latency to calibrate thresholds for."""
    thresholds: tuple[Threshold, ...] = ()
    """Thresholds as they are, after the targets."""
    decide: Decide = "sample"
    """``sample``: every image exits by itself. ``batch``: the batch exits by its mean."""
    pair: Literal["pair", "separate"] = "pair"
    """With guidance: whether the two rows of an image decide together."""
    exits: ExitLayers = "decoder"
    """U-ViT: exits in the decoder, as in ASE, or after ``all`` blocks, as in DeeDiff."""
    variant: Literal["paper", "code"] = "paper"
    """DeeDiff by its paper, or by its published code."""
    patience: Literal[0, 1] = 0
    """1: exit only if the block before was certain too."""
    shared: bool = False
    """One module for all exits (BERxiT) instead of one per exit."""
    time: bool = True
    """Whether the module sees the time embedding (DeeDiff, Eq. 8)."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Keys of ``recipe`` that differ from the space's."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Options of the trainer."""

    @property
    def points(self) -> tuple[Point, ...]:
        """One row per target and per threshold."""
        return (*self.targets, *map(raw, self.thresholds))

    @rules
    def _rules(self) -> Iterator[Mistake]:
        yield from _needs_points(self.points, "targets: [0.75]")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarityRival:
    """Exits where a block changes the tokens little: CALM."""

    kind: Literal["similarity"]
    trainer: str
    """Import string of the class that trains the exits."""
    targets: tuple[Fraction, ...] = ()
    """Shares of full depth's latency to calibrate thresholds for."""
    thresholds: tuple[Threshold, ...] = ()
    """Thresholds as they are, after the targets."""
    decide: Decide = "sample"
    """``sample``: every image exits by itself. ``batch``: the batch exits by its mean."""
    pair: Literal["pair", "separate"] = "pair"
    """With guidance: whether the two rows of an image decide together."""
    exits: ExitLayers = "decoder"
    """U-ViT: exits in the decoder, or after ``all`` blocks."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Keys of ``recipe`` that differ from the space's."""
    extra: Mapping[str, Any] = field(default_factory=dict)
    """Options of the trainer."""

    @property
    def points(self) -> tuple[Point, ...]:
        """One row per target and per threshold."""
        return (*self.targets, *map(raw, self.thresholds))

    @rules
    def _rules(self) -> Iterator[Mistake]:
        yield from _needs_points(self.points, "targets: [0.75]")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenMergingRival:
    """Merges similar tokens in some blocks: ToMe; no training."""

    kind: Literal["tome"]
    ratios: Annotated[tuple[Annotated[float, Field(ge=0, le=0.75)], ...], Field(min_length=1)]
    """Shares of the tokens that are merged."""
    blocks: Annotated[str, Field(pattern=r"^(all|[FRB][1-9]\d*)$")] = "all"
    """``all``, or the first (F4), last (R4) or both ends' (B4) blocks."""
    merge: Annotated[tuple[Part, ...], Field(min_length=1)] = ("attention",)
    """Parts of a block that run on merged tokens."""
    random: bool = False
    """Draw the tokens that are kept, instead of the first of every cell."""

    @property
    def points(self) -> tuple[Point, ...]:
        """One row per ratio."""
        return self.ratios


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
        yield from _needs_points(self.points, "every: [2] or thresholds: [0.3]")
        if self.scale_shift != "none" and self.every:
            reason = "scale and shift are fitted for plans of thresholds, but every is given"
            yield "scale_shift", reason, "move every to an entry of its own"


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
        yield from _needs_points(self.points, "targets: [0.75], or every: [2] for signal: steps")
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


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunedRival:
    """A smaller network cut out of the pretrained one, then fine-tuned at full depth."""

    kind: Literal["pruned"]
    depth: tuple[Count, ...] = ()
    """Blocks that stay; of a U-ViT, blocks of the encoder, whose decoder partners stay too."""
    width: tuple[Fraction, ...] = ()
    """Shares of heads and MLP units that stay (S-Pruning)."""
    choose: Literal["uniform", "bi", "greedy"] = "bi"
    """Which blocks go: evenly spaced, least influence, or least loss by the error table."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Keys of ``recipe`` that differ from the space's."""
    calibration_samples: Count = 64
    """Images that choose the blocks."""

    @property
    def points(self) -> tuple[Point, ...]:
        """One row per depth and per width."""
        return (*self.depth, *self.width)

    @rules
    def _rules(self) -> Iterator[Mistake]:
        yield from _needs_points(self.points, "depth: [8] or width: [0.8]")


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallRival:
    """A smaller network of the same family, trained from scratch."""

    kind: Literal["small"]
    depth: Annotated[tuple[Count, ...], Field(min_length=1)]
    """Blocks of the network, the backbone's argument ``depth``."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Keys of ``recipe`` that differ from the space's; ``num_steps`` of a pretraining."""

    @property
    def points(self) -> tuple[Point, ...]:
        """One row per depth."""
        return self.depth


@dataclass(frozen=True, slots=True, kw_only=True)
class StitchRival:
    """A small network for the first steps, the backbone for the rest: T-Stitch."""

    kind: Literal["stitch"]
    small: str
    """The row whose network is the small one, such as ``pruned-8``."""
    shares: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=1)]
    """Shares of the steps, from the noise, that the small network takes."""

    @property
    def points(self) -> tuple[Point, ...]:
        """One row per share."""
        return self.shares


RivalSettings = (
    ScheduleRival
    | StepsRival
    | UncertaintyRival
    | SimilarityRival
    | TokenMergingRival
    | BlockCacheRival
    | ResidualCacheRival
    | PrunedRival
    | SmallRival
    | StitchRival
)

RIVAL_KINDS: Mapping[str, type[RivalSettings]] = {
    "schedule": ScheduleRival,
    "steps": StepsRival,
    "uncertainty": UncertaintyRival,
    "similarity": SimilarityRival,
    "tome": TokenMergingRival,
    "block_cache": BlockCacheRival,
    "residual_cache": ResidualCacheRival,
    "pruned": PrunedRival,
    "small": SmallRival,
    "stitch": StitchRival,
}


def raw(threshold: float) -> str:
    """The name of a point that is a threshold, not a target."""
    return f"t{threshold:g}"


def _needs_points(points: tuple[Point, ...], example: str) -> Iterator[Mistake]:
    if not points:
        yield "", "has no operating point", f"add one, for example {example}"
    if len(set(points)) < len(points):
        yield "", f"names an operating point twice: {shown(list(points))}", "remove one"
