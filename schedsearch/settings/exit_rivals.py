"""Kinds of ``rivals`` that leave the network early, or call it less often."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from schedsearch.files.problems import Mistake
from schedsearch.files.validation import rules
from schedsearch.settings.common import Count, Fraction
from schedsearch.settings.rival_points import (
    Decide,
    Depths,
    ExitLayers,
    Point,
    Threshold,
    needs_points,
    raw,
)


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
    """Network calls per image."""

    @property
    def points(self) -> tuple[Point, ...]:
        """One row per number of steps."""
        return self.num_steps


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedStepsRival:
    """Fewer steps with coefficients fitted to the full run; deterministic solvers, no training."""

    kind: Literal["fitted_steps"]
    num_steps: Annotated[tuple[Count, ...], Field(min_length=1)]
    """Network calls per image, at the full run's times, evenly spaced."""
    calibration_samples: Count = 96
    """Images of the calibration run."""

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
    """U-ViT: exits in the decoder, as in ASE, or after ``all`` blocks, as in DeeDiff.
    No schedule exits in the encoder, so ``all`` has no static twin."""
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
        yield from needs_points(self.points, "targets: [0.75]")


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
    """U-ViT: exits in the decoder, or after ``all`` blocks; ``all`` has no static twin."""
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
        yield from needs_points(self.points, "targets: [0.75]")
